"""Every command in one walk: help, an example that is a right command line, exit codes, JSON where it has a result."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mindsight.cli.main import app

NO_RESULT = {
    *("demo", "serve", "ingest", "infer", "work", "init", "calibrate", "train distil", "train pretrain"),
    *("key revoke", "subject consent", "subject erase", "job watch", "job cancel", "job resume", "pool send"),
    "pool reduce",
}
"""Commands that run on, or whose result is a file or another state: they print what they do."""


def leaves(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


ROOT = typer.main.get_command(app)
COMMANDS = dict(leaves(ROOT))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command(name: str) -> None:
    command = COMMANDS[name]
    runner = CliRunner()
    shown = runner.invoke(app, [*name.split(), "--help"])
    assert shown.exit_code == 0
    assert "mindsight" in shown.stdout
    assert command.help
    options = {option for parameter in command.params for option in parameter.opts}
    assert ("--json" in options) is (name not in NO_RESULT)

    examples = [line for line in (command.epilog or "").splitlines() if "mindsight" in line]
    assert examples, "expected an example in its help"
    for line in examples:
        words = [word for word in shlex.split(line) if not re.fullmatch(r"MINDSIGHT_\w+=.*", word)]
        assert words[: 1 + len(name.split())] == ["mindsight", *name.split()]
        command.make_context(name, words[1 + len(name.split()) :])  # raises for a wrong command line

    if name != "calibrate":  # its arguments are passed on
        assert runner.invoke(app, [*name.split(), "--no-such-option"]).exit_code == 2


def test_the_version_and_completion_are_options_of_the_whole() -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["--version"]).stdout == runner.invoke(app, ["version"]).stdout
    assert json.loads(runner.invoke(app, ["version", "--json"]).stdout).keys() == {"version"}
    assert "--install-completion" in runner.invoke(app, ["--help"]).stdout


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mindsight.cli", *arguments],
        env={name: value for name, value in os.environ.items() if name != "MINDSIGHT_KEY"} | environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_what_is_wrong_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    refused = run("session", "list", "--to", "http://127.0.0.1:1", cwd=tmp_path)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "set MINDSIGHT_KEY" in refused.stderr

    misspelt = run("key", "list", cwd=tmp_path, MINDSIGHT_DATADIR="/elsewhere")
    assert (misspelt.returncode, misspelt.stderr.count("\n")) == (1, 1)
    assert "did you mean MINDSIGHT_DATA_DIR?" in misspelt.stderr

    (tmp_path / "file").write_text("")
    no_folder = run("key", "new", "viewer", cwd=tmp_path, MINDSIGHT_DATA_DIR=str(tmp_path / "file" / "data"))
    assert (no_folder.returncode, no_folder.stderr.count("\n")) == (1, 1), no_folder.stderr


def test_ctrl_c_ends_a_command_with_130_and_without_a_traceback(tmp_path: Path) -> None:
    """While it waits for a gateway that does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "mindsight.cli", "session", "list", "--to", address, "--key", "ms_x"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        silent.settimeout(60)
        asked, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
        asked.close()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in error


def test_init_writes_every_setting_and_what_it_writes_is_read(tmp_path: Path) -> None:
    from mindsight.settings import Settings

    done = run("init", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "mindsight.env"
    text = file.read_text()
    for name in Settings.model_fields:
        assert f"#MINDSIGHT_{name.upper()}=" in text
    assert run("init", cwd=tmp_path).returncode == 1  # it is never overwritten

    file.write_text(text.replace("#MINDSIGHT_DATA_DIR=mindsight-data", "MINDSIGHT_DATA_DIR=elsewhere"))
    assert run("key", "new", "viewer", cwd=tmp_path).returncode == 0
    assert (tmp_path / "elsewhere" / "keys.json").exists()
    file.write_text("MINDSIGHT_DATADIR=elsewhere\n")
    wrong = run("key", "list", cwd=tmp_path)
    assert wrong.returncode == 1
    assert "MINDSIGHT_DATADIR in mindsight.env: did you mean MINDSIGHT_DATA_DIR?" in wrong.stderr
