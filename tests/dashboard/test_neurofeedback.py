"""A real neurofeedback run as its laboratory sees it, without a bundle: EPI, two regions against the events, motion."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from mindsight.client import Watch
from mindsight.protocol import RoiMeasured
from mindsight.scanner import read_series
from support.dashboard_browser import Tab
from support.watched_brain import watched
from workers.ingest.runner import series_path
from workers.ingest.snapshot import read_snapshot

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"  # to be looked at
MASKS = {"left": "lROI_1.nii", "right": "rROI_2.nii"}


@pytest.mark.slow
def test_the_first_day_of_a_neurofeedback_laboratory(tab: Tab, tmp_path: Path, shared: Path) -> None:
    """A region's mean is numpy's over the realigned run that goes into the archive; and to within two percent that over
    the frames as they came, since motion is 0.3 mm at most.
    """
    folder = shared / "data" / "trio_run155"
    volumes = list(read_series(folder / "dcm"))
    with watched(tmp_path) as world:
        for name, file in MASKS.items():
            world.console.declare_roi(name, folder / file)
        world.console.start_run(1, task="feedback", tr_s=volumes[0].tr_s, n_volumes=len(volumes))
        world.console.add_events(1, (folder / "events.tsv").read_text())
        tab.page.goto(f"{world.url}/#session={world.session}&key={world.key}")
        tab.until("document.querySelector('ms-brain header button') !== null")
        tab.page.click("ms-brain header button")
        for volume in volumes:
            world.console.send(volume)
        tab.until(f"document.querySelector('ms-brain .viewer')?.dataset.base === '1 {len(volumes) - 1}'")
        tab.until("Boolean(document.querySelector('ms-brain .viewer').dataset.voxel)")
        tab.page.wait_for_timeout(500)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        tab.page.screenshot(path=SCREENSHOTS / "neurofeedback.png")
        world.console.end_run(1)
        world.console.close_session()
        messages = list(Watch(world.url, world.key, world.session, until="session.closed"))
        world.finish()

        realigned = read_snapshot(series_path(world.settings, world.session, 1))
    assert realigned is not None
    session_XYZ, series_TV = (realigned.arrays[name] for name in ("mask_XYZ", "series_TV"))
    measured = [message for message in messages if isinstance(message, RoiMeasured)]
    assert [message.index for message in measured] == list(range(len(volumes)))
    for k, (name, file) in enumerate(MASKS.items()):
        mask_XYZ = np.asarray(nibabel.load(folder / file).dataobj) > 0
        raw_T = np.array([volume.data[mask_XYZ].mean(dtype=np.float64) for volume in volumes])
        values = [message.rois[k] for message in measured]
        assert {(value.name, value.n_voxels) for value in values} == {(name, int(mask_XYZ.sum()))}
        means_T = np.array([value.mean for value in values])
        expected_T = series_TV[:, mask_XYZ[session_XYZ.astype(bool)]].mean(axis=1, dtype=np.float64)
        np.testing.assert_allclose(means_T, expected_T, rtol=1e-6)
        np.testing.assert_allclose(means_T, raw_T, rtol=0.02)
        print(f"{name}: {means_T[0]:.1f} to {means_T[-1]:.1f}, last change {values[-1].percent:+.2f} %")
