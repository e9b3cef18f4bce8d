"""Regions of interest in ingest: what numpy has on the same frames, baselines, and masks that do not fit."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.glm import Event
from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.outputs import RoiValue
from mindsight.ingest.rois import MAX_ROIS, Roi, RoiBaseline
from mindsight.scanner import read_series
from support.ingest_world import TR_S, new_session, slice_data, slice_space, through_json, volume

DATA_TXYZ = slice_data(24)
AFFINE = volume(DATA_TXYZ, 0).affine
BLOCK = Event(9.0, 6.0, None)  # its response counts from 14 s until 20 s: volumes 10 to 13


def left_half() -> NDArray[np.bool_]:
    mask_XYZ = slice_space(DATA_TXYZ).mask_XYZ.copy()
    mask_XYZ[8:] = False
    return mask_XYZ


def measured(
    session: IngestSession, first: int = 0, last: int = len(DATA_TXYZ), run: int = 1
) -> list[tuple[RoiValue, ...]]:
    return [session.push(volume(DATA_TXYZ, i, run)).rois for i in range(first, last)]


def started(*rois: Roi) -> IngestSession:
    session = new_session(space=slice_space(DATA_TXYZ))
    for roi in rois:
        session.declare_roi(roi)
    session.start_run(1, TR_S)
    session.add_event(1, BLOCK, "open")
    return session


@pytest.mark.parametrize(
    ("baseline", "volumes"),
    [
        (RoiBaseline(), [*range(10), *range(14, 24)]),
        (RoiBaseline("seconds", 3.0, 9.0), [2, 3, 4, 5]),
        (RoiBaseline("label", label="open"), [10, 11, 12, 13]),
    ],
)
def test_a_region_has_its_mean_and_its_change_from_the_baseline_so_far(
    baseline: RoiBaseline, volumes: list[int]
) -> None:
    mask_XYZ = left_half()
    values = measured(started(Roi("left", mask_XYZ, AFFINE, baseline)))
    means_T = DATA_TXYZ[:, mask_XYZ].mean(axis=1, dtype=np.float64)
    for i, (value,) in enumerate(values):
        assert value.mean == pytest.approx(means_T[i], rel=1e-6)
        assert value.n_voxels == mask_XYZ.sum()
        so_far = [k for k in volumes if k <= i]
        if not so_far:
            assert value.percent is None
        else:
            level = means_T[so_far].mean()
            assert value.percent == pytest.approx(100 * (means_T[i] - level) / level, abs=1e-4)


def test_a_session_goes_on_from_its_state_with_the_same_values() -> None:
    rois = [Roi("left", left_half(), AFFINE, RoiBaseline("seconds", 0.0, 9.0)), Roi("all", left_half(), AFFINE)]
    expected = measured(started(*rois))
    session = started(*rois)
    first = measured(session, 0, 9)
    space = slice_space(DATA_TXYZ)
    restored = IngestSession.restore(through_json(session.state()), session.options, space, clock=lambda: 0.0)
    assert first + measured(restored, 9) == expected


def test_a_mask_of_other_axes_or_extent_is_the_same_region() -> None:
    """As programs write them: first axis from right to left, and only the slices that hold the region."""
    mask_XYZ = left_half()
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = len(mask_XYZ) - 1
    cut = np.eye(4)
    cut[0, 3] = 2
    others = [Roi("flipped", mask_XYZ[::-1], AFFINE @ flip), Roi("cut", mask_XYZ[2:], AFFINE @ cut)]
    straight, flipped, part = measured(started(Roi("as it is", mask_XYZ, AFFINE), *others), 0, 1)[0]
    assert straight.mean == flipped.mean == part.mean


@pytest.mark.parametrize("scale", [0.9, 1.05])
def test_a_mask_of_other_voxels_is_refused_with_what_to_do(scale: float) -> None:
    with pytest.raises(BadRequest, match="resample_to_img") as refused:
        started(Roi("left", left_half(), AFFINE @ np.diag([scale, 1.0, 1.0, 1.0])))
    assert refused.value.code == "roi.grid"


def test_a_mask_outside_the_session_s_is_refused() -> None:
    outside = ~slice_space(DATA_TXYZ).mask_XYZ
    with pytest.raises(BadRequest) as refused:
        started(Roi("air", outside, AFFINE))
    assert refused.value.code == "roi.outside"


def test_without_a_bundle_a_region_is_measured_whole() -> None:
    """Also where it leaves what looks like the head."""
    session = new_session()
    session.declare_roi(Roi("edge", left_half() | ~slice_space(DATA_TXYZ).mask_XYZ, AFFINE))
    session.start_run(1, TR_S)
    (value,) = session.push(volume(DATA_TXYZ, 0)).rois
    edge_XYZ = left_half() | ~slice_space(DATA_TXYZ).mask_XYZ
    assert value.n_voxels == edge_XYZ.sum()
    assert value.mean == pytest.approx(DATA_TXYZ[0][edge_XYZ].mean(dtype=np.float64), rel=1e-6)


def test_no_more_than_a_screen_shows() -> None:
    with pytest.raises(BadRequest) as refused:
        started(*(Roi(f"roi-{k}", left_half(), AFFINE) for k in range(MAX_ROIS + 1)))
    assert refused.value.code == "roi.count"


def test_without_a_bundle_a_mask_is_checked_with_the_first_volume() -> None:
    session = new_session()
    session.declare_roi(Roi("left", left_half(), AFFINE))
    session.declare_roi(Roi("elsewhere", left_half(), AFFINE @ np.diag([0.5, 1.0, 1.0, 1.0])))
    session.start_run(1, TR_S)
    output = session.push(volume(DATA_TXYZ, 0))
    assert [value.name for value in output.rois] == ["left"]
    (alert,) = [alert for alert in output.report.alerts if alert.code == "roi.grid"]
    assert "elsewhere" in alert.text
    assert alert.level == "error"


def test_baselines_are_a_run_s_own() -> None:
    session = started(Roi("left", left_half(), AFFINE))
    first = measured(session)
    session.end_run(1)
    session.start_run(2, TR_S)
    session.add_event(2, BLOCK, "open")
    assert measured(session, run=2) == first


def test_the_regions_of_a_neurofeedback_run(shared: Path) -> None:
    """Realigned by ingest: the same mean as numpy on the first frame, and within a percent on the others, whose motion
    is a third of a millimetre at most."""
    folder = shared / "data" / "trio_run155"
    session = IngestSession(IngestOptions(), clock=lambda: 0.0)
    masks = {}
    for name in ("lROI_1", "rROI_2"):
        image = nibabel.load(folder / f"{name}.nii")
        masks[name] = np.asarray(image.dataobj) > 0
        session.declare_roi(Roi(name, masks[name], image.affine))
    volumes = [frame for frame, _ in zip(read_series(folder / "dcm"), range(4), strict=False)]
    session.start_run(1, volumes[0].tr_s)
    for k, frame in enumerate(volumes):
        values = session.push(frame).rois
        for value in values:
            expected = frame.data[masks[value.name]].mean(dtype=np.float64)
            assert value.n_voxels == masks[value.name].sum()
            assert value.mean == pytest.approx(expected, rel=1e-6 if k == 0 else 0.01)
