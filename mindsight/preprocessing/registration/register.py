"""Rigid registration of one session's head to another's volume from a cold start, with a verdict.

Knows nothing of runs or time; set-up code, some seconds long. Contrast, grid, orientation and coverage may differ.
Every rotation and translation of a lattice is tried on 8 mm blocks, and the best are refined on finer and finer images
by Powell's method (M. Powell, Computer Journal 7(2), 1964).

The verdict: any two heads share some information, and how much depends on contrast, noise and coverage, so no fixed
threshold separates the same head from another. A mirrored head, however, is another head with the same contrast, noise
and coverage. The search is repeated with it: the same head has much more information than its mirror image, another
person's head has as much, and a head that was stored flipped has less. Wrong poses also come in great number: the right
one stands out from the next best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from mindsight.preprocessing.motion import rigid
from mindsight.preprocessing.motion.pyramid import Pyramid
from mindsight.preprocessing.registration.mutual_information import Comparison, Image
from mindsight.volume import Volume

Float64Array = NDArray[np.float64]

LEVELS_MM = (8.0, 4.0, 2.0)
POINTS = (1500, 6000, 30000)
BEAM = 256  # poses of the lattice that are moved by half a step if that is better
CANDIDATES = (32, 6, 1)  # refined at each level
GAINS = (1e-2, 1e-3, 1e-6)  # relative; a round of line searches that gains less is the last
TURNS_DEG = (37.8, 12.6)  # how far the search goes, and in what steps
SHIFTS_MM = (48.0, 16.0)  # from where the heads' centres meet
HEADER_SHIFTS_MM = (16.0, 16.0)  # from where the headers say
APART_MM = 12.0  # candidates nearer to a better one than this are the same
MAX_EVALUATIONS = 600

MIN_MARGIN = 0.12
MIN_OVERLAP = 0.3


@dataclass(frozen=True, slots=True)
class Registration:
    """Where the target's head is in another volume.

    rigid : (4, 4) target mm -> moving mm
    margin : how much better the pose is than wrong ones, 1 - information at the best wrong pose / at this one; wrong
        are the best pose of the head's mirror image, and the next best pose. About 0 for another person (at most
        0.05 in 44 pairs of real heads), negative for a flipped head, 0.2 to 0.9 for the same one
    information_nats : mutual information per point at the pose; comparable only between poses of the same images
    overlap : share of the smaller head that lies in the other volume's field of view
    converged : margin at least MIN_MARGIN and overlap at least MIN_OVERLAP; False: do not use the pose
    """

    rigid: Float64Array
    margin: float
    information_nats: float
    overlap: float

    @property
    def converged(self) -> bool:
        return self.margin >= MIN_MARGIN and self.overlap >= MIN_OVERLAP


def register(moving: Volume, target: Volume) -> Registration:
    """Find the target's head in ``moving``: up to about 30 degrees and 40 mm beyond the heads' centres or the headers.

    Two slabs of which less than about two thirds of the smaller lies in the other may not be found (and are then not
    ``converged``). A head that equals its own mirror image, as a symmetric template does, cannot be
    distinguished from another.

    Deterministic. Look at ``converged``, and at ``draw_registration``'s image. Raises BadVolume
    (``motion.too_few_slices``, ``mask.empty``) if there is no head to register.
    """
    of_target, of_moving = Pyramid(target, LEVELS_MM), Pyramid(moving, LEVELS_MM)
    # Points of the smaller head: most of them lie in the other's field of view if the pose is right.
    swap = of_moving.head_mm3 < of_target.head_mm3
    small, large = (of_moving, of_target) if swap else (of_target, of_moving)
    points = [small.points(n) for n in POINTS]
    finest, pose, next_best = _search(small, large.images, large.centre_mm, points)
    information, overlap = finest.at(pose)
    mirror_finest, mirror_pose, _ = _search(small, large.mirrored(), large.centre_mm, points)
    own, mirrors = finest.score(pose), mirror_finest.score(mirror_pose)
    margin = 1.0 - max(mirrors / own, next_best) if own > 0.0 else 0.0
    return Registration(rigid.inverse(pose) if swap else pose, margin, information, overlap)


def _search(
    small: Pyramid, others: Sequence[Image], other_centre_mm: Float64Array, points: Sequence[Float64Array]
) -> tuple[Comparison, Float64Array, float]:
    """The best pose, small's mm -> the other's mm; the comparison on the finest images; the next best's share.

    The share is that of the best pose's information, on the finest images on which more than one was refined; 0 if
    all came to the same.
    """
    levels = [
        Comparison(ours, other, points_N3) for ours, other, points_N3 in zip(small.images, others, points, strict=True)
    ]
    poses = _starts(levels[0], small.centre_mm, other_centre_mm)
    next_best = 0.0
    for level, count, gain in zip(levels, CANDIDATES, GAINS, strict=True):
        refined = [_refine(level, pose, small.centre_mm, gain) for pose in poses[:count]]
        refined.sort(key=level.score, reverse=True)
        poses = _distinct(refined, small.centre_mm, count)
        if count > 1:
            best, *rest = [level.score(pose) for pose in poses]
            next_best = max(rest, default=0.0) / max(best, 1e-12)
    return levels[-1], poses[0], next_best


def _starts(comparison: Comparison, centre_mm: Float64Array, other_centre_mm: Float64Array) -> list[Float64Array]:
    """The best poses of the lattice, best first: around the heads' centres, and around what the headers say."""
    met = other_centre_mm - centre_mm + _lattice(*SHIFTS_MM)
    shifts = np.concatenate([met, _lattice(*HEADER_SHIFTS_MM)])
    poses: list[Float64Array] = []
    scores: list[float] = []
    for turn in np.radians(_lattice(*TURNS_DEG)):
        rotation = rigid.exponential(np.concatenate([np.zeros(3), turn]), np.zeros(3))[:3, :3]
        turned = np.tile(rigid.about(rotation, np.zeros(3), centre_mm), (len(shifts), 1, 1))
        turned[:, :3, 3] = centre_mm + shifts - rotation @ centre_mm
        poses += list(turned)
        scores += comparison.scores(turned).tolist()
    beam = _best(poses, scores)[:BEAM]
    half = np.diag([SHIFTS_MM[1] / 2.0] * 3 + [np.radians(TURNS_DEG[1] / 2.0)] * 3)
    steps = np.array([rigid.exponential(twist, centre_mm) for twist in np.concatenate([np.zeros((1, 6)), half, -half])])
    moved, moved_scores = [], []
    for pose in beam:
        around = comparison.scores(pose @ steps)
        moved.append(pose @ steps[np.argmax(around)])
        moved_scores.append(float(around.max()))
    return _distinct(_best(moved, moved_scores), centre_mm, CANDIDATES[0])


