"""Fixtures of the scanner's tests: the real data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mindsight.scanner import read_series
from mindsight.volume import Volume


@pytest.fixture(scope="session")
def data(shared: Path) -> Path:
    return shared / "data"


@pytest.fixture(scope="session")
def series(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of real series by name; of the one that comes slice by slice, the first two volumes."""
    philips = tmp_path_factory.mktemp("philips")
    for k, path in enumerate(sorted((shared / "data" / "philips_elition_slices8").iterdir())):
        if k % 8 < 2:
            (philips / path.name).symlink_to(path)
    return lambda name: philips if name.startswith("philips") else shared / "data" / name


@pytest.fixture(scope="session")
def trio(data: Path) -> list[Volume]:
    """The first volumes of a real run, as the reader of whole series has them."""
    volumes = read_series(data / "trio_run155" / "dcm")
    return [next(volumes) for _ in range(12)]
