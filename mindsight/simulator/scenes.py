"""Synthetic images: bold shapes before a sky and a ground, rendered from a few parameters.

Knows nothing of participants, models or torch: a seeded ``numpy.random.Generator`` in, uint8 images out.

Axes: B scenes, S shapes of one scene, H and W pixels. Positions and sizes are fractions of the image's edge, x to the
right, y downwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (222, 38, 44),
    "orange": (246, 137, 31),
    "yellow": (252, 222, 48),
    "green": (44, 160, 66),
    "cyan": (64, 204, 224),
    "blue": (38, 78, 206),
    "purple": (132, 54, 182),
    "pink": (246, 140, 190),
    "white": (244, 244, 240),
    "black": (28, 28, 34),
}
COLOURS = tuple(PALETTE)

MIN_SIZE, MAX_SIZE = 0.18, 0.28
_PALETTE_C3 = np.array(list(PALETTE.values()), dtype=np.float32)
_HAZE = 0.35  # share of white in the sky at the horizon
_SHADE = 0.35  # share of light that the ground has lost at the lower edge


@dataclass(frozen=True, slots=True)
class Shape:
    """One object: its kind, its colour, its centre and its radius (fractions of the image's edge)."""

    kind: str
    colour: str
    x: float
    y: float
    size: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A sky above a ground with one or two shapes; ``horizon`` is the share of the height that is sky."""

    sky: str
    ground: str
    horizon: float
    shapes: tuple[Shape, ...]

    def describe(self) -> str:
        """Describe the scene in words: ``"red triangle, yellow circle on blue over green"``."""
        objects = ", ".join(f"{shape.colour} {shape.kind}" for shape in self.shapes)
        return f"{objects} on {self.sky} over {self.ground}"


def random_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene: its colours all differ, its shapes lie inside the image and do not touch."""
    n_shapes = int(rng.integers(1, 3))
    colours = [COLOURS[i] for i in rng.permutation(len(COLOURS))[: 2 + n_shapes]]
    kinds = [KINDS[i] for i in rng.integers(len(KINDS), size=n_shapes)]
    while True:  # ends: two shapes in opposite corners always fit
        sizes = rng.uniform(MIN_SIZE, MAX_SIZE, n_shapes)
        margins = sizes + 0.03
        xs, ys = (margins + (1.0 - 2.0 * margins) * rng.random(n_shapes) for _ in range(2))
        if n_shapes == 1 or np.hypot(xs[0] - xs[1], ys[0] - ys[1]) > sizes.sum():
            break
    shapes = tuple(
        Shape(kinds[i], colours[2 + i], round(float(xs[i]), 4), round(float(ys[i]), 4), round(float(sizes[i]), 4))
        for i in range(n_shapes)
    )
    return Scene(colours[0], colours[1], round(float(rng.uniform(0.4, 0.75)), 4), shapes)


def random_scenes(rng: np.random.Generator, n_scenes: int) -> list[Scene]:
    """Draw ``n_scenes`` scenes, one after the other, from the same generator."""
    return [random_scene(rng) for _ in range(n_scenes)]


def render(scene: Scene, size_px: int) -> NDArray[np.uint8]:
    """Render one scene: (H, W, 3) uint8 with H = W = ``size_px``."""
    image: NDArray[np.uint8] = render_batch([scene], size_px)[0]
    return image


def render_batch(scenes: Sequence[Scene], size_px: int) -> NDArray[np.uint8]:
    """Render several scenes at once: (B, H, W, 3) uint8, identical to those that ``render`` makes one by one."""
    grid = ((np.arange(size_px) + 0.5) / size_px).astype(np.float32)
    image_BHW3 = _background(scenes, grid)
    for slot in range(max((len(scene.shapes) for scene in scenes), default=0)):
        for kind, distance in _DISTANCES.items():
            rows = [b for b, s in enumerate(scenes) if slot < len(s.shapes) and s.shapes[slot].kind == kind]
            if not rows:
                continue
            shapes = [scenes[b].shapes[slot] for b in rows]
            x, y, size = (_column([getattr(shape, name) for shape in shapes]) for name in ("x", "y", "size"))
            d_BHW = distance((grid[None, None, :] - x) / size, (grid[None, :, None] - y) / size) * size
            cover_BHW1 = np.clip(0.5 - d_BHW * size_px, 0.0, 1.0)[..., None]
            colour = _PALETTE_C3[[COLOURS.index(shape.colour) for shape in shapes]][:, None, None, :]
            image_BHW3[rows] += cover_BHW1 * (colour - image_BHW3[rows])
    images: NDArray[np.uint8] = np.rint(image_BHW3).astype(np.uint8)
    return images


def _background(scenes: Sequence[Scene], grid: Floats) -> Floats:
    size_px = len(grid)
    horizon = _column([scene.horizon for scene in scenes])[:, :, 0]  # (B, 1)
    sky, ground = (
        _PALETTE_C3[[COLOURS.index(getattr(s, name)) for s in scenes]][:, None, :] for name in ("sky", "ground")
    )
    above = np.clip(grid[None, :] / horizon, 0.0, 1.0)[..., None]  # 0 at the upper edge, 1 at the horizon
    below = np.clip((grid[None, :] - horizon) / (1.0 - horizon), 0.0, 1.0)[..., None]
    sky_BH3 = sky + _HAZE * above * (255.0 - sky)
    ground_BH3 = ground * (1.0 - _SHADE * below)
    share_BH1 = np.clip(0.5 + (horizon - grid[None, :]) * size_px, 0.0, 1.0)[..., None]
    column_BH3 = ground_BH3 + share_BH1 * (sky_BH3 - ground_BH3)
    return np.repeat(column_BH3[:, :, None, :], size_px, axis=2).astype(np.float32)


def _column(values: Sequence[float]) -> Floats:
    return np.array(values, dtype=np.float32)[:, None, None]


# Signed distances, negative inside, of shapes of radius one around the origin (accurate enough for antialiasing).


def _circle(x: Any, y: Any) -> Any:
    return np.sqrt(x * x + y * y) - 1.0


def _ring(x: Any, y: Any) -> Any:
    return np.abs(np.sqrt(x * x + y * y) - 0.74) - 0.26


def _box(x: Any, y: Any, half_width: float, top: float, bottom: float) -> Any:
    return np.maximum(np.abs(x) - half_width, np.maximum(top - y, y - bottom))


def _square(x: Any, y: Any) -> Any:
    return _box(x, y, 0.84, -0.84, 0.84)


def _wedge(x: Any, y: Any, half_width: float, top: float, bottom: float) -> Any:
    height = bottom - top
    side = (np.abs(x) * height - (y - top) * half_width) / np.hypot(height, half_width)
    return np.maximum(side, y - bottom)


def _triangle(x: Any, y: Any) -> Any:
    return _wedge(x, y, 1.0, -1.0, 0.8)


def _house(x: Any, y: Any) -> Any:
    return np.minimum(_box(x, y, 0.62, -0.2, 0.95), _wedge(x, y, 1.0, -1.0, -0.05))


def _star(x: Any, y: Any) -> Any:
    sector = 2.0 * np.pi / 5.0
    radius = np.sqrt(x * x + y * y)
    angle = np.abs((np.arctan2(x, -y) + sector / 2) % sector - sector / 2)  # 0 on the axis of a point
    inner = 0.45
    # the edge from the tip (1 on the axis) to the notch (``inner``, half a sector away)
    notch_x, notch_y = inner * np.cos(sector / 2), inner * np.sin(sector / 2)
    length = np.hypot(notch_x - 1.0, notch_y)
    return ((radius * np.cos(angle) - 1.0) * notch_y + radius * np.sin(angle) * (1.0 - notch_x)) / length


_DISTANCES: dict[str, Callable[[Any, Any], Any]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "ring": _ring,
    "star": _star,
    "house": _house,
}
KINDS = tuple(_DISTANCES)
