"""A scanner that moves its slices with the head, and runs whose volumes contradict what was declared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mindsight.errors import BadVolume
from mindsight.ingest import IngestSession
from mindsight.ingest.outputs import VolumeOutput
from mindsight.preprocessing.motion.prospective import followed_motion
from support.ingest_world import (
    OPTIONS,
    TR_S,
    Ticks,
    head_data,
    new_session,
    slice_data,
    slice_space,
    through_json,
    trials,
    volume,
)

N = 12
FD_MM = [None, 0.0, 0.0, 0.4, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def resumed(session: IngestSession, **given: object) -> IngestSession:
    return IngestSession.restore(through_json(session.state()), OPTIONS, clock=Ticks(), **given)


def moved_mm(index: int) -> np.ndarray:
    """Where the head is in the scanner: two steps, along x and then along z."""
    moved = np.eye(4)
    moved[0, 3] = 0.4 if index >= 3 else 0.0
    moved[2, 3] = 1.0 if index >= 6 else 0.0
    return moved


def pushed(session: IngestSession, data: np.ndarray, *, follows: bool) -> list[VolumeOutput]:
    session.start_run(1, TR_S, len(data))
    outputs = []
    for index in range(len(data)):
        one = volume(data, index)
        outputs.append(session.push(replace(one, affine=moved_mm(index) @ one.affine) if follows else one))
    return outputs


def test_a_head_that_the_scanner_follows_stays_on_the_grid_and_moves_in_the_room() -> None:
    data = np.repeat(head_data(1), N, axis=0) + np.random.default_rng(2).integers(0, 9, (N, 20, 22, 14), np.int16)
    still, follows = new_session(), new_session()
    pushed(still, data, follows=False)
    outputs = pushed(follows, data, follows=True)
    assert follows.run_series(1).tobytes() == still.run_series(1).tobytes()  # no voxel rests on a header
    for index, (output, fd_mm) in enumerate(zip(outputs, FD_MM, strict=True)):
        assert output.report.translation_mm == pytest.approx(moved_mm(index)[:3, 3], abs=0.05)
        assert output.report.fd_mm == (None if fd_mm is None else pytest.approx(fd_mm, abs=0.1))
    assert [output.report.censored for output in outputs] == [fd_mm == 1.0 for fd_mm in FD_MM]
    reported = [alert.code for output in outputs for alert in output.report.alerts]
    assert reported.count("motion.followed") == 1


def test_what_the_scanner_did_not_follow_is_estimated_and_added() -> None:
    """It states 1 mm of a head that moved by 1.9 mm: a voxel of 3 mm has 0.9 mm left in it."""
    still = head_data(1)[0].astype(np.float64)
    left = np.asarray(np.fft.ifftn(np.fft.fftn(still) * np.exp(-2j * np.pi * np.fft.fftfreq(20)[:, None, None] * 0.3)))
    session = new_session()
    session.start_run(1, TR_S)
    first = volume(np.array([still, left.real]), 0)
    session.push(first)
    step = np.eye(4)
    step[0, 3] = 1.0
    report = session.push(replace(first, data=left.real, index=1, affine=step @ first.affine)).report
    assert report.translation_mm == pytest.approx((1.9, 0.0, 0.0), abs=0.15)
    assert report.fd_mm == pytest.approx(1.9, abs=0.25)


def test_a_slab_has_the_movement_that_is_stated() -> None:
    data = slice_data(N)
    session = new_session(space=slice_space(data))
    outputs = pushed(session, data, follows=True)
    assert [output.report.fd_mm for output in outputs] == [
        None if not fd_mm else pytest.approx(fd_mm) for fd_mm in FD_MM
    ]
    assert outputs[6].report.censored
    plain = new_session(space=slice_space(data))
    pushed(plain, data, follows=False)
    np.testing.assert_array_equal(session.run_series(1), plain.run_series(1))


def test_it_goes_on_after_a_restart_and_is_reported_once() -> None:
    data = head_data(8)
    session = new_session()
    pushed(session, data[:4], follows=True)
    session = resumed(session)
    one = volume(data, 4)
    output = session.push(replace(one, affine=moved_mm(6) @ one.affine))
    assert "motion.followed" not in [alert.code for alert in output.report.alerts]
    assert output.report.translation_mm is not None
    assert output.report.translation_mm[2] == pytest.approx(1.0, abs=0.1)


def turned(degrees: float, shift_mm: float = 0.0) -> np.ndarray:
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_euler("x", degrees, degrees=True).as_matrix()
    moved[1, 3] = shift_mm
    return moved


@pytest.mark.parametrize(
    ("moved", "is_head"),
    [
        (turned(0.0), True),
        (turned(3.0), True),
        (turned(1.0, 4.0), True),
        (turned(0.0, 80.0), False),  # other slices
        (turned(60.0), False),
        (np.diag([1.1, 1.0, 1.0, 1.0]), False),  # other voxels
        (np.diag([-1.0, 1.0, 1.0, 1.0]), False),  # a flip
    ],
)
def test_what_may_be_a_heads_movement(moved: np.ndarray, is_head: bool) -> None:
    affine = np.diag([-3.0, 3.0, 3.5, 1.0])
    affine[:3, 3] = 90.0, -100.0, -60.0
    found = followed_motion(affine, moved @ affine, (64, 64, 33))
    assert (found is not None) == is_head
    if found is not None:
        np.testing.assert_allclose(found, moved, atol=1e-9)


@pytest.mark.parametrize("tr_s", [1.2, 1.51, 3.0])
def test_volumes_of_another_tr_are_refused(tr_s: float) -> None:
    session = new_session()
    session.start_run(1, TR_S)
    with pytest.raises(BadVolume, match=rf"TR of 1\.5 s.*{tr_s:g} s") as caught:
        session.push(replace(volume(slice_data(2), 0), tr_s=tr_s))
    assert caught.value.code == "volume.tr_mismatch"
    session.push(replace(volume(slice_data(2), 0), tr_s=1.5004))  # rounding


@pytest.mark.parametrize("clock", ["acquired_s", "trigger_s"])
@pytest.mark.parametrize(("step_s", "n_reported"), [(1.5, 0), (2.0, 1), (0.75, 1), (0.0, 0)])
def test_a_clock_that_contradicts_the_run_is_reported_once(clock: str, step_s: float, n_reported: int) -> None:
    data = slice_data(N)
    session = new_session(space=slice_space(data))
    session.start_run(1, TR_S)
    for event in trials(1):
        session.add_event(1, event)
    reported = []
    for index in range(N):
        if index == 7:
            session = resumed(session, space=slice_space(data))
        output = session.push(replace(volume(data, index), **{clock: 1.7e9 + 0.1 + step_s * index}))
        reported += [alert for alert in output.report.alerts if alert.code == "run.tr_mismatch"]
    assert len(reported) == n_reported
    assert all(f"{step_s:g} s apart" in alert.text and "1.5 s" in alert.text for alert in reported)
