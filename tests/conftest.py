"""What every room's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real scanner files and reference fixtures that lies beside a full checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real data beside the checkout (../shared), which this checkout does not have")
    return SHARED
