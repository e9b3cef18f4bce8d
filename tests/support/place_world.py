"""A real head that answers to events, scanned wherever it lies, on any grid, in another contrast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.outputs import TrialBeta, VolumeOutput
from mindsight.ingest.space import SubjectSpace
from mindsight.preprocessing import brain_mask
from mindsight.preprocessing.motion import rigid
from mindsight.preprocessing.motion.spline import prefilter, sample_grid
from mindsight.preprocessing.registration.report import RegistrationReport
from mindsight.volume import Volume
from support.ingest_world import Ticks, trials

TR_S = 2.0
N_VOLUMES = 24
# So short a run of a head that lies still has no six regressors to spare for motion.
OPTIONS = IngestOptions(noise="ols", revised_s=None, motion_confounds=False)
EVENTS = trials(3)
VOXEL_MM = 3.0

Float64Array = NDArray[np.float64]
Contrast = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def as_it_is(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values


def inverted(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bright tissue dark and dark tissue bright; the air stays dark."""
    return np.where(values < 150, 0.3 * values, np.maximum(1200 - values, 60)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Grid:
    """Where slices are. tilt_deg : about x, y and z; up_mm : of the middle, from the head's."""

    shape: tuple[int, int, int] = (76, 84, 56)
    tilt_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    up_mm: float = 0.0

    def affine(self, centre_mm: Float64Array) -> Float64Array:
        affine = np.eye(4)
        affine[:3, :3] = rigid.from_angles(np.radians(self.tilt_deg)) * VOXEL_MM
        middle = centre_mm + np.array([0.0, 0.0, self.up_mm])
        affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(self.shape) - 1) / 2.0)
        return affine


class Head:
    """The first volume of the motion truth, with a response pattern for every trial."""

    def __init__(self, shared: Path) -> None:
        image = nib.load(shared / "data" / "motion_truth" / "typical" / "bold.nii.gz")
        values = ndimage.gaussian_filter(np.asarray(image.dataobj[..., 0], np.float32), 0.6)
        self.affine = np.asarray(image.affine, np.float64)
        head = brain_mask(values)
        self.centre_mm = self.affine[:3, :3] @ np.argwhere(head).mean(axis=0) + self.affine[:3, 3]
        self._values = np.ascontiguousarray(values)
        rng = np.random.default_rng(0)
        patterns = np.stack([ndimage.gaussian_filter(rng.normal(size=values.shape), 3.0) for _ in EVENTS])
        patterns *= 0.02 / patterns.std()
        self._patterns = patterns * head
        since_s = np.arange(N_VOLUMES)[:, None] * TR_S - [event.onset_s for event in EVENTS]
        late_s = np.maximum(since_s, 0.0) / 5.0
        self._course_TK = late_s**3 * np.exp(3.0 - 3.0 * late_s)

    def moved(self, translation_mm: tuple[float, float, float], degrees: tuple[float, float, float]) -> Float64Array:
        return rigid.about(rigid.from_angles(np.radians(degrees)), np.array(translation_mm), self.centre_mm)

    def volume(
        self,
        pose: Float64Array,
        index: int = 0,
        run: int = 1,
        *,
        grid: Grid | None = None,
        at_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
        contrast: Contrast = as_it_is,
        noise: float = 0.5,
    ) -> Volume:
        """One volume with the head at ``pose`` (rest mm -> scanner mm); at_mm : the table, and slices with it."""
        responses = np.tensordot(self._course_TK[index], self._patterns, 1)
        coef = prefilter(np.ascontiguousarray(self._values * (1.0 + responses), np.float32))
        shift = np.eye(4)
        shift[:3, 3] = at_mm
        grid = grid or Grid()
        affine = shift @ grid.affine(self.centre_mm)
        out = np.empty(grid.shape, np.float32)
        matrix = np.linalg.inv(self.affine) @ np.linalg.inv(shift @ pose) @ affine
        sample_grid(coef, np.ascontiguousarray(matrix[:3]), out)
        rng = np.random.default_rng([index, run])
        data = np.rint(np.abs(contrast(out) + rng.normal(0.0, noise, grid.shape))).astype(np.int16)
        return Volume(data, affine, TR_S, run, index)

    def run(self, pose: Float64Array, run: int = 1, **given: object) -> Iterator[Volume]:
        for index in range(N_VOLUMES):
            yield self.volume(pose, index, run, **given)  # type: ignore[arg-type]

    def space(self, contrast: Contrast = as_it_is) -> SubjectSpace:
        """At rest, inside of the brain."""
        reference = self.volume(np.eye(4), contrast=contrast)
        head = brain_mask(self.volume(np.eye(4)).data)
        return SubjectSpace(reference, ndimage.binary_erosion(head, iterations=5))


@dataclass(frozen=True, eq=False)
class Played:
    outputs: list[VolumeOutput]
    finals: list[TrialBeta]

    @property
    def registrations(self) -> list[RegistrationReport]:
        return [output.registration for output in self.outputs if output.registration is not None]

    @property
    def codes(self) -> list[str]:
        return [alert.code for output in self.outputs for alert in output.report.alerts]

    @property
    def betas_KV(self) -> NDArray[np.float32]:
        return np.stack([beta.beta_V for beta in self.finals])


def session(space: SubjectSpace, **given: object) -> IngestSession:
    return IngestSession(OPTIONS, space, clock=Ticks(), **given)  # type: ignore[arg-type]


def play(ingest: IngestSession, volumes: Iterable[Volume], run: int = 1) -> Played:
    begin(ingest, run)
    outputs = [ingest.push(volume) for volume in volumes]
    return Played(outputs, ingest.end_run(run))


def begin(ingest: IngestSession, run: int = 1) -> None:
    ingest.start_run(run, TR_S, N_VOLUMES)
    for event in EVENTS:
        ingest.add_event(run, event)


def error(betas_KV: NDArray[np.float32], of_KV: NDArray[np.float32]) -> float:
    """Root mean square over voxels and trials, as a share of that of the betas themselves."""
    return float(np.sqrt(np.mean((betas_KV - of_KV) ** 2) / np.mean(of_KV**2)))
