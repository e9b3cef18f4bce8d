"""What a stream prints where its output goes to a file, and on a terminal."""

from __future__ import annotations

import sys

import pytest

from mindsight.cli.terminal import Terminal


def test_a_file_gets_a_line_every_fifty_volumes_and_one_for_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    for n in range(1, 121):
        terminal.progress(n, 0, 120)
    terminal.warning("volume.missing", "run 1: volume 7 did not come")
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [f"volume {n}/120 acknowledged" for n in (50, 100, 120)]
    assert printed.err == "run 1: volume 7 did not come [volume.missing]\n"


def test_on_a_terminal_other_lines_come_after_the_line_of_progress(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    terminal = Terminal()
    for n in (1, 2):
        terminal.progress(n, 1)
    terminal.info("run 1 has ended after 3 volumes")
    terminal.info("1 volume missing")
    assert capsys.readouterr().out == (
        "\r\x1b[2Kvolume 1 acknowledged, 1 missing\r\x1b[2Kvolume 2 acknowledged, 1 missing\n"
        "run 1 has ended after 3 volumes\n1 volume missing\n"
    )
