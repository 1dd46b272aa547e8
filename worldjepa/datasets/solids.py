"""Point clouds of solids whose distance function is known: 12 classes with random proportions.

Lengths are in the radius of the solid: the farthest of its points lies at distance 1 from the middle of its box. z is
up. Distances to polygons and their turned or drawn out bodies follow I. Quilez, "distance functions".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldjepa.datasets.numbered import at_least, sample_rng, sample_rngs
from worldjepa.datasets.samples import Samples, generated, kept

SHELL = 0.02  # points are drawn this near to the surface; see sample_surface
NUM_CELLS = 12  # along each side of the box
TOLERANCE = 1e-4  # of the distance of a sampled point
EDITION = 1  # of the clouds; to be raised whenever a seed gives others, so that no old ones are read

Distance = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Solid:
    """A solid of one class, turned by ``yaw`` about z.

    Attributes:
        label: index into ``SOLID_NAMES``.
        body: signed distance to (M,3) points of the body before it was scaled and turned.
        extent: (3,) half sides of the body's box.
        radius: of the body's farthest point.
        yaw: rad.
    """

    label: int
    body: Distance
    extent: np.ndarray
    radius: float
    yaw: float

    def distance(self, points: np.ndarray) -> np.ndarray:
        """(M,3) -> (M,): how far points are outside; negative inside, 0 on the surface."""
        return self.body(self.radius * (np.asarray(points, np.float64) @ self._turn())) / self.radius

    def _turn(self) -> np.ndarray:
        """(3,3), from the body's frame to the world's for rows ``p @ turn.T``."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])

    def sample_surface(self, num_points: int, rng: np.random.Generator) -> np.ndarray:
        """float64 (num_points,3) on the surface, uniform by area.

        Points drawn in a thin shell around the surface are moved onto it against the gradient. A shell of thickness t
        holds as much of every face; only at sharp convex edges there is about 0.4 t x the edges' length too much.
        """
        shell, reach = SHELL * self.radius, self.extent + SHELL * self.radius
        # Most of the box is far from the surface: only cells that may touch the shell are drawn from.
        side = 2 * reach / NUM_CELLS
        corners = np.stack(np.meshgrid(*[np.arange(NUM_CELLS)] * 3), -1).reshape(-1, 3) * side - reach
        cells = corners[np.abs(self.body(corners + side / 2)) < np.linalg.norm(side) / 2 + shell]
        kept, found = [], 0
        while found < num_points:
            drawn = cells[rng.integers(len(cells), size=8 * num_points)] + side * rng.random((8 * num_points, 3))
            near = drawn[np.abs(self.body(drawn)) < shell][: num_points - found]
            on = _project(self.body, near)
            kept.append(on[np.abs(self.body(on)) < 0.5 * TOLERANCE * self.radius])
            found += len(kept[-1])
        return np.concatenate(kept) @ self._turn().T / self.radius


def draw_solid(rng: np.random.Generator) -> Solid:
    """A solid of a random class, proportions and yaw."""
    label = int(rng.integers(len(SOLID_NAMES)))
    body, extent, radius = SOLIDS[SOLID_NAMES[label]](rng)
    return Solid(label, body, np.array(extent, float), float(radius), rng.uniform(-np.pi, np.pi))


def solid_of_sample(seed: int, number: int) -> Solid:
    """The truth behind cloud ``number`` of :func:`random_solids`.

    Raises:
        ValueError: a seed or number below 0.
    """
    return draw_solid(sample_rng(seed, number))


