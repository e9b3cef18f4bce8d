"""A head that is a formula, so that every pose of it is known without interpolation; and volumes with known motion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from mindsight.preprocessing.motion import rigid
from mindsight.volume import Volume


@dataclass(frozen=True)
class Phantom:
    """An ellipsoid with folds, about 115 x 140 x 94 mm, seen by a scanner with the given grid.

    field : how much more the coils at the edge receive than in the middle; stays with the scanner when the head moves
    """

    shape: tuple[int, int, int] = (40, 44, 26)
    voxel_mm: float = 4.0
    noise: float = 6.0
    field: float = 0.0

    @property
    def affine(self) -> NDArray[np.float64]:
        affine = rigid.about(rigid.from_angles(np.array([0.2, -0.1, 0.05])), np.zeros(3), np.zeros(3))
        affine[:3, :3] *= self.voxel_mm
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(self.shape) - 1) / 2) + [2.0, -5.0, 8.0]
        return affine

    @property
    def centre_mm(self) -> NDArray[np.float64]:
        return np.array([2.0, -5.0, 8.0])

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """(4, V) homogeneous mm of points in the head."""
        points = self.grid_mm
        return np.vstack([points, np.ones(points.shape[1])])[:, self.radius(points) < 1.0]

    def volume(
        self, motion: NDArray[np.float64] | None = None, seed: int = 0, index: int = 0, dtype: type = np.int16
    ) -> Volume:
        """motion : (4, 4) rest mm -> scanner mm."""
        image = _seen(self, np.eye(4).tobytes() if motion is None else np.asarray(motion, np.float64).tobytes())
        image = image + np.random.default_rng(seed).normal(0, self.noise, image.shape)
        return Volume(np.abs(image).reshape(self.shape).astype(dtype), self.affine, 2.0, 1, index)

    def moved(self, translation_mm: list[float], degrees: list[float]) -> NDArray[np.float64]:
        """A motion about the head's centre."""
        return rigid.about(rigid.from_angles(np.radians(degrees)), np.array(translation_mm), self.centre_mm)

    def error_mm(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        """Mean distance over the head between where two motions put it."""
        return float(np.linalg.norm(((a - b) @ self.points)[:3], axis=0).mean())

    @cached_property
    def grid_mm(self) -> NDArray[np.float64]:
        """(3, X Y Z) where the voxels are."""
        ijk = np.indices(self.shape).reshape(3, -1)
        return self.affine[:3, :3] @ ijk + self.affine[:3, 3:]

    def radius(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        half = np.array([[57.6], [70.4], [46.8]])
        return np.linalg.norm((points - self.centre_mm[:, None]) / half, axis=0)


@lru_cache(maxsize=32)  # many tests look more than once at a head that lies still
def _seen(phantom: Phantom, motion: bytes) -> NDArray[np.float64]:
    """(X Y Z,) the image without noise after a motion: the bytes of a (4, 4), rest mm -> scanner mm."""
    back = np.linalg.inv(np.frombuffer(motion).reshape(4, 4))
    points = back[:3, :3] @ phantom.grid_mm + back[:3, 3:]
    radius = phantom.radius(points)
    waves = np.random.default_rng(7)
    folds = sum(
        np.sin(waves.normal(0, 0.12, 3) @ points + waves.uniform(0, 6.28)) for _ in range(12)
    )  # periods of 30 mm and more: well above the voxel size
    image: NDArray[np.float64] = (700.0 + 60.0 * folds) / (1.0 + np.exp(np.clip((radius - 1.0) * 18.0, -50, 50)))
    away = np.linalg.norm(phantom.grid_mm - phantom.centre_mm[:, None], axis=0) / 80.0
    image *= 1.0 + phantom.field * away**2 + 0.3 * phantom.field * (phantom.grid_mm[0] / 80.0)
    image.flags.writeable = False
    return image


@dataclass(frozen=True)
class Truth:
    """Simulated volumes whose motion is known: rigid_T44 maps reference mm -> volume mm."""

    volumes: list[Volume]
    rigid_T44: NDArray[np.float64]
    brain_XYZ: NDArray[np.bool_]

    def points(self) -> NDArray[np.float64]:
        ijk = np.argwhere(self.brain_XYZ)[::5]
        return self.volumes[0].affine @ np.vstack([ijk.T, np.ones(len(ijk))])
