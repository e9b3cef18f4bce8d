"""EPI volumes of a head whose motion is exactly known, sampled directly from a finer anatomy at every pose.

Knows nothing of who estimates the motion. Deterministic: the same name and number of volumes give the same bits.

The anatomy is real, and one person's rather than an average's: the tissue probabilities of the MNI ICBM152 template
(1 mm, installed with nilearn: nothing is downloaded) say where tissue may lie, and a smooth random field per tissue
draws one head from them at 0.8 mm, with edges as sharp as that grid. Around the brain, which is all that the template
holds: CSF, a dark skull, a fat-suppressed scalp. Signal falls out over the sinuses and the ears.

The point spread (0.95 voxel full width) is applied on the fine grid, and each volume's voxels take their values from
there at the pose: the 2 mm grid is never interpolated. Then what a scanner adds: a receive field that stays with it
(0.75 in the middle to 1.8 at the edge), 3 % activation in blobs, a drift of 1 % and a slow wobble of the gain, Rician
noise (tSNR 50 in the mean of the brain), int16.

Not simulated: spin history, distortion that depends on the pose, motion within a volume.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from nilearn import datasets
from numpy.typing import NDArray
from scipy import ndimage

from mindsight.preprocessing.motion import rigid
from mindsight.preprocessing.motion.spline import prefilter, sample_grid
from mindsight.volume import Volume

Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]

FINE_MM = 0.8
SHAPE = (120, 120, 78)
VOXEL_MM = 2.0
TR_S = 1.5
POINT_SPREAD_VOXELS = 0.95  # full width at half maximum
FOLDS_MM = 1.5  # standard deviation of the fields that tell one head from another
SIGNALS = (0.75, 0.60, 1.0)  # grey matter, white matter, CSF in EPI
SHELLS_MM = ((3.0, 0.9), (9.0, 0.05), (14.0, 0.35))  # distance from the brain up to which: CSF, skull, scalp
DROPOUTS = (((0.0, 38.0, -24.0), 16.0), ((52.0, -22.0, -26.0), 12.0), ((-52.0, -22.0, -26.0), 12.0))  # centre, sd, mm
BRAIN_LEVEL = 750.0
TSNR = 50.0
N_BLOBS, BLOB_MM, ACTIVATION = 40, 5.0, 0.03
HEAD_CENTRE_MM = np.array([0.0, -18.0, 8.0])


@dataclass(frozen=True)
class Kind:
    """peak : mm and degrees that the random walk reaches; receive_field : how far the coils' field departs from 1."""

    peak: float
    receive_field: bool
    seed: int


KINDS = {
    "large": Kind(peak=3.0, receive_field=True, seed=1),
    "typical": Kind(peak=0.7, receive_field=True, seed=2),
    "no_field": Kind(peak=1.5, receive_field=False, seed=3),
}


@dataclass(frozen=True)
class Head:
    """coef, active : padded B-spline coefficients of the signal and of what activation adds, point spread applied.

    affine : (4, 4) fine voxel -> mm of the head at rest; brain : (X, Y, Z) bool on the fine grid
    """

    coef: FloatArray
    active: FloatArray
    affine: Array
    brain: NDArray[np.bool_]


def _tissues(
    rng: np.random.Generator, inside: NDArray[np.bool_], p_grey: FloatArray, p_white: FloatArray
) -> FloatArray:
    """Signal of grey matter, white matter and fluid in folds, with texture, and of the shells around the brain."""
    best = np.full(inside.shape, -np.inf, np.float32)
    signal = np.zeros(inside.shape, np.float32)
    for probability, level in zip((p_grey, p_white, 1 - p_grey - p_white), SIGNALS, strict=True):
        field = ndimage.gaussian_filter(rng.standard_normal(inside.shape, np.float32), FOLDS_MM / FINE_MM, truncate=3)
        score = np.log(probability.clip(1e-3, 1.0)) + 1.28 * field / field.std()
        signal[score > best] = level
        np.maximum(best, score, out=best)
    texture = ndimage.gaussian_filter(rng.standard_normal(inside.shape, np.float32), 2.0, truncate=3)
    signal *= 1 + 0.04 * texture / texture.std()
    away_mm = ndimage.distance_transform_edt(~inside, sampling=FINE_MM).astype(np.float32)
    lowest = 0.0
    signal[~inside] = 0.0
    for limit, level in SHELLS_MM:
        signal[(away_mm > lowest) & (away_mm <= limit)] = level
        lowest = limit
    return signal


