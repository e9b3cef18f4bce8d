"""The steps of ``newton`` in torch, on a GPU: steps and sampling without host synchronisation.

Knows nothing of when a pose can be trusted; see ``realign``. The same sums over the same voxels as on the processor,
in another order and with float64 where that one has float32, so that poses agree to 2e-3 mm and samples to 1e-4 of the
mean value; the bits differ. A fixed number of steps, so that they can be captured as one CUDA graph: nothing here
branches on a value, allocates by one, or reads one back.

A spline's coefficients are a linear function of each line of samples. Here that is a matrix product per axis, which a
GPU does at once, instead of a recursion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mindsight.errors import NotFound
from mindsight.preprocessing.motion.memory_order import Grid
from mindsight.preprocessing.motion.newton import LENGTH_MM, N_NUISANCE, Frame, Points
from mindsight.preprocessing.motion.spline import FloatArray

Float64Array = NDArray[np.float64]

STEPS = 4  # each leaves a twentieth of the error
_SERIES = 10  # terms of the exponential of a twist under a radian: below 1e-9


def interpolate(coef_XYZ: Tensor, points_V3: Tensor) -> Tensor:
    """(V,) values of padded cubic B-spline coefficients at voxel coordinates (float64); outside the edge repeats."""
    n_y, n_z = coef_XYZ.shape[1:]
    coordinates = torch.nan_to_num(points_V3).unbind(1)
    points_V3 = torch.stack([c.clamp(0.0, n - 4.0) for c, n in zip(coordinates, coef_XYZ.shape, strict=True)], dim=1)
    cell_V3 = points_V3.floor()
    weights_V34 = _weights((points_V3 - cell_V3).float())
    i_V, j_V, k_V = cell_V3.long().unbind(1)
    tap = torch.arange(4, device=coef_XYZ.device)
    offset_64 = ((tap[:, None, None] * n_y + tap[:, None]) * n_z + tap).reshape(64)
    taps_V64 = coef_XYZ.reshape(-1)[((i_V * n_y + j_V) * n_z + k_V)[:, None] + offset_64]
    return torch.einsum("vxyz,vx,vy,vz->v", taps_V64.reshape(-1, 4, 4, 4), *weights_V34.unbind(1))


def _weights(t: Tensor) -> Tensor:
    """(..., 4) cubic B-spline weights at offsets t in [0, 1) from the second tap."""
    s = 1.0 - t
    w_0, w_1, w_3 = s**3 / 6.0, 2.0 / 3.0 - t * t * (1.0 - 0.5 * t), t**3 / 6.0
    return torch.stack([w_0, w_1, 1.0 - w_0 - w_1 - w_3, w_3], dim=-1)


def prefilter_matrix(n: int) -> Float64Array:
    """(n + 3, n) samples of a line -> its B-spline coefficients with their mirrored margins."""
    if n == 1:
        return np.ones((4, 1))
    between = np.diag(np.full(n, 4.0)) + np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)
    between[0, 1] = between[-1, -2] = 2.0
    period = 2 * n - 2
    rows = np.abs(np.arange(-1, n + 2)) % period
    return np.asarray(6.0 * np.linalg.inv(between)[np.where(rows >= n, period - rows, rows)])


@dataclass(frozen=True, slots=True)
class DeviceVolume:
    """One volume's coefficients on the device, and how to get points there."""

    coef_XYZ: Tensor
    points_at: Callable[[NDArray[Any]], Tensor]

    def sample(self, where: NDArray[Any], to_voxel: Float64Array) -> NDArray[np.float32]:
        """(V,) values at to_voxel (4, 4) @ [p, 1], p being the indices of the voxels of a mask or points (V, 3)."""
        matrix = torch.from_numpy(to_voxel).to(self.coef_XYZ.device)
        return self.sampled(self.points_at(where), matrix).cpu().numpy()

    def sampled(self, points_V3: Tensor, to_voxel: Tensor) -> Tensor:
        """As ``sample``, for points and a matrix that are on the device, without host synchronisation."""
        return interpolate(self.coef_XYZ, _moved(to_voxel, points_V3))


