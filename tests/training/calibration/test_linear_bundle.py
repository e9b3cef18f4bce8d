"""Calibration takes events as every other way does: planned outside the run, without the label, of one moment."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from training.calibration.linear_bundle import calibrate_linear

TABLE = """\
onset\tduration\ttrial_type\tstim_file
-2.5\t1\tface\tn/a
8\tn/a\thouse\tn/a
20\t1\tn/a\tpictures/x.png
20\t1\tn/a\tn/a
20\t1\tn/a\tn/a
30\t1\tface\tn/a
42\t1\thouse\tn/a
300\t1\tface\tn/a
n/a\t1\tface\tn/a
"""


def test_a_table_that_is_not_whole_calibrates_on_what_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for k in (1, 2):
        folder = tmp_path / f"run-{k}"
        folder.mkdir()
        data_XYZT = np.full((8, 7, 1, 30), 20.0)
        data_XYZT[2:6, 2:5] = 800.0
        image = nib.Nifti1Image(
            (data_XYZT + rng.normal(0, 5, data_XYZT.shape)).astype(np.float32), np.diag([3, 3, 3, 1])
        )
        image.header.set_zooms((3, 3, 3, 2.0))
        image.header.set_xyzt_units("mm", "sec")
        image.to_filename(folder / "bold.nii.gz")
        (folder / "events.tsv").write_text(TABLE)
    made = calibrate_linear(
        [tmp_path / "run-1", tmp_path / "run-2"], "trial_type", "sub-01", datetime(2026, 1, 1, tzinfo=UTC)
    ).bundle
    assert made.pool.ids == ("face", "house")
    assert made.statistics.n == 8
    printed = capsys.readouterr().err
    assert printed.count("events table, line 10 left out") == 2
    assert printed.count("no volume covers the response to trial 6") == 2