@cache
def head() -> Head:
    """The anatomy, made once."""
    rng = np.random.default_rng(20)
    grey, white, brain = (
        load(resolution=1)
        for load in (
            datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template,
            datasets.load_mni152_brain_mask,
        )
    )
    margin_mm = 20.0
    corner_mm = brain.affine[:3, 3] - margin_mm
    shape = np.ceil((np.array(brain.shape) + 2 * margin_mm) / FINE_MM).astype(int)
    affine = np.diag([FINE_MM] * 3 + [1.0])
    affine[:3, 3] = corner_mm

    def fine(image: object) -> FloatArray:
        data = np.asarray(image.get_fdata(), np.float32)
        return ndimage.affine_transform(
            data, np.full(3, FINE_MM), offset=np.full(3, -margin_mm), output_shape=tuple(shape), order=1
        )

    inside = fine(brain) > 0.5
    signal = _tissues(rng, inside, fine(grey).clip(0, 1), fine(white).clip(0, 1))
    xyz = [affine[a, 3] + FINE_MM * np.arange(n, dtype=np.float32) for a, n in enumerate(inside.shape)]

    def bump(centre: Array, sd: float) -> FloatArray:
        x, y, z = (np.exp(-((axis - c) ** 2) / (2 * sd * sd)) for axis, c in zip(xyz, centre, strict=True))
        return x[:, None, None] * y[None, :, None] * z[None, None, :]

    for centre, sd in DROPOUTS:
        signal *= 1 - 0.85 * bump(np.array(centre), sd)
    blobs = np.zeros(inside.shape, np.float32)
    places = np.argwhere(inside)
    for place in places[rng.integers(len(places), size=N_BLOBS)]:
        blobs += bump(affine[:3, 3] + FINE_MM * place, BLOB_MM)
    signal *= BRAIN_LEVEL / signal[inside].mean()
    sigma = POINT_SPREAD_VOXELS * VOXEL_MM / 2.3548 / FINE_MM
    active = ndimage.gaussian_filter(signal * ACTIVATION * blobs.clip(0, 1), sigma)
    return Head(prefilter(ndimage.gaussian_filter(signal, sigma)), prefilter(active), affine, inside)


def grid_affine() -> Array:
    """Of the scanner's grid: 2 mm, tilted as a technician would, the head in the middle."""
    affine = rigid.about(rigid.from_angles(np.array([0.2, 0.02, -0.03])), np.zeros(3), np.zeros(3))
    affine[:3, :3] *= VOXEL_MM
    affine[:3, 3] = HEAD_CENTRE_MM - affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return affine


def poses(kind: Kind, n: int) -> Array:
    """(n, 4, 4) rest mm -> scanner mm: a random walk about the first, scaled so that its farthest point is ``peak``."""
    rng = np.random.default_rng(kind.seed)
    steps = rng.standard_normal((n, 6))
    steps[0] = 0.0
    walk = np.cumsum(steps, axis=0)
    walk -= np.linspace(0, 1, n)[:, None] * walk[-1] * 0.5  # come halfway back, or the end alone is far
    walk[:, :3] *= kind.peak / max(np.linalg.norm(walk[:, :3], axis=1).max(), 1e-9)
    walk[:, 3:] *= np.radians(kind.peak) / max(np.linalg.norm(walk[:, 3:], axis=1).max(), 1e-9)
    return np.stack([rigid.exponential(twist, HEAD_CENTRE_MM) for twist in walk])


def receive_field() -> FloatArray:
    """(X, Y, Z) on the scanner's grid."""
    axes = [(np.arange(n) - (n - 1) / 2) * VOXEL_MM / 100.0 for n in SHAPE]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return (0.75 + 0.75 * (x**2 + y**2 + z**2) + 0.12 * x - 0.18 * y + 0.1 * x * z).clip(0.7, 1.8).astype(np.float32)


@dataclass(frozen=True)
class Truth:
    """Volumes and what is known of them: rigid_T44 maps mm of volume 0 -> mm of each; brain_XYZ is volume 0's."""

    volumes: list[Volume]
    rigid_T44: Array
    brain_XYZ: NDArray[np.bool_]


def simulate(name: str, n: int) -> Truth:
    """``n`` volumes of one of KINDS."""
    kind = KINDS[name]
    motions = poses(kind, n)
    rigid_T44 = np.stack([motion @ rigid.inverse(motions[0]) for motion in motions])
    body, affine = head(), grid_affine()
    brain = ndimage.map_coordinates(
        body.brain.astype(np.float32),
        np.einsum("ab,bxyz->axyz", (np.linalg.inv(body.affine) @ affine)[:3], _homogeneous()),
        order=1,
    )
    return Truth(list(_volumes(kind, motions, body, affine)), rigid_T44, brain > 0.5)


def _homogeneous() -> Array:
    return np.concatenate([np.indices(SHAPE), np.ones((1, *SHAPE))]).astype(np.float64)


def _volumes(kind: Kind, motions: Array, body: Head, affine: Array) -> Iterator[Volume]:
    rng = np.random.default_rng(100 + kind.seed)
    field = receive_field() if kind.receive_field else np.ones(SHAPE, np.float32)
    drift = ndimage.gaussian_filter(rng.standard_normal(SHAPE, np.float32), 12.0)
    drift *= 0.01 / np.abs(drift).max()
    n = len(motions)
    for t, motion in enumerate(motions):
        matrix = np.ascontiguousarray((np.linalg.inv(body.affine) @ rigid.inverse(motion) @ affine)[:3])
        still, active = np.empty(SHAPE, np.float32), np.empty(SHAPE, np.float32)
        sample_grid(body.coef, matrix, still)
        sample_grid(body.active, matrix, active)
        response = np.float32(0.5 - 0.5 * np.cos(2 * np.pi * t * TR_S / 30.0))  # blocks of 15 s, as blood answers
        gain = np.float32(1.0 + 0.003 * np.sin(2 * np.pi * t / 40.0))
        clean = (still + response * active) * field * gain * (1 + drift * np.float32(t / max(n - 1, 1)))
        noise = rng.standard_normal((2, *SHAPE), np.float32) * np.float32(BRAIN_LEVEL / TSNR)
        seen = np.hypot(clean + noise[0], noise[1])
        yield Volume(np.rint(seen).astype(np.int16), affine, TR_S, 1, t)
