"""The phantom, and the real and simulated runs."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mindsight.scanner import read_series
from mindsight.volume import Volume
from support.phantoms import Phantom, Truth


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return Phantom()


@pytest.fixture(scope="session")
def trio(shared: Path) -> list[Volume]:
    """155 real volumes, Siemens Trio."""
    return list(read_series(shared / "data" / "trio_run155" / "dcm"))


@pytest.fixture(scope="session")
def typical(shared: Path) -> Truth:
    """12 volumes of 120 x 120 x 78 at 2 mm."""
    folder = shared / "data" / "motion_truth" / "typical"
    image = nib.load(folder / "bold.nii.gz")
    data = np.asarray(image.dataobj)
    truth = np.load(folder / "truth.npz")
    volumes = [Volume(np.ascontiguousarray(data[..., t]), image.affine, 1.5, 1, t) for t in range(data.shape[3])]
    return Truth(volumes, truth["rigid"], truth["mask"])