def random_solids(count: int, seed: int, num_points: int = 1024) -> tuple[dict[str, Tensor], Tensor]:
    """Clouds on the surfaces of random solids.

    Args:
        count: N, >= 1.
        seed: sample i of a seed is the same whatever ``count``.
        num_points: per cloud, >= 8.

    Returns:
        - ``points`` float32 (N,num_points,3), within the unit ball around the middle of the solid's box, z up.
        - labels int64 (N,), indices into ``SOLID_NAMES``.

    Raises:
        ValueError: a size or seed that cannot be.
    """
    at_least("num_points", num_points, 8)
    clouds, labels = [], []
    for rng in sample_rngs(seed, count):
        solid = draw_solid(rng)
        clouds.append(solid.sample_surface(num_points, rng).astype(np.float32))
        labels.append(solid.label)
    return {"points": torch.from_numpy(np.stack(clouds))}, torch.tensor(labels)


def load_solids(
    seed: int,
    num_train: int = 2400,
    num_held_out: int = 600,
    num_points: int = 1024,
    folder: str | Path = "data/solids",
) -> tuple[Samples, Samples]:
    """Clouds to train on and held-out ones; labels are the 12 classes.

    Args:
        seed: of the clouds.
        num_train, num_held_out: clouds.
        num_points: per cloud.
        folder: where clouds are kept once they are made, at 3 ms each of 1,024 points.

    Returns:
        training and held-out clouds, see :func:`random_solids`.

    Raises:
        ValueError: a size or seed that cannot be.
    """

    def make(count: int, part: int) -> tuple[dict[str, Tensor], Tensor]:
        draw = partial(random_solids, count, part, num_points)
        return kept(draw, folder, edition=EDITION, count=count, seed=part, num_points=num_points)

    return generated(make, seed, num_train, num_held_out, SOLID_NAMES)


def _project(body: Distance, points: np.ndarray) -> np.ndarray:
    """Points (M,3) near the surface, moved onto it; the gradient of a distance has length 1."""
    step = 1e-6
    for _ in range(2):
        # One call for all: on so few points NumPy's overhead is most of the time.
        moved = points + step * np.eye(4, 3, -1)[:, None]
        here, *beside = body(moved.reshape(-1, 3)).reshape(4, -1)
        points = points - here[:, None] * (np.stack(beside, -1) - here[:, None]) / step
    return points


# ---- bodies: each of a random size, its box's half sides and the radius of its farthest point -----------------------


