from __future__ import annotations

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from mindsight.errors import BadVolume
from mindsight.preprocessing import Realigner
from mindsight.preprocessing.motion import aligned as aligned_
from mindsight.preprocessing.motion import coarse, residuals, rigid, spline
from mindsight.preprocessing.motion import newton as step
from mindsight.volume import Volume
from support.phantoms import Phantom


@pytest.fixture(scope="module")
def still(phantom: Phantom) -> Realigner:
    """A realigner on the phantom at rest; copy it, do not use it."""
    return Realigner(phantom.volume())


def copy(realigner: Realigner) -> Realigner:
    other = Realigner(realigner.reference)
    other.load_state(realigner.state())
    return other


def drift(phantom: Phantom, n: int, seed: int = 0) -> list[np.ndarray]:
    """Motions of a head that wanders by some 0.1 mm and 0.1 degrees per volume."""
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.normal(0, 0.08, (n, 6)), axis=0)
    return [phantom.moved(list(step[:3]), list(step[3:])) for step in steps]


def test_the_first_volume_waits_for_no_compiler(phantom: Phantom) -> None:
    """Every kernel was gone through at set-up, with arrays laid out as a volume's are."""
    realigner = Realigner(phantom.volume())
    before = {name: len(kernel.signatures) for name, kernel in _kernels().items()}
    aligned = realigner.align(phantom.volume(phantom.moved([0.5, 0.2, 0.1], [0.01, 0.0, 0.0]), seed=1))
    aligned.sample(np.ones(realigner.reference.shape, np.bool_))
    assert aligned.converged
    assert {name: len(kernel.signatures) for name, kernel in _kernels().items()} == before


def _kernels() -> dict[str, Dispatcher]:
    modules = (aligned_, coarse, spline, step, residuals)
    return {name: value for module in modules for name, value in vars(module).items() if isinstance(value, Dispatcher)}


def test_a_wandering_head_is_followed(phantom: Phantom, still: Realigner) -> None:
    realigner = copy(still)
    errors = []
    for t, motion in enumerate(drift(phantom, 12)):
        aligned = realigner.align(phantom.volume(motion, seed=t + 1, index=t))
        assert aligned.converged
        assert 0.0 < aligned.residual < 0.05
        errors.append(phantom.error_mm(aligned.rigid, motion))
    assert np.mean(errors) < 0.02
    assert max(errors) < 0.04


def test_translation_and_rotation_are_the_matrix_in_numbers(phantom: Phantom, still: Realigner) -> None:
    motion = phantom.moved([0.5, -0.3, 0.4], [0.3, -0.2, 0.4])
    aligned = copy(still).align(phantom.volume(motion, seed=1))
    rotation = rigid.from_angles(aligned.rotation_rad)
    np.testing.assert_allclose(rotation, aligned.rigid[:3, :3], atol=1e-12)
    np.testing.assert_allclose(aligned.translation_mm, aligned.rigid[:3, 3])
    np.testing.assert_allclose(np.degrees(aligned.rotation_rad), [0.3, -0.2, 0.4], atol=0.03)
    np.testing.assert_allclose(aligned.motion_6[:3], [0.5, -0.3, 0.4], atol=0.05)
    np.testing.assert_allclose(aligned.motion_6[3:], aligned.rotation_rad)


@pytest.mark.parametrize(
    ("translation", "degrees"),
    [([2.5, -1.0, 1.0], [0.0, 1.0, -2.0]), ([0.0, 8.0, -6.0], [9.0, 0.0, 5.0]), ([7.0, -7.0, 7.0], [-7.0, 7.0, 7.0])],
)
def test_a_jump_is_caught_from_cold(
    phantom: Phantom, still: Realigner, translation: list[float], degrees: list[float]
) -> None:
    motion = phantom.moved(translation, degrees)
    aligned = copy(still).align(phantom.volume(motion, seed=1))
    assert aligned.converged
    assert phantom.error_mm(aligned.rigid, motion) < 0.1


def test_a_wrong_pose_is_left_again(phantom: Phantom, still: Realigner) -> None:
    """As after a first volume that happened to fit somewhere else."""
    state = still.state()
    wrong = phantom.moved([9.0, -12.0, 5.0], [12.0, -10.0, 8.0])
    state |= {"usual": np.array(0.35), "pose": wrong}
    motion = phantom.moved([0.4, -0.2, 0.3], [0.3, -0.2, 0.4])
    there = Realigner(still.reference)
    there.load_state(state)
    aligned = there.align(phantom.volume(motion, seed=1))
    assert aligned.converged
    assert phantom.error_mm(aligned.rigid, motion) < 0.03


