"""Every command in one walk: help, an example that is a right command line, exit codes, JSON where it has a result."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import mindsight.cli
from mindsight.cli.main import app, main
from mindsight.settings import Settings

Run = Callable[..., tuple[int, str, str]]

NO_RESULT = {
    *("demo", "serve", "ingest", "infer", "work", "init", "calibrate", "train distil", "train pretrain"),
    *(
        "key revoke",
        "subject consent",
        "subject erase",
        "session erase",
        "job watch",
        "job cancel",
        "job resume",
        "pool send",
    ),
    "pool reduce",
}
"""Commands that run on, or whose result is a file or another state: they print what they do."""


GOES_ON = {"stream", "replay", "backup"}
"""Commands that go on to their end where something is missing, and end with 3."""


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
    assert command.help
    options = {option for parameter in command.params for option in parameter.opts}
    assert ("--json" in options) is (name not in NO_RESULT)

    examples = [line for line in (command.epilog or "").splitlines() if "mindsight" in line]
    assert examples, "expected an example in its help"
    for line in examples:
        words = [word for word in shlex.split(line) if not re.fullmatch(r"MINDSIGHT_\w+=.*", word)]
        assert words[: 1 + len(name.split())] == ["mindsight", *name.split()]
        command.make_context(name, words[1 + len(name.split()) :])  # raises for a wrong command line

    codes = [line for line in (command.epilog or "").splitlines() if line.startswith("Exit codes: ")]
    assert len(codes) == 1
    assert re.findall(r"(?:: |; )(\d+) ", codes[0]) == ["0", "1", "2", *(["3"] if name in GOES_ON else []), "130"]

    if name != "calibrate":  # its arguments are passed on
        with pytest.raises(Exception, match="No such option") as wrong:
            command.make_context(name, ["--no-such-option"])
        assert getattr(wrong.value, "exit_code", None) == 2


@pytest.mark.parametrize("name", ["session open", "calibrate", "doctor"])
def test_help_is_printed_with_its_example(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split(), "--help"])
    assert shown.exit_code == 0
    assert f"mindsight {name}" in shown.stdout
    assert "Exit codes: 0 " in shown.stdout
    if name != "calibrate":
        assert CliRunner().invoke(app, [*name.split(), "--no-such-option"]).exit_code == 2


def test_the_version_and_completion_are_options_of_the_whole() -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["--version"]).stdout == runner.invoke(app, ["version"]).stdout
    assert json.loads(runner.invoke(app, ["version", "--json"]).stdout).keys() == {"version"}
    assert "--install-completion" in runner.invoke(app, ["--help"]).stdout


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The console script in an empty folder, in this process: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINDSIGHT_KEY", raising=False)

    def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            patched.setattr(sys, "argv", ["mindsight", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def test_what_is_wrong_is_one_line(run: Run, tmp_path: Path) -> None:
    code, _, error = run("session", "list", "--to", "http://127.0.0.1:1")
    assert (code, error.count("\n")) == (1, 1)
    assert "set MINDSIGHT_KEY" in error

    code, _, error = run("key", "list", MINDSIGHT_DATADIR="/elsewhere")
    assert (code, error.count("\n")) == (1, 1)
    assert "did you mean MINDSIGHT_DATA_DIR?" in error

    (tmp_path / "file").write_text("")
    code, _, error = run("key", "new", "viewer", MINDSIGHT_DATA_DIR=str(tmp_path / "file" / "data"))
    assert (code, error.count("\n")) == (1, 1), error


def test_what_a_command_writes_is_for_its_user_alone(tmp_path: Path) -> None:
    """Whatever the shell's umask is; the first command makes the data folder."""
    for arguments in (["key", "new", "viewer"], ["init"]):
        command = [sys.executable, "-m", "mindsight.cli", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, umask=0o022)
    written = list(tmp_path.rglob("*"))
    assert {path.name for path in written} >= {"mindsight-data", "keys.json", "mindsight.env"}
    assert [path for path in written if path.stat().st_mode & 0o077] == []


def heeds_ctrl_c() -> None:
    """As from a terminal: what a shell starts in the background ignores it, and so do its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_ctrl_c_ends_a_command_with_130_and_without_a_traceback(tmp_path: Path) -> None:
    """While it waits for a gateway that does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "mindsight.cli", "session", "list", "--to", address, "--key", "ms_x"]
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heeds_ctrl_c
        )
        silent.settimeout(60)
        asked, _ = silent.accept()
        assert asked.recv(1)  # it has asked, and waits
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
        asked.close()
    assert (process.returncode, out) == (130, ""), error
    assert "Traceback" not in error


def test_init_writes_every_setting_and_what_it_writes_is_read(run: Run, tmp_path: Path) -> None:
    assert run("init")[0] == 0
    file = tmp_path / "mindsight.env"
    text = file.read_text()
    for name in Settings.model_fields:
        assert f"#MINDSIGHT_{name.upper()}=" in text
    assert run("init")[0] == 1  # it is never overwritten

    file.write_text(text.replace("#MINDSIGHT_DATA_DIR=mindsight-data", "MINDSIGHT_DATA_DIR=elsewhere"))
    assert run("key", "new", "viewer")[0] == 0
    assert (tmp_path / "elsewhere" / "keys.json").exists()
    file.write_text("MINDSIGHT_DATADIR=elsewhere\n")
    code, _, error = run("key", "list")
    assert code == 1
    assert "MINDSIGHT_DATADIR in mindsight.env: did you mean MINDSIGHT_DATA_DIR?" in error


def test_no_other_command_ends_with_3() -> None:
    ends = {path.stem for path in Path(mindsight.cli.__file__).parent.glob("*.py") if "Exit(LOST)" in path.read_text()}
    assert ends == GOES_ON


RUNS_ON = {"demo", "serve", "ingest", "infer", "work", "calibrate", "train distil", "train pretrain"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - RUNS_ON))
def test_an_example_in_an_empty_folder_ends_with_0_or_with_1_and_one_line(name: str, run: Run) -> None:
    """Nothing is there: no service, no key, no file that it names."""
    example = next(line for line in (COMMANDS[name].epilog or "").splitlines() if "mindsight " in line)
    words = [word for word in shlex.split(example) if not re.fullmatch(r"MINDSIGHT_\w+=.*", word)]
    code, _, error = run(*words[1:], MINDSIGHT_KEY="")
    assert code in (0, 1), error
    if code == 1 and name not in ("doctor", "inspect"):  # whose findings are their result
        *before, last = error.splitlines()  # its progress, before it failed
        assert last.startswith("mindsight: "), error
        assert not [line for line in before if not re.search(r"\d% done", line)], error


def test_nothing_is_erased_where_nobody_can_be_asked(run: Run) -> None:
    code, _, error = run("subject", "erase", "sub-abc234", MINDSIGHT_KEY="")
    assert (code, error) == (1, "mindsight: expected a terminal to confirm the erasure on, or --yes [cli.yes]\n")