def _best(poses: Sequence[Float64Array], scores: Sequence[float]) -> list[Float64Array]:
    """The poses in order of their scores, highest first."""
    return [poses[i] for i in np.argsort(-np.array(scores), kind="stable").tolist()]


def _lattice(radius: float, step: float) -> Float64Array:
    """(N, 3) points of a cubic lattice within a ball around 0."""
    axis = np.arange(-(radius // step), radius // step + 1) * step
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(points[np.linalg.norm(points, axis=1) <= radius])


def _distinct(poses: Sequence[Float64Array], centre_mm: Float64Array, count: int) -> list[Float64Array]:
    """The first ``count`` of the poses that are not near an earlier one."""
    kept: list[Float64Array] = []
    for pose in poses:
        back = [rigid.inverse(other) for other in kept]
        if all(rigid.displacement_mm(other @ pose, centre_mm, rigid.LEVER_MM) > APART_MM for other in back):
            kept.append(pose)
            if len(kept) == count:
                break
    return kept


def _refine(comparison: Comparison, start: Float64Array, centre_mm: Float64Array, gain: float) -> Float64Array:
    """The best pose near ``start``; rotations are searched as lengths at LEVER_MM."""
    unit_6 = np.array([1.0, 1.0, 1.0, *[1.0 / rigid.LEVER_MM] * 3])

    def moved(mm_6: Float64Array) -> Float64Array:
        return start @ rigid.exponential(mm_6 * unit_6, centre_mm)

    def loss(mm_6: Float64Array) -> float:
        return -comparison.score(moved(mm_6))

    options: Any = {"xtol": 1e-3, "ftol": gain, "maxfev": MAX_EVALUATIONS}
    return moved(optimize.minimize(loss, np.zeros(6), method="Powell", options=options).x)
