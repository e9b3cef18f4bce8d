"""Runs of two people are refused: the head of the second cannot be registered to the first."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mindsight.errors import BadRequest
from mindsight.scanner import read_series
from training.calibration.linear_bundle import calibrate_linear

EVENTS = "onset\tduration\ttrial_type\n0\t1\tface\n1.3\t1\thouse\n"


def recorded(source: Path, folder: Path, n_volumes: int) -> Path:
    """The first volumes of a series as a run."""
    volumes = list(itertools.islice(read_series(source), n_volumes))
    image = nib.Nifti1Image(np.stack([v.data for v in volumes], axis=-1), volumes[0].affine)
    image.header.set_zooms((*image.header.get_zooms()[:3], volumes[0].tr_s))
    image.header.set_xyzt_units("mm", "sec")
    folder.mkdir()
    nib.save(image, folder / "bold.nii.gz")
    (folder / "events.tsv").write_text(EVENTS)
    return folder


@pytest.mark.slow  # `make test` refuses another person's head in preprocessing/registration
def test_another_persons_run_is_refused(shared: Path, tmp_path: Path) -> None:
    data = shared / "data"
    runs = [
        recorded(data / "trio_run155" / "dcm", tmp_path / "run-1", 2),
        recorded(data / "siemens_ve11_multiband_mosaic", tmp_path / "run-2", 1),  # each is searched for seconds
    ]
    with pytest.raises(BadRequest, match="got run 2, whose head could not be registered") as raised:
        calibrate_linear(runs, "trial_type", "sub-01", datetime.now(UTC))
    assert raised.value.code == "calibration.place"
