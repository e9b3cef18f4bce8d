"""The documentation as a site: its commands are right, and carried out; its pages load nothing from elsewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from mindsight.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
END = {"|", ">", ">>", "2>", "2>&1", "&", "&&", "||", ";", "<"}
COMMAND: Any = typer.main.get_command(app)
BIN = Path(sys.executable).parent


def commands_in(page: Path) -> Iterator[list[str]]:
    """The words after ``mindsight`` of each command in the page's blocks."""
    for kind, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if kind in ("", "sh", "bash", "text", "console"):
            for line in block.replace("\\\n", " ").splitlines():
                found = re.match(r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:[A-Z]+=\$\()?mindsight (.+)", line.strip())
                if found is not None:
                    yield list(_words(found[1]))


def _words(text: str) -> Iterator[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|>&;()<")
    lexer.whitespace_split = True
    for word in lexer:
        if word in END or word.startswith(("(", ")")):
            return
        yield word


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_in_the_page_is_one(page: Path) -> None:
    """Its name, options and number of arguments; what ``calibrate`` passes on is another program's."""
    for words in commands_in(page):
        command = COMMAND
        rest = list(words)
        while hasattr(command, "commands") and rest and rest[0] in command.commands:
            command = command.commands[rest.pop(0)]
        if "..." in words or any("|" in word for word in words) or words[0].startswith("-"):
            continue  # a form, not a command
        assert not hasattr(command, "commands"), f"{page.name}: mindsight {' '.join(words)}"
        try:
            command.make_context(command.name or "", rest)
        except Exception as error:
            pytest.fail(f"{page.name}: mindsight {' '.join(words)}: {error}")


@pytest.mark.slow
def test_the_site_builds_without_a_broken_link_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [BIN / "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        loaded = re.findall(r"<(?:script|img|link|iframe|source)[^>]*?(?:src|href)=\"?([^\" >]+)", page.read_text())
        assert [one for one in loaded if re.match(r"(https?:)?//", one) and "canonical" not in one] == [], page.name
    text = (tmp_path / "site" / "reference" / "commands.html").read_text()
    assert "mindsight session simulate" in text
    assert "MINDSIGHT_DATA_DIR" in (tmp_path / "site" / "reference" / "settings.html").read_text()
    assert "beta.ready" in (tmp_path / "site" / "reference" / "messages.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("page", ["start.md", "tutorial.md"])
def test_what_the_page_says_can_be_done_as_it_says(page: str, tmp_path: Path) -> None:
    """Every block of the page, in one shell, in an empty folder; a service that it starts is stopped at the end."""
    blocks = FENCE.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    script = ["set -e -o pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"]
    for kind, block in blocks:
        if kind == "sh":
            script.append(block)
        elif kind == "python":
            script.append(f"python - <<'PYTHON'\n{block}PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MINDSIGHT_")}
    environment |= {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
