"""Fixtures of the transports' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from mindsight.scanner import read_series
from mindsight.volume import Volume


@pytest.fixture(scope="session")
def data(shared: Path) -> Path:
    return shared / "data"


@pytest.fixture(scope="session")
def trio(data: Path) -> list[Volume]:
    """The first volumes of a real run, as the reader of whole series has them."""
    volumes = read_series(data / "trio_run155" / "dcm")
    return [next(volumes) for _ in range(12)]