def test_a_change_of_gain_and_offset_is_no_motion(phantom: Phantom, still: Realigner) -> None:
    motion = phantom.moved([0.5, 0.3, -0.4], [0.3, 0.2, -0.4])
    volume = phantom.volume(motion, seed=1, dtype=np.float32)
    brighter = Volume(1.3 * volume.data + 40.0, volume.affine, 2.0, 1, 0)
    assert phantom.error_mm(copy(still).align(brighter).rigid, motion) < 0.03


def test_a_receive_field_that_stays_with_the_scanner_does_not_pull() -> None:
    """The head moves 3 mm through coils that receive up to 1.8 times as much at its edge."""
    coils = Phantom(field=0.8)
    realigner = Realigner(coils.volume())
    errors = []
    for t in range(1, 7):
        motion = coils.moved([0.3 * t, -0.3 * t, 0.25 * t], [0.2 * t, 0.1 * t, -0.2 * t])
        errors.append(coils.error_mm(realigner.align(coils.volume(motion, seed=t)).rigid, motion))
    assert max(errors) < 0.06


def garbled(volume: Volume, how: str) -> Volume:
    rng = np.random.default_rng(3)
    data = {
        "zeros": lambda d: np.zeros_like(d),
        "noise": lambda d: rng.uniform(0, 1000, d.shape).astype(np.float32),
        "scrambled": lambda d: rng.permuted(d, axis=1),
        "nan": lambda d: np.full_like(d, np.nan),
        "inf": lambda d: np.full_like(d, np.inf),
        "huge": lambda d: rng.normal(0, 3e38, d.shape).clip(-3e38, 3e38).astype(np.float32),
        "upside down": lambda d: np.ascontiguousarray(d[:, ::-1, ::-1]),
    }[how](volume.data)
    return Volume(data, volume.affine, 2.0, 1, volume.index)


@pytest.mark.parametrize("how", ["zeros", "noise", "scrambled", "nan", "inf", "huge", "upside down"])
def test_a_garbled_volume_keeps_the_last_pose_and_the_next_is_right(
    phantom: Phantom, still: Realigner, how: str
) -> None:
    realigner = copy(still)
    motions = drift(phantom, 4)
    volumes = [phantom.volume(motion, seed=t + 1, dtype=np.float32) for t, motion in enumerate(motions)]
    before = [realigner.align(volume) for volume in volumes[:2]][-1]
    spoilt = realigner.align(garbled(volumes[2], how))
    assert not spoilt.converged
    assert spoilt.residual > 0.4
    np.testing.assert_array_equal(spoilt.rigid, before.rigid)
    after = realigner.align(volumes[3])
    assert after.converged
    assert phantom.error_mm(after.rigid, motions[3]) < 0.03


def test_single_voxels_that_are_not_finite_do_no_harm(phantom: Phantom, still: Realigner) -> None:
    motion = phantom.moved([0.3, 0.2, 0.1], [0.1, 0.2, 0.3])
    data = phantom.volume(motion, seed=1, dtype=np.float32).data.copy()
    data[20, 20, 10], data[21, 20, 10], data[20, 21, 10] = np.nan, np.inf, -np.inf
    aligned = copy(still).align(Volume(data, phantom.affine, 2.0, 1, 0))
    assert aligned.converged
    assert phantom.error_mm(aligned.rigid, motion) < 0.03
    assert np.isfinite(aligned.volume.data).all()


@pytest.mark.parametrize(("slices", "factor"), [((11,), 0.4), ((4, 5, 6), 1.6), ((3, 9, 15, 21), 0.0)])
def test_slices_at_fault_are_named_and_left_out(
    phantom: Phantom, still: Realigner, slices: tuple[int, ...], factor: float
) -> None:
    realigner = copy(still)
    motions = drift(phantom, 5)
    for t, motion in enumerate(motions[:4]):
        assert realigner.align(phantom.volume(motion, seed=t + 1)).outlier_slices == ()
    data = phantom.volume(motions[4], seed=5, dtype=np.float32).data.copy()
    data[:, :, list(slices)] *= factor
    aligned = realigner.align(Volume(data, phantom.affine, 2.0, 1, 4))
    assert aligned.converged
    assert aligned.outlier_slices == slices
    assert phantom.error_mm(aligned.rigid, motions[4]) < 0.03