def _polygon(corners: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance to a simple polygon (P,2)."""
    nearest, inside = np.full(u.shape, np.inf), np.zeros(u.shape, bool)
    for (au, av), (bu, bv) in zip(corners, np.roll(corners, -1, 0), strict=True):
        eu, ev, wu, wv = bu - au, bv - av, u - au, v - av
        along = np.clip((wu * eu + wv * ev) / (eu**2 + ev**2), 0, 1)
        nearest = np.minimum(nearest, (wu - along * eu) ** 2 + (wv - along * ev) ** 2)
        if ev != 0:  # a ray to the right crosses the edge
            inside ^= ((av > v) != (bv > v)) & (wu < wv * eu / ev)
    return np.where(inside, -1, 1) * np.sqrt(nearest)


def _turned(corners: list[tuple[float, float]]):
    """The polygon of (distance from the axis, height), turned about z; it may be mirrored over the axis."""
    corners = np.array(corners)
    wide, high = np.abs(corners).max(0)

    def distance(p: np.ndarray) -> np.ndarray:
        return _polygon(corners, np.hypot(p[:, 0], p[:, 1]), p[:, 2])

    return distance, (wide, wide, high), np.linalg.norm(corners, axis=1).max()


def _drawn_out(corners: np.ndarray, half: float):
    """The polygon of (x, y), from z = -half to half."""

    def distance(p: np.ndarray) -> np.ndarray:
        beside, above = _polygon(corners, p[:, 0], p[:, 1]), np.abs(p[:, 2]) - half
        return np.minimum(np.maximum(beside, above), 0) + np.hypot(np.maximum(beside, 0), np.maximum(above, 0))

    return distance, (*np.abs(corners).max(0), half), np.hypot(np.linalg.norm(corners, axis=1).max(), half)


def _between_planes(normals: np.ndarray, offsets: np.ndarray, corners: np.ndarray):
    """A convex body, n . p <= offset. Outside of edges this is less than the distance, which SHELL makes harmless."""
    lengths = np.linalg.norm(normals, axis=1)
    normals, offsets = normals / lengths[:, None], offsets / lengths
    return (
        lambda p: (p @ normals.T - offsets).max(1),
        np.abs(corners).max(0),
        np.linalg.norm(corners, axis=1).max(),
    )


def _ring(number: int, start: float = 0.0) -> np.ndarray:
    """The corners (number,2) of a regular polygon in the unit circle."""
    angles = start + 2 * np.pi * np.arange(number) / number
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def _rectangle(u: float, v: float) -> list[tuple[float, float]]:
    return [(-u, -v), (u, -v), (u, v), (-u, v)]


def _sphere(rng):
    radius = 1.0
    return lambda p: np.linalg.norm(p, axis=1) - radius, (radius,) * 3, radius


def _capsule(rng):
    half, radius = rng.uniform(0.5, 1.2), 0.5
    to_axis = np.array([0, 0, 1])
    return (
        lambda p: np.linalg.norm(p - np.clip(p[:, 2:], -half, half) * to_axis, axis=1) - radius,
        (radius, radius, half + radius),
        half + radius,
    )


def _torus(rng):
    thin = rng.uniform(0.2, 0.45)
    return (
        lambda p: np.hypot(np.hypot(p[:, 0], p[:, 1]) - 1, p[:, 2]) - thin,
        (1 + thin, 1 + thin, thin),
        1 + thin,
    )


def _cylinder(rng):
    return _turned(_rectangle(1.0, rng.uniform(0.6, 1.8)))


def _cone(rng):
    half = rng.uniform(0.7, 1.4)
    return _turned([(-1, -half), (1, -half), (0, half)])


def _tube(rng):
    inner, half = rng.uniform(0.55, 0.8), rng.uniform(0.4, 1.4)
    return _turned([(inner, -half), (1, -half), (1, half), (inner, half)])


def _box(rng):
    return _drawn_out(np.array(_rectangle(1.0, rng.uniform(0.5, 1.0))), rng.uniform(0.5, 1.5))


def _hexagonal_prism(rng):
    return _drawn_out(_ring(6), rng.uniform(0.4, 1.3))


def _wedge(rng):
    corners = _ring(3, np.pi / 2)
    return _drawn_out(corners - (corners.min(0) + corners.max(0)) / 2, rng.uniform(0.4, 1.3))


def _cross(rng):
    arm = rng.uniform(0.25, 0.45)
    quarter = np.array([(1, -arm), (1, arm), (arm, arm)])
    turns = [np.array([[c, -s], [s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return _drawn_out(np.concatenate([quarter @ turn.T for turn in turns]), rng.uniform(0.25, 0.6))


def _pyramid(rng):
    half = rng.uniform(0.5, 1.2)
    sides = np.array([(2 * half, 0, 1), (-2 * half, 0, 1), (0, 2 * half, 1), (0, -2 * half, 1)])
    corners = np.array([(1, 1, -half), (0, 0, half)])
    return _between_planes(np.vstack([sides, (0, 0, -1)]), np.array([half] * 5), corners)


def _octahedron(rng):
    half = rng.uniform(0.8, 1.6)
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    return _between_planes(signs / (1, 1, half), np.ones(8), np.diag([1, 1, half]))


SOLIDS = {
    "sphere": _sphere,
    "capsule": _capsule,
    "torus": _torus,
    "cylinder": _cylinder,
    "cone": _cone,
    "tube": _tube,
    "box": _box,
    "hexagonal prism": _hexagonal_prism,
    "wedge": _wedge,
    "cross": _cross,
    "pyramid": _pyramid,
    "octahedron": _octahedron,
}
SOLID_NAMES = tuple(SOLIDS)
"""What the labels 0, 1, ... stand for."""
