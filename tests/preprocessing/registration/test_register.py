"""Between sessions: known poses under another contrast, coverage and grid; other heads; flipped heads; the image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.errors import BadVolume
from mindsight.preprocessing import Realigner, average_reference
from mindsight.preprocessing.figures.pose import draw_registration
from mindsight.preprocessing.motion import rigid
from mindsight.preprocessing.motion.spline import prefilter, sample_grid
from mindsight.preprocessing.registration import register as register_
from mindsight.preprocessing.registration.register import MIN_MARGIN, Registration, register
from mindsight.scanner import read_series
from mindsight.volume import Volume
from support.phantoms import Phantom, Truth

Float64Array = NDArray[np.float64]

FAR = rigid.about(rigid.from_angles(np.radians([18.0, -13.0, 20.0])), np.array([22.0, -28.0, 18.0]), np.zeros(3))
NEAR = rigid.about(rigid.from_angles(np.radians([8.0, -6.0, 9.0])), np.array([7.0, -10.0, 8.0]), np.zeros(3))


def inverted(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bright tissue dark and dark tissue bright; the air stays dark."""
    return np.where(values < 150, 0.3 * values, np.maximum(1200 - values, 60)).astype(np.float32)


def t1_like(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """White matter brighter than grey, fluid dark, the scalp (dim in an EPI) brightest."""
    return np.interp(values, [0, 40, 120, 250, 450, 650, 850, 1430], [0, 20, 700, 950, 900, 700, 450, 120]).astype("f4")


def seen_again(
    volume: Volume,
    motion: Float64Array,
    contrast: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    shape: tuple[int, int, int],
    voxel_mm: tuple[float, float, float],
    degrees: tuple[float, float, float],
    field: float = 0.0,
    up_mm: float = 15.0,
) -> Volume:
    """The head after a motion, in another contrast, on a tilted grid around where it now is, with noise and field."""
    affine = np.eye(4)
    affine[:3, :3] = rigid.from_angles(np.radians(degrees)) @ np.diag(voxel_mm)
    middle = motion[:3, 3] + [0.0, 0.0, up_mm]
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    out = np.empty(shape, np.float32)
    matrix = np.linalg.inv(volume.affine) @ np.linalg.inv(motion) @ affine
    sample_grid(prefilter(np.ascontiguousarray(volume.data, np.float32)), np.ascontiguousarray(matrix[:3]), out)
    out = contrast(out)
    ijk = np.indices(shape)
    x = np.tensordot(affine[0, :3], ijk, 1) + affine[0, 3] - middle[0]
    out = np.abs(out * (1.0 + field * x / 80.0) + np.random.default_rng(0).normal(0.0, 15.0, shape))
    return Volume(out.astype(np.float32), affine, 2.0, 1, 0)


def errors_mm(found: Registration, truth: Float64Array, points: Float64Array) -> Float64Array:
    return np.asarray(np.linalg.norm(((found.rigid - truth) @ points)[:3], axis=0))


@pytest.fixture(scope="module")
def slab(typical: Truth) -> Volume:
    """A third of the head, inverted contrast, oblique, 2.5 x 2.5 x 3 mm, 30 degrees and 40 mm away."""
    shape = (90, 90, 20)
    return seen_again(typical.volumes[0], FAR, inverted, shape, (-2.5, 2.5, 3.0), (-15.0, 0.0, 5.0))


@pytest.fixture(scope="module")
def of_slab(typical: Truth, slab: Volume) -> Registration:
    return register(slab, typical.volumes[0])


@pytest.mark.slow
def test_an_inverted_slab_is_found_from_thirty_degrees_and_forty_millimetres(
    typical: Truth, of_slab: Registration
) -> None:
    assert of_slab.converged
    assert of_slab.margin > 2 * MIN_MARGIN
    errors = errors_mm(of_slab, FAR, typical.points())
    assert errors.mean() < 0.15
    assert errors.max() < 0.3


@pytest.fixture(params=["near", pytest.param("everywhere", marks=pytest.mark.slow)])
def search(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every start of the lattice ("everywhere"), or in short those within one step of no motion ("near")."""
    if request.param == "near":
        monkeypatch.setattr(register_, "TURNS_DEG", (register_.TURNS_DEG[1],) * 2)
        monkeypatch.setattr(register_, "SHIFTS_MM", (register_.SHIFTS_MM[1],) * 2)
    return str(request.param)


@pytest.mark.slow
def test_a_t1_like_contrast_with_a_receive_field_is_found(typical: Truth, search: str) -> None:
    motion = FAR if search == "everywhere" else NEAR
    shape, voxel_mm = (100, 110, 90), (-2.0, 2.0, 2.0)
    moving = seen_again(typical.volumes[0], motion, t1_like, shape, voxel_mm, (0.0, 0.0, 0.0), field=0.4)
    found = register(moving, typical.volumes[0])
    assert found.converged
    assert errors_mm(found, motion, typical.points()).max() < 0.2


@pytest.mark.slow
@pytest.mark.usefixtures("search")
def test_another_acquisition_of_a_real_head_lies_where_realignment_finds_it(trio: list[Volume], shared: Path) -> None:
    image = nib.load(shared / "data" / "trio_run155" / "fanon-0007-00006-000006-01.nii")
    template = Volume(np.ascontiguousarray(image.dataobj), image.affine, 1.97, 1, 0)
    found = register(template, trio[0])
    assert found.converged
    realigned = Realigner(trio[0]).align(template)
    assert realigned.converged
    apart = found.rigid @ rigid.inverse(realigned.rigid)
    assert rigid.displacement_mm(apart, realigned.centre_mm, rigid.LEVER_MM) < 0.1


@pytest.mark.slow  # in short: test_session_reference.py, in an ingest session
def test_another_persons_head_is_not_accepted(trio: list[Volume], shared: Path) -> None:
    # Of 44 pairs of different heads, this one beats its own mirror image by most (0.08).
    other = next(iter(read_series(shared / "data" / "siemens_ve11_multiband_mosaic")))
    found = register(other, trio[0])
    assert not found.converged
    assert found.margin < MIN_MARGIN


@pytest.mark.slow
def test_a_pose_that_is_one_of_many_is_not_accepted(typical: Truth) -> None:
    # Two slabs of which too little is common to both: the search goes astray, and the mirror image's goes further.
    head = typical.volumes[0]
    near = rigid.about(rigid.from_angles(np.radians([6.0, 4.0, -8.0])), np.array([4.0, 6.0, 5.0]), np.zeros(3))
    low = seen_again(head, np.eye(4), np.array, (100, 110, 20), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    high = seen_again(head, near, inverted, (90, 100, 12), (-2.5, 2.5, 3.0), (-8.0, 0.0, 0.0), up_mm=35.0)
    found = register(high, low)
    assert errors_mm(found, near, typical.points()).mean() < 0.5 or not found.converged


@pytest.mark.slow
@pytest.mark.usefixtures("search")
def test_a_flipped_head_is_not_accepted(trio: list[Volume]) -> None:
    flipped = Volume(np.ascontiguousarray(trio[0].data[::-1]), trio[0].affine, trio[0].tr_s, 1, 0)
    found = register(flipped, trio[0])
    assert found.margin < 0.0
    assert not found.converged


@pytest.mark.slow
@pytest.mark.usefixtures("search")
def test_the_same_volumes_give_the_same_bits(phantom: Phantom) -> None:
    motion = phantom.moved([9.0, -14.0, 6.0], [10.0, 6.0, -14.0])
    target, moving = phantom.volume(), phantom.volume(motion, seed=1)
    first, second = register(moving, target), register(moving, target)
    np.testing.assert_array_equal(first.rigid, second.rigid)
    assert (first.margin, first.information_nats, first.overlap) == (
        second.margin,
        second.information_nats,
        second.overlap,
    )
    assert first.converged
    assert phantom.error_mm(first.rigid, motion) < 0.3


def test_what_holds_no_head_is_refused(phantom: Phantom) -> None:
    whole = phantom.volume()
    thin = Volume(whole.data[:, :, :5], whole.affine, 2.0, 1, 0)
    with pytest.raises(BadVolume) as refused:
        register(thin, whole)
    assert refused.value.code == "motion.too_few_slices"
    with pytest.raises(BadVolume) as refused:
        register(whole, Volume(np.zeros(whole.shape, np.int16), whole.affine, 2.0, 1, 0))
    assert refused.value.code == "mask.empty"


@pytest.mark.slow
def test_the_image_shows_whether_outlines_lie_on_edges(typical: Truth, slab: Volume, of_slab: Registration) -> None:
    target = typical.volumes[0]
    picture = draw_registration(slab, target, of_slab)
    assert picture.shape == (532, 768, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, draw_registration(slab, target, of_slab))
    off = np.eye(4)
    off[:3, 3] = [6.0, 6.0, 0.0]
    wrong = Registration(of_slab.rigid @ off, 0.0, of_slab.information_nats, of_slab.overlap)
    assert slope_under_outlines(picture) > 1.1 * slope_under_outlines(draw_registration(slab, target, wrong))


def slope_under_outlines(picture: NDArray[np.uint8]) -> float:
    """How much the grey values change across the coloured lines of the lower row."""
    lower = picture[276:].astype(np.float64)
    coloured = np.ptp(lower, axis=2) > 0
    across = []
    for row, column in np.argwhere(coloured[3:-3, 3:-3]) + 3:
        around = lower[row - 3 : row + 4, column - 3 : column + 4, 0]
        grey = around[~coloured[row - 3 : row + 4, column - 3 : column + 4]]
        across.append(np.std(grey) if grey.size > 4 else 0.0)
    return float(np.mean(across))


def test_a_verdict_can_be_read_off_the_image(phantom: Phantom) -> None:
    volume = phantom.volume()
    good = draw_registration(volume, volume, Registration(np.eye(4), 0.5, 1.0, 1.0))[:20].astype(int)
    bad = draw_registration(volume, volume, Registration(np.eye(4), 0.0, 1.0, 1.0))[:20].astype(int)
    assert good[..., 1].sum() > 2 * good[..., 0].sum()
    assert bad[..., 0].sum() > 2 * bad[..., 1].sum()


@pytest.mark.slow
def test_an_averaged_reference_is_no_worse_than_its_first_volume(typical: Truth) -> None:
    points = typical.points()

    def error_mm(reference: Volume) -> float:
        realigner = Realigner(reference)
        found = [realigner.align(volume).rigid for volume in typical.volumes]
        apart = [(a - b) @ points for a, b in zip(found, typical.rigid_T44, strict=True)]
        return float(np.mean([np.linalg.norm(d[:3], axis=0).mean() for d in apart[6:]]))

    first = typical.volumes[0]
    average = average_reference(typical.volumes[:6], Realigner(first))
    assert average.shape == first.shape
    assert error_mm(average) <= error_mm(first) + 1e-4


def test_an_average_is_less_noisy_and_leaves_out_what_does_not_fit(phantom: Phantom) -> None:
    clean = Phantom(noise=0.0).volume()
    volumes = [phantom.volume(phantom.moved([0.2 * t, 0.0, 0.0], [0.0, 0.1 * t, 0.0]), seed=t) for t in range(6)]
    garbled = Volume(np.random.default_rng(0).permutation(volumes[0].data.ravel()).reshape(volumes[0].shape),
                     volumes[0].affine, 2.0, 1, 6)  # fmt: skip
    average = average_reference([*volumes, garbled], Realigner(volumes[0]))
    inner = (slice(8, -8),) * 3
    noise = [np.std(v.data[inner].astype(float) - clean.data[inner]) for v in (volumes[0], average)]
    assert noise[1] < 0.7 * noise[0]
    with pytest.raises(BadVolume) as refused:
        average_reference([garbled], Realigner(volumes[0]))
    assert refused.value.code == "reference.none_usable"
