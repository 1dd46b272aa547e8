"""What moving layers are drawn with: shapes by their signed distance, textures as sums of waves, and poses.

As things in the world do, those of a class have a colour in common beside their shape: a range of hues.

A layer has coordinates of its own, in sides of the picture, and a pose (x, y, angle, log_scale) that says where they
are seen: ``p = (x, y) + exp(log_scale) * rotation(angle) @ u``. Picture coordinates go from 0 to 1, x to the right, y
down; angles are in rad, from x towards y.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

NUM_WAVES = 12
PERIODS = (8 / 64, 40 / 64)  # of a texture's waves, sides of the picture; poses of ours scale them by 0.67 to 1.5
CONTRAST = (32.0, 36.0)  # of the ground and of sprites: a texture's standard deviation about its mean, grey levels
HUES = 1 / 14  # of the circle: the range of a class, whose middles are 1/12 apart
# Ranges of saturation and value. The ground is dull and has any hue.
GROUND_COLOUR, SPRITE_COLOUR = ((0.0, 0.6), (0.35, 0.8)), ((0.5, 0.9), (0.5, 0.95))
OTHER_COLOURS = 0.2  # share of a sprite's waves that do not just brighten and darken its colour
NUM_DRAWS = 8  # of which the one is taken that is farthest from what is there already


def to_picture(pose: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a layer with ``pose`` (..., 4) shows its points ``u``, ``v`` (...): x and y, each (...)."""
    x, y, angle, log_scale = np.moveaxis(pose, -1, 0)
    cos, sin = np.exp(log_scale) * np.cos(angle), np.exp(log_scale) * np.sin(angle)
    return x + cos * u - sin * v, y + sin * u + cos * v