def test_a_lasting_change_of_the_image_is_accepted_in_the_end(phantom: Phantom, still: Realigner) -> None:
    realigner = copy(still)
    rng = np.random.default_rng(0)
    for t in range(4):
        realigner.align(phantom.volume(seed=t + 1))
    noisy = [
        Volume(phantom.volume(seed=t).data + rng.normal(0, 100, phantom.shape), phantom.affine, 2.0, 1, t)
        for t in range(10, 35)
    ]
    converged = [realigner.align(volume).converged for volume in noisy]
    assert not converged[0]
    assert converged[-1]


def test_the_resliced_volume_lies_on_the_reference(phantom: Phantom, still: Realigner) -> None:
    motion = phantom.moved([3.0, -2.0, 1.0], [2.0, 1.0, -3.0])
    raw = phantom.volume(motion, seed=1, index=17)
    aligned = copy(still).align(raw)
    resliced = aligned.volume
    assert resliced.shape == phantom.shape
    assert (resliced.run, resliced.index, resliced.tr_s) == (raw.run, raw.index, raw.tr_s)
    np.testing.assert_array_equal(resliced.affine, phantom.affine)
    expected = phantom.volume().data
    inner = (slice(6, -6), slice(6, -6), slice(5, -5))
    moved_by = np.abs(raw.data[inner].astype(float) - expected[inner]).mean()
    left = np.abs(resliced.data[inner] - expected[inner]).mean()
    assert left < 0.35 * moved_by


def test_samples_are_the_resliced_volume_at_a_mask(phantom: Phantom, still: Realigner) -> None:
    aligned = copy(still).align(phantom.volume(phantom.moved([1.0, 0.5, -1.0], [1.0, 0.5, 0.2]), seed=1))
    mask = np.random.default_rng(0).random(phantom.shape) < 0.1
    voxels_V = aligned.sample(mask)
    assert voxels_V.dtype == np.float32
    np.testing.assert_allclose(voxels_V, aligned.volume.data[mask], atol=1e-2)
    points_V3 = (phantom.affine[:3, :3] @ np.argwhere(mask).T + phantom.affine[:3, 3:]).T
    np.testing.assert_allclose(aligned.sample(points_V3), voxels_V, atol=1e-2)
    with pytest.raises(BadVolume, match="shape"):
        aligned.sample(mask[1:])


@pytest.mark.parametrize(
    "box", [(slice(30, 38), slice(2, 9), slice(10, 20)), (slice(0, 3), slice(0, 44), slice(25, 26)), (slice(0, 0),)]
)
def test_samples_of_a_part_need_only_that_part(phantom: Phantom, still: Realigner, box: tuple[slice, ...]) -> None:
    aligned = copy(still).align(phantom.volume(phantom.moved([4.0, -6.0, 5.0], [5.0, -4.0, 6.0]), seed=1))
    mask = np.zeros(phantom.shape, np.bool_)
    mask[box] = True
    np.testing.assert_allclose(aligned.sample(mask), aligned.volume.data[mask], atol=1e-2)


def test_points_outside_of_the_field_of_view_take_the_edge(phantom: Phantom, still: Realigner) -> None:
    raw = phantom.volume(dtype=np.float32)
    aligned = copy(still).align(raw)
    beyond = (phantom.affine @ [20.0, 20.0, 200.0, 1.0])[:3]
    np.testing.assert_allclose(aligned.sample(beyond[None]), raw.data[20, 20, -1], atol=2.0)
    assert aligned.sample(np.empty((0, 3))).shape == (0,)


def test_samples_in_another_space_compose_with_the_motion(phantom: Phantom, still: Realigner) -> None:
    aligned = copy(still).align(phantom.volume(phantom.moved([1.0, 0.5, -1.0], [1.0, 0.5, 0.2]), seed=1))
    to_reference = phantom.moved([20.0, -10.0, 5.0], [30.0, 10.0, -20.0])
    target_V3 = np.random.default_rng(0).uniform(-30, 30, (200, 3))
    reference_V3 = target_V3 @ to_reference[:3, :3].T + to_reference[:3, 3]
    np.testing.assert_allclose(aligned.sample(target_V3, to_reference), aligned.sample(reference_V3), atol=1e-2)


def test_order_in_memory_and_dtype_change_nothing(phantom: Phantom, still: Realigner) -> None:
    motion = phantom.moved([0.6, -0.4, 0.3], [0.4, 0.2, -0.5])
    raw = phantom.volume(motion, seed=1)
    poses = []
    for data in (raw.data, np.asfortranarray(raw.data), raw.data.astype(">f8"), raw.data.astype(np.uint8).astype("i4")):
        if data.dtype.kind == "i" and data.dtype.itemsize == 4:
            data = raw.data.astype(np.int32)
        aligned = copy(still).align(Volume(data, raw.affine, 2.0, 1, 0))
        poses.append(aligned.rigid)
        np.testing.assert_allclose(aligned.volume.data, copy(still).align(raw).volume.data, atol=0.5)
    for pose in poses[1:]:
        assert phantom.error_mm(pose, poses[0]) < 2e-3


