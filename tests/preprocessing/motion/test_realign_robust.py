"""What goes wrong in a scanner, on heads whose pose is known: spikes, jumps that stay, a head partly out of view."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight.preprocessing import Realigner
from mindsight.volume import Volume
from support.phantoms import Phantom

COILS = Phantom(field=0.8)  # a head that moves through a receive field fits worse wherever it goes


@pytest.fixture(scope="module")
def coils() -> Realigner:
    """A realigner on COILS at rest; copy it, do not use it."""
    return Realigner(COILS.volume())


def copy(realigner: Realigner) -> Realigner:
    other = Realigner(realigner.reference)
    other.load_state(realigner.state())
    return other


@pytest.mark.parametrize(
    ("translation", "degrees"),
    [
        ([3.0, -2.0, 2.0], [2.0, 1.0, -2.0]),
        ([0.0, 0.0, 3.0], [0.0, 0.0, 0.0]),
        ([2.0, 0.0, 3.0], [3.0, 0.0, 0.0]),
        ([0.0, -2.0, 4.0], [-4.0, 0.0, 2.0]),
        ([0.0, 0.0, 5.0], [2.0, 0.0, 0.0]),
    ],
)
def test_a_jump_resets_what_each_slice_is_usually_off_by(
    coils: Realigner, translation: list[float], degrees: list[float]
) -> None:
    """Elsewhere in the field some slices fit much worse than they did; they are not at fault, then or ever after."""
    realigner = copy(coils)
    for t in range(4):
        realigner.align(COILS.volume(seed=t + 1))
    motion = COILS.moved(translation, degrees)
    for t in range(10, 17):
        aligned = realigner.align(COILS.volume(motion, seed=t))
        assert aligned.converged
        assert aligned.outlier_slices == ()
        assert COILS.error_mm(aligned.rigid, motion) < 0.07


def test_after_a_jump_a_slice_at_fault_is_still_named(coils: Realigner) -> None:
    realigner = copy(coils)
    motion = COILS.moved([3.0, -2.0, 2.0], [2.0, 1.0, -2.0])
    for t in range(4):
        realigner.align(COILS.volume(motion if t > 1 else None, seed=t + 1))
    data = COILS.volume(motion, seed=9).data.copy()
    data[:, :, 12] //= 3
    aligned = realigner.align(Volume(data, COILS.affine, 2.0, 1, 4))
    assert aligned.outlier_slices == (12,)
    assert COILS.error_mm(aligned.rigid, motion) < 0.1


def spiked(volume: Volume, how: str) -> Volume:
    rng = np.random.default_rng(4)
    data = volume.data.astype(np.float32)
    data = {
        "brighter": lambda: 1.5 * data,
        "noise": lambda: data + rng.normal(0, 60, data.shape),
        "stripes": lambda: data * (1 + 0.3 * (np.arange(data.shape[1]) % 2))[None, :, None],
        "every other slice": lambda: data * np.where(np.arange(data.shape[2]) % 2, 1.0, 0.6),
    }[how]()
    return Volume(np.asarray(data, np.float32), volume.affine, 2.0, 1, volume.index)


@pytest.mark.parametrize("how", ["brighter", "noise", "stripes", "every other slice"])
def test_a_spike_moves_no_pose_by_much_and_that_of_its_neighbours_not_at_all(phantom: Phantom, how: str) -> None:
    motions = [phantom.moved([0.1 * t, 0.05 * t, -0.1 * t], [0.1 * t, 0.0, 0.1 * t]) for t in range(6)]
    volumes = [phantom.volume(motion, seed=t + 1, index=t) for t, motion in enumerate(motions)]
    undisturbed, disturbed = Realigner(phantom.volume()), Realigner(phantom.volume())
    for t, (volume, motion) in enumerate(zip(volumes, motions, strict=True)):
        wanted = undisturbed.align(volume)
        got = disturbed.align(spiked(volume, how) if t == 3 else volume)
        if t == 3:
            assert phantom.error_mm(got.rigid, motion) < 0.35  # at worst the pose of the volume before
        else:
            assert got.converged
            assert phantom.error_mm(got.rigid, wanted.rigid) < 3e-3
            assert phantom.error_mm(got.rigid, motion) < 0.04


@pytest.mark.parametrize("keep", [slice(0, 16), slice(8, 26), slice(6, 18)])
def test_fewer_slices_than_the_reference_has_are_enough(phantom: Phantom, keep: slice) -> None:
    """As after a technician has cut the slab, or where only the visual cortex is scanned fast."""
    motion = phantom.moved([1.5, -1.0, 2.0], [1.0, -1.5, 0.5])
    full = phantom.volume(motion, seed=1)
    affine = full.affine.copy()
    affine[:3, 3] += affine[:3, 2] * keep.start
    part = Volume(np.ascontiguousarray(full.data[:, :, keep]), affine, 2.0, 1, 0)
    aligned = Realigner(phantom.volume()).align(part)
    assert aligned.converged
    assert phantom.error_mm(aligned.rigid, motion) < 0.06
    assert aligned.volume.shape == phantom.shape


@pytest.mark.parametrize("head_first", [True, False])
def test_a_cut_head_is_followed_while_it_moves_in_and_out_of_view(head_first: bool) -> None:
    """The slab ends within the head, and 5 mm of it come and go."""
    slab = Phantom(shape=(40, 44, 16))
    realigner = Realigner(slab.volume())
    errors = []
    for t in range(1, 8):
        along = (0.7 if head_first else -0.7) * t
        motion = slab.moved([0.1 * t, 0.0, along], [0.3 * t, -0.2 * t, 0.1 * t])
        aligned = realigner.align(slab.volume(motion, seed=t))
        assert aligned.converged
        errors.append(slab.error_mm(aligned.rigid, motion))
    assert max(errors) < 0.1


@pytest.mark.parametrize("seed", range(8))
def test_a_head_far_away_is_found_and_followed_from_there(phantom: Phantom, still: Realigner, seed: int) -> None:
    """12 mm and 12 degrees at once, then small motion, then back."""
    rng = np.random.default_rng(seed)
    shift, turn = (12.0 * axis / np.linalg.norm(axis) for axis in rng.normal(size=(2, 3)))
    realigner = copy(still)
    for t, share in enumerate((0.0, 1.0, 0.98, 0.0)):
        motion = phantom.moved(list(share * shift), list(share * turn))
        aligned = realigner.align(phantom.volume(motion, seed=t + 1))
        assert aligned.converged
        assert phantom.error_mm(aligned.rigid, motion) < 0.06


@pytest.fixture(scope="module")
def still(phantom: Phantom) -> Realigner:
    return Realigner(phantom.volume())


def test_the_fast_mode_is_right_to_a_few_hundredths_of_a_millimetre(phantom: Phantom) -> None:
    exact, fast = Realigner(phantom.volume()), Realigner(phantom.volume(), fast=True)
    errors = {"exact": [], "fast": []}
    for t in range(1, 9):
        motion = phantom.moved([0.3 * t, -0.2 * t, 0.1 * t], [0.1 * t, 0.2 * t, -0.1 * t])
        volume = phantom.volume(motion, seed=t)
        errors["exact"].append(phantom.error_mm(exact.align(volume).rigid, motion))
        errors["fast"].append(phantom.error_mm(fast.align(volume).rigid, motion))
    assert max(errors["fast"]) < 0.06
    assert np.mean(errors["exact"]) < np.mean(errors["fast"])