def to_layer(pose: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What point of a layer with ``pose`` (..., 4) is shown at ``x``, ``y`` (...): u and v, each (...)."""
    left, top, angle, log_scale = np.moveaxis(pose, -1, 0)
    cos, sin = np.exp(-log_scale) * np.cos(angle), np.exp(-log_scale) * np.sin(angle)
    x, y = x - left, y - top
    return cos * x + sin * y, cos * y - sin * x


def farthest(draws: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Of ``draws`` (n, k) the one (k,) whose distance to the nearest of ``there`` (m, k) is largest."""
    return draws[np.linalg.norm(draws[:, None] - there, axis=-1).min(1, initial=np.inf).argmax()]


# ---- textures ---------------------------------------------------------------------------------------------------


class Texture(NamedTuple):
    """``mean + sum of colours * cos(2 pi waves @ u + phases)`` at the layer's point u, grey levels.

    Attributes:
        mean: (3,) RGB.
        waves: (K, 2) periods per side of the picture.
        phases: (K,) rad.
        colours: (K, 3) RGB, what each wave adds.
    """

    mean: np.ndarray
    waves: np.ndarray
    phases: np.ndarray
    colours: np.ndarray


@lru_cache(maxsize=64)
def make_textures(seed: int, label: int, num_layers: int) -> tuple[Texture, ...]:
    """The textures of a scene's ground and of its sprites of class ``label``; their mean colours keep apart."""
    rng, textures = np.random.default_rng(seed), []
    for layer in range(num_layers):
        hues = label / len(CLASS_NAMES) + HUES * rng.uniform(-0.5, 0.5, NUM_DRAWS) if layer else rng.random(NUM_DRAWS)
        low, high = np.transpose(SPRITE_COLOUR if layer else GROUND_COLOUR)
        draws = [rgb(hue, *rng.uniform(low, high)) for hue in hues]
        mean = farthest(np.array(draws), np.array([texture.mean for texture in textures]).reshape(-1, 3))
        # Periods are spread evenly, so that every texture has coarse and fine structure.
        places = (np.arange(NUM_WAVES) + rng.random(NUM_WAVES)) / NUM_WAVES
        periods = PERIODS[0] * (PERIODS[1] / PERIODS[0]) ** places
        angles = rng.uniform(0, np.pi) + rng.uniform(0.6, 1) * rng.uniform(-np.pi / 2, np.pi / 2, NUM_WAVES)
        waves = np.stack([np.cos(angles), np.sin(angles)], -1) / periods[:, None]
        colours = rng.standard_normal((NUM_WAVES, 3)) + rng.standard_normal((NUM_WAVES, 1))
        if layer:
            shades = colours.mean(1, keepdims=True) * mean / mean.mean()
            colours = (1 - OTHER_COLOURS) * shades + OTHER_COLOURS * colours
        colours *= periods[:, None] ** 0.25  # coarse structure a little stronger
        colours *= CONTRAST[layer > 0] / np.sqrt((colours**2).sum(0).mean() / 2)
        textures.append(Texture(mean, waves, rng.uniform(-np.pi, np.pi, NUM_WAVES), colours))
    return tuple(textures)


def rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """(3,) grey levels; a hue counts turns of the circle from red, the others are in 0..1."""
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def paint(texture: Texture, pose: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float64 (h, w, 3): the colours of a layer with ``pose`` (4,) at columns ``x`` (w,) and rows ``y`` (h,)."""
    left, top, angle, log_scale = pose.tolist()
    cos, sin = np.exp(-log_scale) * np.cos(angle), np.exp(-log_scale) * np.sin(angle)
    waves = 2 * np.pi * texture.waves @ np.array([[cos, sin], [-sin, cos]])
    across = np.outer(waves[:, 0], x - left) + texture.phases[:, None]
    down = np.outer(waves[:, 1], y - top)
    # A wave's phase is a sum over column and row, so cos(a + b) makes h + w cosines of it instead of h * w.
    rows = np.concatenate([np.cos(down), -np.sin(down)])
    columns = np.concatenate([np.cos(across), np.sin(across)])[:, :, None] * np.tile(texture.colours, (2, 1))[:, None]
    return (rows.T @ columns.reshape(2 * NUM_WAVES, -1)).reshape(len(y), len(x), 3) + texture.mean


# ---- shapes -----------------------------------------------------------------------------------------------------

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of points x, y (h, w) from an outline, (h, w), negative inside; the shape lies within the unit disc.

It is true near the outline, which is all that is drawn by it; further off, where a shape is composed, it is a bound.
"""


def _disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - 0.82


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.hypot(x, y) - 0.68) - 0.24


def _crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.hypot(x, y) - 0.98, 0.75 - np.hypot(x - 0.55, y))


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A square that stands on a corner, and a disc on each of its upper sides."""
    x, y, side = np.abs(x), y - 0.2, 0.55  # half of it
    across, down = (x + y) * np.sqrt(0.5), (y - x) * np.sqrt(0.5)
    square = np.maximum(np.abs(across), np.abs(down)) - side
    return np.minimum(square, np.hypot(across, down + side) - side)


def _polygon(corners: Sequence[Sequence[float]], radius: float = 1.0) -> Distance:
    """The distance to a polygon whose corners are moved to have their mean in the middle and reach to ``radius``."""
    points = np.array(corners, float)
    points -= points.mean(0)
    points *= radius / np.linalg.norm(points, axis=-1).max()
    sides = np.roll(points, -1, 0) - points
    left, top, side_x, side_y = (column[:, None, None] for column in np.concatenate([points, sides], 1).T)
    length = side_x**2 + side_y**2

    def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        from_x, from_y = x - left, y - top  # (corners, h, w)
        along = ((from_x * side_x + from_y * side_y) / length).clip(0, 1)
        nearest = ((from_x - along * side_x) ** 2 + (from_y - along * side_y) ** 2).min(0)
        # A ray to the right crosses the outline an odd number of times from inside.
        above = from_y < 0
        crosses = above != np.roll(above, -1, 0)  # each corner judged once: no ray slips between two sides
        crosses &= (from_x * side_y < from_y * side_x) == (side_y > 0)
        return np.where(np.logical_xor.reduce(crosses), -1, 1) * np.sqrt(nearest)

    return distance


def _wheel(num_corners: int, *radii: float) -> np.ndarray:
    """Corners (num_corners, 2) around a middle, the first on top; ``radii`` in turn."""
    angles = 2 * np.pi * np.arange(num_corners) / num_corners - np.pi / 2
    return np.resize(radii, num_corners)[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)


CROSS = ((-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1), (1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1))
SHAPES: dict[str, Distance] = {
    "disc": _disc,
    "ring": _ring,
    "crescent": _crescent,
    "heart": _heart,
    "triangle": _polygon(_wheel(3, 1)),
    "square": _polygon(_wheel(4, 1), 0.92),
    "hexagon": _polygon(_wheel(6, 1), 0.88),
    "star": _polygon(_wheel(10, 1, 0.5)),
    "cross": _polygon(CROSS),
    "L": _polygon(((-4, -5), (0, -5), (0, 1), (4, 1), (4, 5), (-4, 5))),
    "arrow": _polygon(((0, -5), (5, 0), (2.2, 0), (2.2, 4), (-2.2, 4), (-2.2, 0), (-5, 0))),
    "hourglass": _polygon(((-4.2, -5), (4.2, -5), (1.2, 0), (4.2, 5), (-4.2, 5), (-1.2, 0))),
}
"""The classes by name; compact ones are smaller, so that areas differ less."""
CLASS_NAMES = tuple(SHAPES)