def test_volumes_of_another_grid_are_aligned_too(phantom: Phantom, still: Realigner) -> None:
    finer = Phantom(shape=(52, 56, 32), voxel_mm=3.2)
    motion = phantom.moved([1.0, -1.5, 0.5], [1.0, -0.5, 1.5])
    realigner = copy(still)
    aligned = realigner.align(finer.volume(motion, seed=1))
    assert aligned.converged
    assert phantom.error_mm(aligned.rigid, motion) < 0.1
    assert aligned.volume.shape == phantom.shape
    assert realigner.align(phantom.volume(motion, seed=2)).converged


def test_a_given_mask_is_used(phantom: Phantom) -> None:
    motion = phantom.moved([0.6, -0.4, 0.3], [0.4, 0.2, -0.5])
    mask = np.zeros(phantom.shape, np.bool_)
    mask[8:32, 8:36, 4:22] = True
    aligned = Realigner(phantom.volume(), mask).align(phantom.volume(motion, seed=1))
    assert phantom.error_mm(aligned.rigid, motion) < 0.05


@pytest.mark.parametrize("shape", [(32, 32, 20), (40, 44, 6)])
def test_small_grids_work(shape: tuple[int, int, int]) -> None:
    small = Phantom(shape=shape)
    realigner = Realigner(small.volume())
    motion = small.moved([0.4, -0.3, 0.2], [0.3, 0.2, -0.4])
    aligned = realigner.align(small.volume(motion, seed=1))
    assert aligned.converged
    assert small.error_mm(aligned.rigid, motion) < 0.06


@pytest.mark.parametrize("n_slices", [1, 5])
def test_a_slab_is_refused_with_a_code(phantom: Phantom, n_slices: int) -> None:
    volume = phantom.volume()
    slab = Volume(volume.data[:, :, 10 : 10 + n_slices], volume.affine, 2.0, 1, 0)
    with pytest.raises(BadVolume, match="at least 6") as caught:
        Realigner(slab)
    assert caught.value.code == "motion.too_few_slices"
    assert caught.value.details == {"slices": n_slices}


def test_references_without_structure_are_refused(phantom: Phantom) -> None:
    flat = Volume(np.full(phantom.shape, 7, np.int16), phantom.affine, 2.0, 1, 0)
    with pytest.raises(BadVolume, match="does not determine") as caught:
        Realigner(flat, np.ones(phantom.shape, np.bool_))
    assert caught.value.code == "motion.featureless"
    with pytest.raises(BadVolume, match="mask") as caught:
        Realigner(phantom.volume(), np.zeros(phantom.shape, np.bool_))
    assert caught.value.code == "mask.empty"


def test_a_volume_that_lies_elsewhere_is_refused(phantom: Phantom, still: Realigner) -> None:
    volume = phantom.volume()
    affine = volume.affine.copy()
    affine[0, 3] += 900.0
    with pytest.raises(BadVolume, match="overlaps") as caught:
        copy(still).align(Volume(volume.data, affine, 2.0, 1, 0))
    assert caught.value.code == "motion.no_overlap"


def test_a_restored_realigner_gives_the_same_bits(phantom: Phantom, still: Realigner) -> None:
    motions = drift(phantom, 9, seed=2)
    volumes = [phantom.volume(motion, seed=t + 1, index=t) for t, motion in enumerate(motions)]
    volumes[4] = garbled(volumes[4], "scrambled")
    volumes[6] = phantom.volume(phantom.moved([4.0, 0.0, 3.0], [2.0, 3.0, 0.0]), seed=99, index=6)  # a jump
    steady = copy(still)
    expected = [steady.align(volume) for volume in volumes]
    restarted = copy(still)
    for volume, wanted in zip(volumes, expected, strict=True):
        restarted = copy(restarted)
        got = restarted.align(volume)
        assert got.rigid.tobytes() == wanted.rigid.tobytes()
        assert got.residual == wanted.residual
        assert got.converged == wanted.converged
        mask = volume.data > 300
        assert got.sample(mask).tobytes() == wanted.sample(mask).tobytes()
    for name, array in steady.state().items():
        assert array.tobytes() == restarted.state()[name].tobytes(), name
