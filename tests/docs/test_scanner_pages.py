"""The pages on scanners: the table has every format and kind, and every command that they quote can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from mindsight.cli import app
from mindsight.scanner.transports.opening import EVERYWHERE, OPTIONS

PAGES = Path(__file__).parents[2] / "docs" / "scanners"
FORMATS = (
    *("Siemens mosaic", "Siemens enhanced", "GE slices", "Philips classic", "Philips enhanced", "PAR/REC"),
    *("NIfTI 3-D", "NIfTI 4-D", "AFNI socket", "MURFI socket", "C-STORE", "MRD", "HTTP"),
)
COMMAND = re.compile(r"^mindsight .*$|(?<=`)mindsight [^`\n]*(?=`)", re.MULTILINE)
COMMANDS = sorted({found for page in PAGES.glob("*.md") for found in COMMAND.findall(page.read_text())})


def tables() -> list[list[list[str]]]:
    """The rows of cells of each table of the page."""
    text = (PAGES / "what-happens.md").read_text()
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()] for block in blocks]


def test_every_format_has_a_word_on_every_kind() -> None:
    kinds: list[int] = []
    for head, _, *rows in tables():
        assert head[0] == "format"
        kinds += [int(name.split()[0]) for name in head[1:]]
        assert tuple(row[0] for row in rows) == FORMATS
        assert all(len(row) == len(head) and all(len(cell) > 2 for cell in row) for row in rows)
    assert kinds == list(range(1, 10))


@pytest.mark.parametrize("line", COMMANDS)
def test_a_quoted_command_can_be_typed(line: str) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    words = shlex.split(line)
    command = group.commands[words[1]]
    known = {name for one in command.params for name in one.opts}
    assert {word for word in words if word.startswith("--")} <= known
    command.make_context(words[1], words[2:])  # raises where a value is missing or one too many
    for address in (word for word in words if re.match(r"[a-z]+:/", word) and words[1] == "stream"):
        scheme, _, rest = address.partition(":")
        names = re.findall(r"[?&]([a-z]+)=", rest)
        assert scheme in (*OPTIONS, "tcp")
        assert set(names) <= ({"skip", "allow"} if scheme == "tcp" else {*EVERYWHERE, *OPTIONS[scheme]})


def test_commands_are_found_and_links_lead_somewhere() -> None:
    assert len(COMMANDS) > 12
    for page in PAGES.glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
