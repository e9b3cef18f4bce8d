"""The brain on the Live page, without a bundle: volumes, outlines, betas, the voxel under the crosshair, regions."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mindsight.preprocessing import brain_mask
from mindsight.volume import Volume
from support.dashboard_axe import violations
from support.dashboard_browser import SIZES, Tab
from support.ingest_world import TR_S, head_data
from support.watched_brain import Watched, watched

pytestmark = pytest.mark.slow

N_VOLUMES = 12
DATA_TXYZ = head_data(N_VOLUMES)
AFFINE = np.diag([-3.0, 3.0, 3.0, 1.0])  # as scanners store it, from right to left
AFFINE[:3, 3] = [28.5, -31.5, -19.5]
VIEWER = "document.querySelector('ms-brain .viewer')"
CHART = "document.querySelector('ms-brain .voxel .plot').getAttribute('aria-label')"

HIGHEST = "const s = document.querySelector('ms-brain input'); s.value = s.max; s.dispatchEvent(new Event('input'))"
ALL_IN_SIGHT = """[...document.querySelectorAll('ms-rois, ms-rois .chart, ms-brain')].every((it) => {
  const { width, right, bottom } = it.getBoundingClientRect();
  return width > 100 && right <= innerWidth && bottom <= innerHeight;
})"""


def problems(tab: Tab) -> list[str]:
    """Without what the driver says about the speed of drawing without a card, and without 409 ``voxel.busy``: ingest
    was busy when the page asked, which asks again.
    """
    return [text for text in tab.problems if "GL Driver Message" not in text and "409 (Conflict)" not in text]


def region(left: bool) -> bytes:
    mask_XYZ = brain_mask(DATA_TXYZ[0])
    mask_XYZ[slice(10, None) if left else slice(None, 10)] = False
    content: bytes = nibabel.Nifti1Image(mask_XYZ.astype(np.uint8), AFFINE).to_bytes()
    return content


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("brain")) as world:
        world.console.declare_roi("left", region(True))
        world.console.declare_roi("right", region(False), seconds=(0.0, 6.0))
        world.console.start_run(1, task="feedback", tr_s=TR_S, n_volumes=N_VOLUMES)
        world.console.add_event(1, onset_s=1.5, duration_s=3.0, trial=1, label="up")
        for index in range(N_VOLUMES):
            world.console.send(Volume(DATA_TXYZ[index], AFFINE, TR_S, 1, index))
        yield world


def pixels(page: Any, selector: str) -> NDArray[np.float64]:
    png = page.query_selector(selector).screenshot()
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(np.float64)


def test_volume_betas_and_the_voxel_under_the_crosshair_are_there(tab: Tab, world: Watched) -> None:
    page = tab.page
    page.goto(f"{world.url}/#session={world.session}&key={world.key}")
    tab.until("document.querySelector('ms-brain header button') !== null")
    assert not any("niivue" in request for request in tab.requests), "it is loaded when it is opened, not before"
    page.click("ms-brain header button")
    tab.until(f"{VIEWER}?.dataset.base === '1 {N_VOLUMES - 1}'")
    tab.until(f"Boolean({VIEWER}.dataset.beta)")
    tab.until(f"Boolean({VIEWER}.dataset.voxel)")
    drawn = pixels(page, "ms-brain .planes")
    grey, colour = drawn.mean(axis=2), np.ptp(drawn, axis=2)
    assert grey.std() > 15, "the planes are blank"
    assert len(np.unique(grey)) > 100
    assert (colour > 60).mean() > 0.001, "no beta above the threshold"

    before, where = page.evaluate(CHART), page.evaluate(f"{VIEWER}.dataset.voxel")
    chart = pixels(page, "ms-brain .voxel")
    box = page.query_selector("ms-brain canvas").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.17, box["y"] + box["height"] * 0.6)
    tab.until(f"{VIEWER}.dataset.voxel !== '{where}'")
    assert page.evaluate(CHART) != before
    assert not np.array_equal(pixels(page, "ms-brain .voxel"), chart)
    assert "fit of trial 1" in tab.text("ms-brain .where")

    page.evaluate(HIGHEST)
    page.wait_for_timeout(100)
    assert (np.ptp(pixels(page, "ms-brain .planes"), axis=2) > 60).mean() < (colour > 60).mean()
    assert violations(page) == []
    page.select_option("ms-brain select", "reference")
    tab.until(f"{VIEWER}.dataset.base?.length === 64")
    assert not problems(tab)


def test_regions_have_the_middle_where_nothing_is_decoded(tab: Tab, world: Watched) -> None:
    page = tab.page
    page.goto(f"{world.url}/#session={world.session}&key={world.key}")
    tab.until("document.querySelectorAll('ms-rois .chart').length === 2")
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(50)
        inside = "[...document.querySelectorAll('ms-rois, ms-rois .chart, ms-brain')].every((it) => { const r ="
        inside += (
            " it.getBoundingClientRect(); return r.width > 100 && r.right <= innerWidth && r.bottom <= innerHeight })"
        )
        assert page.evaluate(inside), (width, height)
    assert "between events" in page.evaluate(
        "[...document.querySelectorAll('ms-rois .plot')].map((it) => it.getAttribute('aria-label')).join()"
    )
    assert not page.is_visible("ms-trial")
    assert not problems(tab)
