"""A simulated scanner: EPI-like volumes of a participant who looks at images.

Knows nothing of files, the network or the wall clock. Its seeds determine everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from mindsight.preprocessing.motion.spline import sample_grid
from mindsight.simulator.anatomy import GRID, Head, grid_points, make_head
from mindsight.simulator.experiment import RunPlan
from mindsight.simulator.participant import Participant
from mindsight.volume import Volume


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise of the measurement.

    physiological_percent : standard deviation of the AR(1) part, percent of the signal
    thermal_percent : standard deviation of the white part, percent of the brain's mean signal
    ar : lag-one correlation of the AR(1) part
    drift_percent : size of the slow drift over a run
    motion_mm : standard deviation of the head's slow drift over a run (in degrees, half this number)
    jumps, spikes : sudden movements of about half a millimetre, and volumes with broken slices, per run
    """

    physiological_percent: float = 0.35
    thermal_percent: float = 0.35
    ar: float = 0.35
    drift_percent: float = 1.0
    motion_mm: float = 0.15
    jumps: int = 1
    spikes: int = 1


QUIET = Noise(0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)


def haemodynamic_response(t_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Difference of two gamma densities, peak at 5 s, undershoot at 15 s (Friston et al. 1998), at times ``t_s``."""
    return np.asarray(stats.gamma.pdf(t_s, 6.0) - stats.gamma.pdf(t_s, 16.0) / 6.0)


def response_courses(plan: RunPlan) -> NDArray[np.float64]:
    """(T, K) time course of each shown image at the start of each volume; 1 is the peak of a single image."""
    step_s = 0.05
    fine_s = np.arange(0.0, 32.0, step_s)
    duration_s = plan.shown[0].duration_s if plan.shown else 3.0
    box = np.ones(round(duration_s / step_s))
    course = np.convolve(haemodynamic_response(fine_s), box)[: len(fine_s)]
    course /= course.max()
    t_s = np.arange(plan.n_volumes) * plan.tr_s
    columns = [np.interp(t_s - shown.onset_s, fine_s, course, left=0.0, right=0.0) for shown in plan.shown]
    return np.stack(columns, axis=1) if columns else np.zeros((plan.n_volumes, 0))


def rigid_matrix(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) head mm -> scanner mm from (6,) millimetres and radians, rotations about x, then y, then z."""
    cx, cy, cz = np.cos(pose[3:])
    sx, sy, sz = np.sin(pose[3:])
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = rz @ ry @ rx
    matrix[:3, 3] = pose[:3]
    return matrix


class SimulatedScanner:
    """Runs of one participant's session.

    participant : determines the head and its responses
    seed : of this session's noise and movement
    """

    def __init__(self, participant: Participant, seed: int, noise: Noise | None = None) -> None:
        self.participant = participant
        self.noise = Noise() if noise is None else noise
        self.seed = seed
        self.head: Head = make_head(participant.seed, participant.left_V, participant.centre_V2)
        x, y, z = grid_points(GRID, self.head.affine)
        # a coil array is more sensitive to the rim than to the centre, and does not move with the head
        self._receive = 0.8 + 0.5 * ((x / 100) ** 2 + (y / 110) ** 2 + (z / 90) ** 2)

    def poses(self, plan: RunPlan) -> NDArray[np.float64]:
        """(T, 6) pose of the head per volume: translation mm, rotation rad. Starts at rest."""
        rng = np.random.default_rng([self.seed, plan.run, 4])
        steps = rng.normal(size=(plan.n_volumes, 6))
        wander = ndimage.gaussian_filter1d(np.cumsum(steps, axis=0), 3.0, axis=0) / np.sqrt(plan.n_volumes)
        poses = wander * self.noise.motion_mm * np.array([0.5, 0.8, 1.0, 0.0, 0.0, 0.0])
        poses[:, 3:] = wander[:, 3:] * np.deg2rad(self.noise.motion_mm / 2.0) * np.array([1.4, 0.6, 0.6])
        for at in rng.integers(plan.n_volumes // 4, plan.n_volumes, self.noise.jumps):
            poses[at:] += rng.normal(size=6) * np.array([0.2, 0.3, 0.4, 0.003, 0.0015, 0.0015])
        return np.asarray(poses - poses[0])

    def clean_volume(self, pose: NDArray[np.float64], percent_V: NDArray[np.float64]) -> NDArray[np.float64]:
        """(X, Y, Z) noise-free image with the head at ``pose`` and visual voxels at ``percent_V`` signal change."""
        to_head = np.linalg.inv(rigid_matrix(pose)) @ self.head.affine
        to_fine = np.linalg.inv(self.head.fine_affine) @ to_head
        image = np.empty(GRID, np.float32)
        sample_grid(self.head.fine_XYZ, np.ascontiguousarray(to_fine[:3]), image)
        change = np.zeros(GRID)
        change[tuple(self.head.visual_V3.T)] = percent_V
        to_grid = np.linalg.inv(self.head.affine) @ to_head
        change = ndimage.affine_transform(change, to_grid[:3, :3], to_grid[:3, 3], order=1, mode="nearest")
        return np.asarray(image.clip(0.0) * (1.0 + change / 100.0) * self._receive)

    def run(self, plan: RunPlan, responses_NV: NDArray[np.float64]) -> Iterator[Volume]:
        """The run's volumes, int16, in order.

        responses_NV : (candidates, V) percent signal change of the participant for every image of the pool
        """
        noise = self.noise
        rng = np.random.default_rng([self.seed, plan.run, 5])
        shown = [s.candidate for s in plan.shown]
        course_TV = response_courses(plan) @ responses_NV[shown]
        poses = self.poses(plan)
        spikes = set(rng.integers(plan.n_volumes // 5, plan.n_volumes, noise.spikes).tolist())
        drift_XYZ = ndimage.gaussian_filter(rng.normal(size=GRID), 4.0)
        drift_XYZ *= noise.drift_percent / 100.0 / max(float(drift_XYZ.std()), 1e-12)
        innovation = noise.physiological_percent / 100.0 * np.sqrt(1.0 - noise.ar**2)
        physiological = noise.physiological_percent / 100.0 * rng.normal(size=GRID)
        for index in range(plan.n_volumes):
            clean = self.clean_volume(poses[index], course_TV[index])
            if index:
                physiological = noise.ar * physiological + innovation * rng.normal(size=GRID)
            slow = drift_XYZ * np.cos(np.pi * index / plan.n_volumes)
            data = clean * (1.0 + physiological + slow)
            thermal = 800.0 * noise.thermal_percent / 100.0
            data = np.hypot(data + thermal * rng.normal(size=GRID), thermal * rng.normal(size=GRID))
            if index in spikes:
                data[..., rng.integers(0, 2) :: 2] *= 0.85
            yield Volume(np.rint(data).astype(np.int16), self.head.affine, plan.tr_s, plan.run, index)
