"""A map of voxels as seen through the head: the highest value along each of three directions.

Two drawings. ``projections`` stays in the subject's own space, with the outline of the mask, and needs no atlas.
``on_template`` is nilearn's glass brain, with the template's outlines: the head is moved to the template's centre, not
warped, so places are approximate. Knows nothing of what the values mean. V voxels of the mask, in C order of XYZ.
"""

from __future__ import annotations

import importlib.util
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

PANEL_PX = 200
_GROUND, _LINE = np.array([21, 26, 33], np.float32), np.array([125, 137, 152], np.float32)
_COLOURS = np.array([[21, 26, 33], [40, 90, 150], [90, 169, 230], [230, 200, 90], [240, 120, 50]], np.float32)
_TEMPLATE_CENTRE_MM = np.array([0.0, -17.0, 8.0])  # of the brain in MNI152


def projections(
    value_V: NDArray[np.float32], mask_XYZ: NDArray[np.bool_], affine: NDArray[np.float64], top: float
) -> NDArray[np.uint8]:
    """(PANEL_PX, 3 * PANEL_PX, 3) image: from the right, from behind, from above; up is up, the subject's left is left.

    affine : (4, 4) of the grid, RAS+ millimetres; axes may be in any order
    top : value with full colour; nothing is drawn at 0 and below, nor where the value is NaN
    """
    from nibabel import orientations

    space: Any = orientations  # without types
    value_XYZ = np.zeros(mask_XYZ.shape, np.float32)
    value_XYZ[mask_XYZ] = np.clip(np.nan_to_num(value_V) / max(top, 1e-6), 0.0, 1.0)
    order = space.io_orientation(affine)
    value_XYZ, mask_RAS = (space.apply_orientation(one, order) for one in (value_XYZ, mask_XYZ))
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)[np.argsort(order[:, 0])]
    panels = [
        _panel(value_XYZ.max(axis=axis), mask_RAS.any(axis=axis), np.delete(spacing_mm, axis)) for axis in range(3)
    ]
    return np.concatenate(panels, axis=1)


def _panel(
    value_AB: NDArray[np.float32], inside_AB: NDArray[np.bool_], spacing_mm: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """At true proportions by nearest neighbours, the second axis upwards."""
    sides_mm = np.array(value_AB.shape) * spacing_mm
    pixel_mm = float(sides_mm.max()) * 1.08 / PANEL_PX
    rows, columns = np.indices((PANEL_PX, PANEL_PX)).astype(np.float32) - (PANEL_PX - 1) / 2.0
    a = np.floor(columns * pixel_mm / spacing_mm[0] + value_AB.shape[0] / 2.0).astype(int)
    b = np.floor(-rows * pixel_mm / spacing_mm[1] + value_AB.shape[1] / 2.0).astype(int)
    on_grid = (a >= 0) & (a < value_AB.shape[0]) & (b >= 0) & (b < value_AB.shape[1])
    a, b = a.clip(0, value_AB.shape[0] - 1), b.clip(0, value_AB.shape[1] - 1)
    inside = on_grid & inside_AB[a, b]
    value = np.where(inside, value_AB[a, b], 0.0)
    pixels = np.stack([np.interp(value, np.linspace(0, 1, len(_COLOURS)), _COLOURS[:, k]) for k in range(3)], axis=-1)
    edge = inside.copy()
    edge[1:-1, 1:-1] &= ~(inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:])
    pixels[edge] = _LINE
    pixels[~inside] = _GROUND
    return np.asarray(np.rint(pixels), dtype=np.uint8)


def on_template(
    value_V: NDArray[np.float32],
    mask_XYZ: NDArray[np.bool_],
    head_XYZ: NDArray[np.bool_],
    affine: NDArray[np.float64],
    top: float,
) -> bytes | None:
    """A PNG; None if nilearn or matplotlib is not installed.

    head_XYZ : the head in the reference, whose box is centred on the template's brain
    """
    if any(importlib.util.find_spec(name) is None for name in ("nilearn", "matplotlib")):
        return None
    import nibabel
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from nilearn.plotting import plot_glass_brain

    value_XYZ = np.zeros(mask_XYZ.shape, np.float32)
    value_XYZ[mask_XYZ] = np.nan_to_num(value_V).clip(0.0)
    nifti: Any = nibabel.Nifti1Image  # without types
    image = nifti(value_XYZ, _centred(head_XYZ, affine))
    figure = Figure(figsize=(9.0, 2.6), facecolor="black")
    FigureCanvasAgg(figure)
    plot_glass_brain(
        image,
        figure=figure,
        display_mode="lyrz",
        black_bg=True,
        colorbar=True,
        cmap="inferno",
        threshold=0.02 * top,
        vmin=0.0,
        vmax=top,
        plot_abs=False,
        symmetric_cbar=False,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=80, facecolor="black", metadata={"Software": None})
    return buffer.getvalue()


def _centred(head_XYZ: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine with the head's box centred on the template's brain."""
    points_K3 = np.argwhere(head_XYZ) @ affine[:3, :3].T + affine[:3, 3]
    moved = affine.copy()
    moved[:3, 3] += _TEMPLATE_CENTRE_MM - (points_K3.min(axis=0) + points_K3.max(axis=0)) / 2.0
    return moved
