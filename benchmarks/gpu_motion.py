"""Section of gpu.py: one volume's motion on a device, and the same work as one CUDA graph.

Volumes are smooth noise in an ellipsoid, moved by known fractions of a voxel: enough to time the work and to see that
it is done. How well motion is estimated is for bench_motion.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gpu_bench import Bench
from numpy.typing import NDArray
from scipy import ndimage

from mindsight.preprocessing import Realigner
from mindsight.preprocessing.motion.device import captured
from mindsight.preprocessing.motion.memory_order import in_memory_order
from mindsight.volume import Volume

Array = NDArray[np.float64]
VOXEL_MM, TR_S = 2.0, 1.5
STEP_VOXELS = np.array([0.11, -0.07, 0.05])  # from one volume to the next
N_VOLUMES = 4


def motion(bench: Bench) -> None:
    volumes = phantoms(bench.sizes.volume)
    affine = volumes[0].affine
    inside_V3 = np.argwhere(volumes[0].data > 500)[: bench.sizes.extracted] @ affine[:3, :3].T + affine[:3, 3]
    points_V3 = np.ascontiguousarray(inside_V3)
    realigner = Realigner(volumes[0], device=str(bench.device))
    taken = 0

    def volume() -> float:
        """In mm, how far the estimate is from the known translation."""
        nonlocal taken
        taken = taken % (N_VOLUMES - 1) + 1
        aligned = realigner.align(volumes[taken])
        aligned.sample(points_V3)
        return float(np.abs(np.abs(aligned.rigid[:3, 3]) - VOXEL_MM * np.abs(taken * STEP_VOXELS)).max())

    error_mm = round(max(volume() for _ in range(N_VOLUMES - 1)), 3)
    bench.row("motion, one volume from the host", lambda: volume, error_mm=error_mm)
    bench.row("motion, one volume as a graph", lambda: graph(realigner, volumes[1], points_V3, bench.device))


def phantoms(shape: tuple[int, int, int]) -> list[Volume]:
    rng = np.random.default_rng(0)
    places = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in shape), indexing="ij")
    inside = ndimage.gaussian_filter((sum(axis**2 for axis in places) < 0.6).astype(np.float64), 1.0)
    texture = ndimage.gaussian_filter(rng.standard_normal(shape), 2.5)
    head = 1000.0 * inside * (1.0 + 0.4 * texture / texture.std())
    affine = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    return [
        Volume(
            np.clip(ndimage.shift(head, index * STEP_VOXELS, order=3), 0, 30_000).astype(np.int16),
            affine,
            TR_S,
            1,
            index,
        )
        for index in range(N_VOLUMES)
    ]


def graph(realigner: Realigner, volume: Volume, points_V3: Array, device: torch.device) -> Callable[[], Any]:
    """One volume's work on the device, from and to its own memory."""
    on_device = realigner.on_device
    assert on_device is not None
    values, grid = in_memory_order(volume)
    on_device.load(values, grid)
    where = torch.from_numpy(points_V3).to(device)
    to_voxel = torch.from_numpy(np.linalg.inv(grid.affine)).to(device)

    def work() -> None:
        on_device.follow()
        on_device.volume().sampled(where, to_voxel)

    return captured(work, device)
