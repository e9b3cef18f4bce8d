"""The torch path against the compiled one: on the processor always, on a GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mindsight.errors import NotFound
from mindsight.preprocessing import Realigner
from mindsight.preprocessing.motion import rigid, spline
from mindsight.preprocessing.motion.device import OnDevice, interpolate, prefilter_matrix
from mindsight.preprocessing.motion.memory_order import in_memory_order
from mindsight.preprocessing.motion.newton import instrument
from mindsight.volume import Volume
from support.phantoms import Phantom
from support.tolerance import rounding

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")),
]
APART_MM = 2e-3  # how far the two ways may put the head from each other
CLOSE = 1e-4  # and how far apart samples may lie, in parts of the mean value


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("n", [1, 2, 3, 14, 37])
def test_the_prefilter_as_a_matrix_is_the_recursive_one(n: int) -> None:
    line = np.random.default_rng(0).uniform(0, 1000, (n, 1, 1)).astype(np.float32)
    close = 1000 * rounding(n, condition=3.0)  # no row of the matrix sums to more than 3, of values up to 1000
    np.testing.assert_allclose(prefilter_matrix(n) @ line[:, 0, 0], spline.prefilter(line)[:, 1, 1], rtol=0, atol=close)


@pytest.mark.parametrize("device", DEVICES)
def test_values_between_voxels_are_those_of_the_compiled_kernels(device: str) -> None:
    rng = np.random.default_rng(2)
    coef = spline.prefilter(rng.uniform(0, 1000, (21, 18, 25)).astype(np.float32))
    points_V3 = rng.uniform(-0.2, 1.2, (500, 3)) * [21, 18, 25]
    points_V3[0] = [np.nan, np.inf, -np.inf]
    expected = spline.sample_points(coef, np.eye(4)[:3].copy(), points_V3)
    got = interpolate(torch.from_numpy(coef).to(device), torch.from_numpy(points_V3).to(device)).cpu().numpy()
    np.testing.assert_allclose(got[1:], expected[1:], atol=2e-3)
    assert np.isfinite(got[0])


def course(phantom: Phantom) -> list[Volume]:
    """A drift, a jump that needs the search from far away, bad slices, a change of grid, an array not to be written."""
    motions = [phantom.moved([0.2 * t, -0.1 * t, 0.1], [0.1 * t, 0.2, -0.1 * t]) for t in range(5)]
    motions += [phantom.moved([7.0, -6.0, 5.0], [6.0, -5.0, 7.0])] * 3
    volumes = [phantom.volume(motion, seed=t + 1, index=t) for t, motion in enumerate(motions)]
    spoilt = volumes[4].data.copy()
    spoilt[:, :, 8:11] //= 3
    volumes[4] = Volume(spoilt, phantom.affine, 2.0, 1, 4)
    volumes[7] = Volume(np.asfortranarray(volumes[7].data), phantom.affine, 2.0, 1, 7)
    kept = volumes[2].data.astype(np.float32)
    kept.flags.writeable = False
    volumes[2] = Volume(kept, phantom.affine, 2.0, 1, 2)
    return volumes


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("fast", [False, True])
def test_a_device_finds_the_poses_and_samples_of_the_processor(phantom: Phantom, device: str, fast: bool) -> None:
    here = Realigner(phantom.volume(), fast=fast)
    there = Realigner(phantom.volume(), fast=fast, device=device)
    mask = phantom.volume().data > 300
    points_V3 = np.random.default_rng(0).uniform(-50, 50, (300, 3))
    for volume in course(phantom):
        ours, theirs = here.align(volume), there.align(volume)
        assert theirs.converged
        assert theirs.converged == ours.converged
        assert theirs.outlier_slices == ours.outlier_slices
        assert phantom.error_mm(theirs.rigid, ours.rigid) < (4e-3 if fast else APART_MM)
        if not fast:
            level = float(volume.data[mask].mean())
            for where in (mask, points_V3):
                apart = theirs.sample(where) - ours.sample(where)
                assert np.sqrt(np.mean(apart**2)) < CLOSE * level


def test_a_volume_is_sampled_as_itself_after_the_next_has_come(phantom: Phantom) -> None:
    realigner = Realigner(phantom.volume(), device="cpu")
    first, second = course(phantom)[1:3]
    mask = first.data > 300
    aligned = realigner.align(first)
    before = aligned.sample(mask)
    realigner.align(second)
    np.testing.assert_array_equal(aligned.sample(mask), before)


def test_nothing_on_the_way_asks_the_host_for_a_value(phantom: Phantom) -> None:
    """What a CUDA graph needs: with tensors that have no values, whatever reads one raises."""
    values, grid = in_memory_order(phantom.volume())
    coef = spline.prefilter(values)
    ijk_N3 = np.argwhere(values[1:-1, 1:-1, 1:-1] > 300).astype(np.int16) + np.int16(1)
    points, frame = instrument(coef, coef, grid.affine, phantom.centre_mm, ijk_N3)
    with FakeTensorMode(allow_non_fake_inputs=True):
        reference = OnDevice(frame, points, "cpu")
        reference.settle(grid)
        reference.follow()
        assert reference.volume().coef_XYZ.shape == coef.shape
        with pytest.raises(RuntimeError):
            float(reference.size_mm)


@pytest.mark.parametrize(
    "device",
    ["nowhere", pytest.param("cuda", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there"))],
)
def test_a_device_that_is_not_there_is_named(phantom: Phantom, device: str) -> None:
    with pytest.raises(NotFound, match=device) as caught:
        Realigner(phantom.volume(), device=device)
    assert caught.value.code == "device.unknown"


def test_steps_on_a_device_compose_as_rigid_motions(phantom: Phantom) -> None:
    motion = Realigner(phantom.volume(), device="cpu").align(course(phantom)[5]).rigid
    np.testing.assert_allclose(motion[:3, :3] @ motion[:3, :3].T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(rigid.inverse(motion) @ motion, np.eye(4), atol=1e-8)
