"""The units are valid, start what exists and keep the service apart from the rest of the machine."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mindsight.settings import Settings

UNITS = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
MINDSIGHT = Path(sys.executable).with_name("mindsight")
NAMES = sorted(path.name for path in UNITS.glob("*.service"))


def unit(name: str) -> configparser.ConfigParser:
    read = configparser.ConfigParser(interpolation=None, strict=False)
    read.optionxform = str  # type: ignore[assignment, method-assign]
    read.read(UNITS / name)
    return read


@pytest.mark.parametrize("name", NAMES)
def test_it_is_restarted_as_a_user_of_its_own_that_can_write_its_folder_only(name: str) -> None:
    service = unit(name)["Service"]
    assert service["Restart"] == "always"
    assert (service["User"], service["StateDirectory"], service["UMask"]) == ("mindsight", "mindsight", "0077")
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == "yes"
    assert "MINDSIGHT_DATA_DIR=/var/lib/mindsight" in service["Environment"]


@pytest.mark.parametrize("command", ["serve", "ingest", "infer", "work"])
def test_the_commands_that_units_start_exist(command: str) -> None:
    done = subprocess.run([str(MINDSIGHT), command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_settings_in_the_example_exist() -> None:
    names = re.findall(r"^# MINDSIGHT_([A-Z_]+)=", (UNITS / "mindsight.env").read_text(), re.MULTILINE)
    assert names
    assert {name.lower() for name in names} <= set(Settings.model_fields)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("name", NAMES)
def test_systemd_finds_no_fault(name: str, tmp_path: Path) -> None:
    copy = tmp_path / name.replace("@", "@ingest")
    copy.write_text((UNITS / name).read_text().replace("/opt/mindsight/bin/mindsight", str(MINDSIGHT)))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True)
    faults = [line for line in done.stderr.splitlines() if copy.name in line or "mindsight" in line.lower()]
    assert (done.returncode, faults) == (0, []), done.stderr
