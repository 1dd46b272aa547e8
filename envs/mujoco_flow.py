"""True optical flow between two states of a MuJoCo simulation, from depth, segmentation and poses.

What is drawn is rigid: a point seen at one state goes where its geom takes it, and the other state's camera says where
that is seen. Flow is about the surface: highlights, which slide over it, and what shines through it do not follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from envs.rendering import Renderer

# Depth is drawn this much larger than pictures, for what covers what at edges. Odd: the middle of a pixel of the
# picture is then the middle of one of these, too.
FINE = 3
# A surface covers a point when it lies nearer by this share of the point's distance.
TOLERANCE = 0.003
SKY = -1  # as an item; so the last one of a list of poses is the sky's


@dataclass(frozen=True)
class View:
    """What is seen of one state.

    Attributes:
        items: int64 (F, F), numbers of ``keys``, F = FINE * image_size; -1 is the sky.
        depth: float64 (F, F), m along the camera's axis; inf for the sky.
        keys: object type, object id and a count, where one object has several parts; equal at every state.
        places: float64 (items, 3), of the items' frames, m.
        turns: float64 (items, 3, 3), their axes as columns.
        eye: float64 (3,), where the camera is, m.
        axes: float64 (3, 3), its right, down and forward, as rows.
        window: left, right, top, bottom edge of what it sees, m at a depth of 1 m.
    """

    items: np.ndarray
    depth: np.ndarray
    keys: list[tuple[int, int, int]]
    places: np.ndarray
    turns: np.ndarray
    eye: np.ndarray
    axes: np.ndarray
    window: tuple[float, float, float, float]

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Items (n, n) in the middle of each of the n x n pixels of the picture, and where that is: (n, n, 4), m.

        The last number is 1; for the sky it is 0, and the first three are its direction.
        """
        middle = slice(FINE // 2, None, FINE)
        items, depth = self.items[middle, middle], self.depth[middle, middle]
        along = (np.arange(len(items)) + 0.5) / len(items)
        left, right, top, bottom = self.window
        x, y = np.meshgrid(left + along * (right - left), top + along * (bottom - top))
        is_near = (items != SKY).astype(np.float64)[..., None]
        rays = np.stack([x, y, np.ones_like(x)], -1) @ self.axes
        reach = np.where(items == SKY, 1.0, depth)[..., None]
        return items, np.concatenate([rays * reach + is_near * self.eye, is_near], -1)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points (..., 4) -> column, row (..., 2) in pixels of the picture, whose middles are whole; depth (...), m."""
        seen = (points[..., :3] - points[..., 3:] * self.eye) @ self.axes.T
        depth = seen[..., 2]
        left, right, top, bottom = self.window
        ahead = np.maximum(depth, 1e-6)  # what lies behind the camera has no place in its picture
        across, down = (seen[..., 0] / ahead - left) / (right - left), (seen[..., 1] / ahead - top) / (bottom - top)
        return np.stack([across, down], -1) * (len(self.items) // FINE) - 0.5, depth

    def shows(self, places: np.ndarray, items: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """bool (...): the items' points at ``places`` (..., 2), as from :meth:`project`, are in the frame and bare."""
        size = len(self.items) // FINE
        in_frame = ((places >= -0.5) & (places <= size - 0.5)).all(-1) & (depth > 0)
        fine = (np.clip(places, -0.5, size - 0.5) + 0.5) * FINE - 0.5

        def looked_up(across: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            column, row = (np.clip(line, 0, size * FINE - 1).astype(np.int64) for line in (across, down))
            return self.items[row, column] == items, self.depth[row, column]

        is_same, surface = looked_up(np.rint(fine[..., 0]), np.rint(fine[..., 1]))
        # A slanting surface has many depths within a pixel; the farthest one around the point is not before it.
        farthest = np.zeros(items.shape)
        for across in (np.floor, np.ceil):
            for down in (np.floor, np.ceil):
                is_it, its_depth = looked_up(across(fine[..., 0]), down(fine[..., 1]))
                farthest = np.maximum(farthest, np.where(is_it, its_depth, 0))
        # Something else that lies farther covers nothing: the point is at the edge of what is drawn of its item.
        is_bare = np.where(is_same, farthest, surface) >= depth * (1 - TOLERANCE)
        return in_frame & is_bare & (items >= SKY)


def look(renderer: Renderer, model, data, camera) -> View:
    """What ``camera`` sees of ``data``; ``renderer`` draws squares, FINE times as large as the pictures.

    Raises:
        ValueError: the model has parts that bend (flexes, skins).
    """
    if model.nflex or model.nskin:
        raise ValueError(
            f"flow needs rigid bodies; this model has {model.nflex} flexes and {model.nskin} skins, which bend"
        )
    depth, items, scene = renderer.draw_depth(model, data, camera)
    geoms = scene.geoms[: scene.ngeom]
    keys, counts = [], {}
    for geom in geoms:
        thing = geom.objtype, geom.objid
        counts[thing] = counts.get(thing, -1) + 1
        keys.append((*thing, counts[thing]))
    view = mujoco.mjv_averageCamera(*scene.camera)
    forward, up = view.forward.astype(np.float64), view.up.astype(np.float64)
    axes = np.stack([np.cross(forward, up), -up, forward])
    half = (view.frustum_top - view.frustum_bottom) / 2
    edges = view.frustum_center - half, view.frustum_center + half, -view.frustum_top, -view.frustum_bottom
    return View(
        items,
        depth,
        keys,
        np.array([geom.pos for geom in geoms], np.float64).reshape(-1, 3),
        np.array([geom.mat for geom in geoms], np.float64).reshape(-1, 3, 3),
        view.pos.astype(np.float64),
        axes,
        tuple(edge / view.frustum_near for edge in edges),
    )


def flow_between(here: View, there: View) -> tuple[np.ndarray, np.ndarray]:
    """Flow and visibility, see :meth:`envs.simulation.MujocoEnv.flow`."""
    items, points = here.points()
    number_there = {key: number for number, key in enumerate(there.keys)}
    # The last entry is the sky. A part that is gone (a taut string has fewer than a slack one) is seen nowhere.
    match = np.array([*(number_there.get(key, SKY - 1) for key in here.keys), SKY])
    turns, moves = np.tile(np.eye(3), (len(match), 1, 1)), np.zeros((len(match), 3))
    for number, other in enumerate(match):
        if other >= 0:
            turns[number] = there.turns[other] @ here.turns[number].T
            moves[number] = there.places[other] - turns[number] @ here.places[number]
    moved = np.einsum("hwij,hwj->hwi", turns[items], points[..., :3]) + moves[items]
    places, depth = there.project(np.concatenate([moved, points[..., 3:]], -1))
    is_sky = items == SKY
    visible = there.shows(places, match[items], np.where(is_sky & (depth > 0), np.inf, depth))
    flow = places - np.stack(np.meshgrid(*[np.arange(len(items))] * 2), -1)
    return flow.astype(np.float32), visible


def segments(view: View, model) -> np.ndarray:
    """int64 (image_size, image_size), see :meth:`envs.simulation.MujocoEnv.segments`."""
    body_of = {mujoco.mjtObj.mjOBJ_GEOM.value: model.geom_bodyid, mujoco.mjtObj.mjOBJ_SITE.value: model.site_bodyid}
    labels = np.zeros(len(view.keys) + 1, np.int64)  # the sky's last
    for number, (kind, thing, _) in enumerate(view.keys):
        if kind in body_of:
            body = int(body_of[kind][thing])
            # Bodies without joints are welded to the world, but for those that a mocap pose moves.
            is_still = model.body_weldid[body] == 0 and model.body_mocapid[model.body_rootid[body]] < 0
            labels[number] = 0 if is_still else body
        elif kind == mujoco.mjtObj.mjOBJ_TENDON.value:
            labels[number] = model.nbody + thing
    return labels[view.points()[0]]
