"""Locked versions are those that the tests run with, each file has its sha256, and no extra is forgotten."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS: dict[str, tuple[str, ...]] = runpy.run_path(str(ROOT / "deploy" / "lock.py"))["LOCKS"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)(?: ; ([^\\]*))?")


def pins(name: str) -> dict[str, set[str]]:
    """Versions of each package; one that differs between systems or Pythons has several."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "deploy" / "locks" / f"{name}.txt").read_text().splitlines():
        if (pin := _PIN.match(line)) is not None:
            found.setdefault(canonicalize_name(pin[1]), set()).add(pin[2])
    return found


def requirements(extra: str) -> list[Requirement]:
    texts = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    own, others = [], []
    for requirement in map(Requirement, texts):
        if requirement.name == "mindsight":
            others += [one for inner in requirement.extras for one in requirements(inner)]
        else:
            own.append(requirement)
    return own + others


def test_every_extra_has_a_lock() -> None:
    assert {extra for extras in LOCKS.values() for extra in extras} == set(PROJECT["optional-dependencies"])
    assert {path.stem for path in (ROOT / "deploy" / "locks").glob("*.txt")} == set(LOCKS)


@pytest.mark.parametrize("name", LOCKS)
def test_it_holds_what_the_install_asks_for(name: str) -> None:
    held = pins(name)
    for extra in ("", *LOCKS[name]):
        for requirement in requirements(extra):
            versions = held.get(canonicalize_name(requirement.name), set())
            assert versions, f"{requirement.name} is not locked: run make lock"
            assert all(requirement.specifier.contains(version, prereleases=True) for version in versions)


@pytest.mark.parametrize("name", LOCKS)
def test_its_versions_are_those_that_the_tests_run_with(name: str) -> None:
    tested: dict[str, set[str]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if (pin := _PIN.match(line.replace(";", " ;"))) is not None:
            tested.setdefault(canonicalize_name(pin[1]), set()).add(pin[2])
    differing = {
        package: versions
        for package, versions in pins(name).items()
        if package in tested and not versions <= tested[package]
    }
    assert differing == {}, "run make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_each_pin_has_the_digests_of_its_files_and_names_no_place(name: str) -> None:
    text = (ROOT / "deploy" / "locks" / f"{name}.txt").read_text()
    for entry in re.split(r"\n(?=[A-Za-z0-9])", text.partition("\n")[2]):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.partition("\n")[0]
    assert not re.search(r"https?:|file:| @ |--(index|find)", text)


@pytest.mark.slow
def test_a_console_is_installed_from_its_lock_alone(tmp_path: Path) -> None:
    python = tmp_path / "console" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "console")], check=True, timeout=120)
    install = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:"]
    subprocess.run([*install, "-r", str(ROOT / "deploy/locks/base.txt")], check=True, timeout=600)
    code = "from mindsight.cli import main; import sys; sys.argv = ['mindsight', 'stream', '--help']; main()"
    shown = subprocess.run(
        [str(python), "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60, env={}
    )
    assert "--session" in shown.stdout
