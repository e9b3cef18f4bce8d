"""The package's version is the git tag's, and a build works where there is no tag and no git."""

from __future__ import annotations

import importlib.metadata
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mindsight

ROOT = Path(__file__).resolve().parents[2]
RELEASE: dict[str, Any] = runpy.run_path(str(ROOT / "deploy" / "release.py"))
METADATA = "from setuptools.build_meta import prepare_metadata_for_build_wheel as made; print(made('build'))"
VERSION = re.compile(r"^Version: (\S+)$", re.MULTILINE)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The least that setuptools takes for the package, without git."""
    for name in ("pyproject.toml", "README.md", "LICENSE", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "mindsight").mkdir()
    (tmp_path / "mindsight" / "__init__.py").touch()
    (tmp_path / ".gitignore").write_text("build/\n*.egg-info/\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n## 1.2.3 - 2026-01-01\n")
    citation = (tmp_path / "CITATION.cff").read_text()
    (tmp_path / "CITATION.cff").write_text(re.sub(r"^version: .*$", "version: 1.2.3", citation, flags=re.MULTILINE))
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    given = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false", *arguments]
    subprocess.run(given, cwd=folder, check=True, capture_output=True)


def committed(folder: Path) -> None:
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "one")


def tagged(folder: Path) -> None:
    committed(folder)
    git(folder, "tag", "--annotate", "v1.2.3", "--message", "1.2.3")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda folder: None, r"0\.1\.0\.dev0"),
        (committed, r"0\.\d+(\.\d+)?\.dev\d+\+g[0-9a-f]+"),
        (tagged, r"1\.2\.3"),
    ],
    ids=["no git", "no tag", "a tag"],
)
def test_the_version_is_the_tags(checkout: Path, made: Callable[[Path], None], expected: str) -> None:
    made(checkout)
    (checkout / "build").mkdir()
    done = subprocess.run([sys.executable, "-c", METADATA], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = (checkout / "build").glob("*.dist-info/METADATA")
    (version,) = VERSION.findall(found.read_text())
    assert re.fullmatch(expected, version)


def test_the_program_states_the_version_that_was_installed() -> None:
    assert mindsight.__version__ == importlib.metadata.version("mindsight")


def test_a_release_is_one_tag_that_changelog_and_citation_name(checkout: Path) -> None:
    committed(checkout)
    (line,) = RELEASE["disagreements"](checkout)
    assert line.startswith("expected one tag vX.Y.Z")
    git(checkout, "tag", "v1.2.3")
    assert RELEASE["disagreements"](checkout) == []
    (checkout / "CHANGELOG.md").write_text("## Unreleased\n\n## 1.2.2 - 2026-01-01\n")
    (checkout / "CITATION.cff").write_text("version: 1.2.2\n")
    assert [line.split(":")[0] for line in RELEASE["disagreements"](checkout)] == [
        "expected a clean checkout, 2 files differ",
        "CHANGELOG.md",
        "CITATION.cff",
    ]
