"""The command line as a whole: quick to ask, and one line for an error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mindsight import __version__
from mindsight.cli import app

HEAVY = (
    "numpy",
    "pydantic",
    "httpx",
    "websockets",
    "pydicom",
    "torch",
    "scipy",
    "numba",
    "nibabel",
    "mindsight.client",
)


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_imports_nothing_that_a_command_needs(tmp_path: Path) -> None:
    code = f"""
import sys
from mindsight.cli import main
try:
    main()
finally:
    print("loaded:", [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = run("-c", code, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"
    for command in ("stream", "inspect", "calibrate", "pool", "convert", "evaluate"):
        assert f" {command} " in done.stdout


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    done = run("-m", "mindsight.cli", "version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{__version__}\n"


@pytest.mark.parametrize(
    "module",
    [
        "mindsight.cli doctor",
        "service",
        "mindsight.bus",
        pytest.param("mindsight.cli ingest", marks=pytest.mark.slow),
        pytest.param("workers.jobs.archive ses-1", marks=pytest.mark.slow),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(module: str, tmp_path: Path) -> None:
    done = run("-m", *module.split(), cwd=tmp_path, MINDSIGHT_PORT="none")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "expected a valid MINDSIGHT_PORT, got 'none'" in done.stderr
    assert done.stdout == ""


def test_every_option_and_argument_of_every_command_has_a_help_text() -> None:
    def commands(group: object) -> list[object]:
        found = list(getattr(group, "commands", {}).values())
        return found + [inner for one in found for inner in commands(one)]

    for command in commands(typer.main.get_command(app)):
        assert command.help, command.name  # type: ignore[attr-defined]
        for parameter in command.params:  # type: ignore[attr-defined]
            assert getattr(parameter, "help", None), (command.name, parameter.name)  # type: ignore[attr-defined]
