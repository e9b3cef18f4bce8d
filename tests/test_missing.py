"""The closing line over what was skipped: what is lacking is counted, everything else is left out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.missing import missing_line

TESTS = Path(__file__).parent


def test_no_line_where_nothing_is_lacking() -> None:
    assert missing_line([]) is None
    assert missing_line(["Skipped: only Linux ends a child with its parent", "CUDA is there"]) is None


def test_each_thing_is_counted_with_what_to_install() -> None:
    reasons = ["needs the real data (../shared)"] * 3 + ["needs dcmtk's storescu", "needs chromium", "needs chromium"]
    line = missing_line([*reasons, "needs a CUDA device"])
    assert line is not None
    assert line.startswith("6 tests were skipped")
    assert "3 without ../shared (put the real data" in line
    assert "2 without chromium (apt install chromium)" in line
    assert "1 without dcmtk (apt install dcmtk)" in line
    assert "CUDA" not in line


def test_a_run_by_several_workers_ends_with_one_line(tmp_path: Path) -> None:
    """Each worker knows of its own tests only: the line counts those of both."""
    (tmp_path / "conftest.py").write_text(
        f"import sys\nsys.path.insert(0, {str(TESTS)!r})\nfrom conftest_of_all import *\n"
    )
    (tmp_path / "conftest_of_all.py").write_text((TESTS / "conftest.py").read_text())
    for name in "ab":
        (tmp_path / f"test_{name}.py").write_text(
            f"import pytest\n\n\ndef test_{name}():\n    pytest.skip('needs dcmtk to send')\n"
        )
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-n", "2", "--dist", "loadfile", "-c", "/dev/null"]
    alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # no plugin but xdist: three processes would load all
    done = subprocess.run(
        [*command, str(tmp_path)], env=alone, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.stdout.count("2 tests were skipped for what is not here: 2 without dcmtk") == 1, done.stdout