class OnDevice:
    """A reference on a device, and the work on each volume there.

    device : as torch names it

    Raises NotFound (``device.unknown``) if this machine, or the torch installed, has no such device.
    """

    def __init__(self, frame: Frame, points: Points, device: str) -> None:
        self._device = _found(device)
        self._frame, self._n_points = frame, len(points.ijk_N3)
        self._coef = self._tensor(frame.coef, torch.float32)
        self._ijk_N3, self._slope_N3 = self._tensor(points.ijk_N3), self._tensor(points.slope_N3)
        self._to_reference = self._tensor(np.linalg.inv(frame.affine))
        self._reference_mm, self._centre_mm = self._tensor(frame.affine), self._tensor(frame.centre_mm)
        self._lengthen_66 = self._tensor(frame.lengthen_66)
        self._pose, self._gain = self._tensor(np.eye(4)), self._tensor(np.ones(()))
        self.size_mm = self._tensor(np.zeros(()))
        self._grid: Grid | None = None
        self._work: Callable[[], Any] = lambda: None
        self._where: tuple[NDArray[Any], Tensor] | None = None

    def _tensor(self, array: NDArray[Any], dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.tensor(array).to(self._device, dtype)

    def load(self, values: FloatArray, grid: Grid) -> None:
        """Take a volume to the device; for another grid than the last, prepare for it first."""
        if self._grid is None or not grid.same_as(self._grid):
            self.settle(grid)
        self._values.copy_(torch.from_numpy(values if values.flags.writeable else values.copy()))

    def descend(self, pose: Float64Array, gain: float, keep_Z: NDArray[np.bool_]) -> tuple[Float64Array, float]:
        """The pose STEPS steps further, and the length in mm of the last of them (a turn as an arc at LENGTH_MM).

        Waits for the device, once. Afterwards the volume's coefficients are there, too: ``volume``.
        """
        self._pose.copy_(torch.from_numpy(pose))
        self._gain.fill_(gain)
        self._keep_Z.copy_(torch.from_numpy(keep_Z.astype(np.float64)))
        self._work()
        return self._pose.cpu().numpy(), float(self.size_mm)

    def volume(self) -> DeviceVolume:
        """A copy of the volume that was last descended on."""
        return DeviceVolume(self._volume_coef.clone(), self._points_at)

    def _points_at(self, where: NDArray[Any]) -> Tensor:
        """(V, 3) coordinates of a mask's voxels, or the points themselves; unchanged ones stay on the device."""
        if self._where is None or not np.array_equal(where, self._where[0]):
            self._where = where.copy(), self._tensor(np.argwhere(where) if where.dtype == np.bool_ else where)
        return self._where[1]

    def settle(self, grid: Grid) -> None:
        self._grid = grid
        self._grid_mm, self._to_grid = self._tensor(grid.affine), self._tensor(np.linalg.inv(grid.affine))
        self._shape = self._tensor(np.array(grid.shape))
        self._filters = [self._tensor(prefilter_matrix(n), torch.float32) for n in grid.shape]
        self._values = self._tensor(np.zeros(grid.shape), torch.float32)
        self._volume_coef = self._tensor(np.zeros([n + 3 for n in grid.shape]), torch.float32)
        self._keep_Z = self._tensor(np.ones(grid.n_slices))
        self._slice_axis = grid.slice_axis
        self._work = captured(self.follow, self._device)

    def follow(self) -> None:
        """Filter a volume and descend, from buffers to buffers, without host synchronisation."""
        a_x, a_y, a_z = self._filters
        lines = torch.tensordot(a_x, self._values, dims=([1], [0]))
        lines = torch.matmul(a_y, lines)
        torch.matmul(lines, a_z.T, out=self._volume_coef)
        pose, twist = self._pose.clone(), torch.zeros_like(self._lengthen_66[0])
        for _ in range(STEPS):
            twist = self._step(pose)
            pose = _exponential(twist, self._centre_mm) @ pose
        self._pose.copy_(pose)
        self.size_mm.copy_(twist[:3].norm() + LENGTH_MM * twist[3:].norm())

    def _step(self, pose: Tensor) -> Tensor:
        """As ``newton.step``: (6,) mm and rad."""
        volume_mm = pose @ self._grid_mm  # voxel of the volume -> reference mm
        nearest_N3 = (_moved(self._to_grid @ _inverse(pose) @ self._reference_mm, self._ijk_N3) + 0.5).floor()
        inside_N = ((nearest_N3 >= 0) & (nearest_N3 < self._shape)).all(dim=1)
        x_N3 = torch.minimum(torch.nan_to_num(nearest_N3).clamp(min=0.0), self._shape - 1)
        i_N, j_N, k_N = x_N3.long().unbind(1)
        weight_N = inside_N * self._keep_Z[x_N3[:, self._slice_axis].long()]
        reference_N = interpolate(self._coef, _moved(self._to_reference @ volume_mm, x_N3)).double() / self._frame.level
        values_N = self._values[i_N, j_N, k_N].double() / (self._gain * self._frame.level)
        u_N3 = (_moved(volume_mm, x_N3) - self._centre_mm) / LENGTH_MM
        x, y, z = u_N3.unbind(1)
        shape_NA = torch.stack([torch.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, x * z, y * z], dim=1)
        columns_NC = torch.cat(
            [
                torch.ones_like(x)[:, None],
                shape_NA * reference_N[:, None],
                self._slope_N3,
                torch.linalg.cross(u_N3, self._slope_N3),
                (values_N - reference_N)[:, None],
            ],
            dim=1,
        )
        sums_CC = (columns_NC * weight_N[:, None]).T @ columns_NC
        twist = self._lengthen_66 @ _eliminated(sums_CC)[N_NUISANCE:-1, -1]
        return torch.cat([twist[:3], twist[3:] / LENGTH_MM])


def _found(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch build without CUDA
        raise NotFound(
            f"expected a device that torch can use here, got {name!r} ({str(error).splitlines()[0]}): leave the "
            "setting empty to use the processor",
            code="device.unknown",
        ) from error
    return device


def _moved(matrix: Tensor, points_N3: Tensor) -> Tensor:
    return points_N3 @ matrix[:3, :3].T + matrix[:3, 3]


def _inverse(motion: Tensor) -> Tensor:
    """Inverse of a rigid (4, 4) motion."""
    out = motion.clone()
    out[:3, :3] = motion[:3, :3].T
    out[:3, 3] = -(motion[:3, :3].T @ motion[:3, 3])
    return out


def _eliminated(sums_CC: Tensor) -> Tensor:
    """Gauss-Jordan over all columns but the last, which then holds the solution.

    A library's solver may synchronise with the host.

    The matrix is one of sums of products, so that its diagonal serves as pivots.
    """
    for c in range(sums_CC.shape[0] - 1):
        row = sums_CC[c] / sums_CC[c, c]
        column = sums_CC[:, c].clone()
        column[c] -= 1.0
        sums_CC = sums_CC - column[:, None] * row[None, :]
    return sums_CC


def _exponential(twist: Tensor, centre_mm: Tensor) -> Tensor:
    """(4, 4) motion of a twist (t, w) about the centre, by the series."""
    t, w = twist[:3], twist[3:]
    zero = torch.zeros_like(w[0])
    generator = torch.stack(
        [
            torch.stack([zero, -w[2], w[1], t[0]]),
            torch.stack([w[2], zero, -w[0], t[1]]),
            torch.stack([-w[1], w[0], zero, t[2]]),
            torch.zeros_like(twist[:4]),
        ]
    )
    identity = torch.eye(4, dtype=twist.dtype, device=twist.device)
    motion = identity
    for k in range(_SERIES, 0, -1):
        motion = identity + generator @ motion / k
    about = motion.clone()
    about[:3, 3] = motion[:3, 3] + centre_mm - motion[:3, :3] @ centre_mm
    return about


def captured(work: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """``work`` as one CUDA graph, if the device has them; it must read and write buffers that stay."""
    if device.type != "cuda":
        return work
    with torch.cuda.device(device):
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):  # libraries choose their kernels in the first call
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay
