"""The MuJoCo scene of a street, for rays alone: everything is put where the state says, and nothing is simulated.

Every object is a mocap body of its own: MuJoCo's rays pass over a whole body that lies elsewhere (but only over one
whose geoms may collide, 3 times as fast with 40 objects). Our car is not in the scene, so that no ray meets it.
"""

from __future__ import annotations

from functools import lru_cache

import mujoco
import numpy as np

from envs.lidar import Lidar
from envs.street_layout import CAR, CELL, CYCLIST, PEDESTRIAN, POLE, Layout, make_layout
from envs.street_traffic import LAYOUT, MOVER_PROGRESS, POSE, mover_boxes, present

# Of grass, asphalt, paving and paint on the road; reflectivities of objects are drawn from a range for each part.
GROUND_REFLECTIVITY = np.array([0.4, 0.12, 0.3, 0.8])
PAINT, GLASS, TYRE = (0.2, 0.9), (0.1, 0.1), (0.05, 0.05)
CLOTHES, FRAME = (0.15, 0.7), (0.4, 0.6)
STONE, POST = (0.25, 0.6), (0.3, 0.7)
AWAY = -100.0  # m under the ground: where those are who have left


class Scene:
    """The model of one street, and what its geoms are.

    Attributes:
        object_of: int (G,), the geoms' objects: movers, then what never moves; -1 for the ground.
        reflectivity: (G,) of the geoms; the ground's says nothing.
    """

    def __init__(self, layout: Layout):
        self.layout = layout
        rng = np.random.default_rng([layout.number, 0x1D])
        sizes = np.concatenate([layout.sizes, layout.boxes[:, 3:6]])
        classes = np.concatenate([layout.mover_classes, layout.classes])
        parts = [_parts(kind, size) for kind, size in zip(classes.tolist(), sizes, strict=True)]
        bodies = "".join(f'<body mocap="true">{"".join(geom for geom, _ in geoms)}</body>' for geoms in parts)
        self.model = mujoco.MjModel.from_xml_string(
            f'<mujoco><worldbody><geom type="plane" size="0 0 1"/>{bodies}</worldbody></mujoco>'
        )
        self.data = mujoco.MjData(self.model)
        self.object_of = self.model.geom_bodyid - 1
        self.reflectivity = np.r_[0.0, [rng.uniform(*material) for geoms in parts for _, material in geoms]]
        self.classes = np.r_[classes, 0]  # the last for the ground, -1
        self.data.mocap_pos[len(layout.sizes) :, :2] = layout.boxes[:, :2]
        self._turn(slice(len(layout.sizes), None), layout.boxes[:, 6])

    def cast(self, lidar: Lidar, state: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """:meth:`Lidar.cast` from our car in ``state`` (S,)."""
        boxes = mover_boxes(self.layout, state[MOVER_PROGRESS])
        movers = slice(len(boxes))
        self.data.mocap_pos[movers, :2] = boxes[:, :2]
        self.data.mocap_pos[movers, 2] = np.where(present(self.layout, state), 0.0, AWAY)
        self._turn(movers, boxes[:, 6])
        mujoco.mj_kinematics(self.model, self.data)
        return lidar.cast(self.model, self.data, *state[POSE])

    def reflectivity_of(
        self, lidar: Lidar, ranges: np.ndarray, geoms: np.ndarray, x: float, y: float, heading: float
    ) -> np.ndarray:
        """(beams, azimuths) of what the rays from x, y, heading met; ranges and geoms are :meth:`cast`'s."""
        found = self.reflectivity[geoms]
        on_ground = geoms == 0
        level = lidar.directions[on_ground][:, :2] * ranges[on_ground][:, None]
        cos, sin = np.cos(heading), np.sin(heading)
        places = level @ np.array([[cos, sin], [-sin, cos]]) + [x, y]
        column, row = np.floor((places - self.layout.origin) / CELL).astype(int).T
        height, width = self.layout.ground.shape
        inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
        material = self.layout.ground[row.clip(0, height - 1), column.clip(0, width - 1)] * inside  # else grass, 0
        found[on_ground] = GROUND_REFLECTIVITY[material]
        return found

    def _turn(self, which: slice, yaw: np.ndarray) -> None:
        self.data.mocap_quat[which] = 0
        self.data.mocap_quat[which, 0], self.data.mocap_quat[which, 3] = np.cos(yaw / 2), np.sin(yaw / 2)


@lru_cache(maxsize=16)
def scene_of(number: int) -> Scene:
    """The scene of the layout ``number``; one per process, its data is posed anew by every cast."""
    return Scene(make_layout(number))


def layout_of(state: np.ndarray) -> Layout:
    """The street of a state (S,)."""
    return make_layout(int(state[LAYOUT]))


def _parts(kind: int, size: np.ndarray) -> list[tuple[str, tuple[float, float]]]:
    """Geoms as XML, in the frame of the object's middle on the ground, each with its range of reflectivities.

    They stay inside the object's box.
    """
    length, width, height = size.tolist()
    if kind == CAR:
        belt = 0.25 + 0.42 * (height - 0.25)
        wheels = [
            (_geom("cylinder", (0.32, 0.1), (x * length, y * (width / 2 - 0.1), 0.32), "90 0 0"), TYRE)
            for x in (-0.31, 0.31)
            for y in (-1, 1)
        ]
        return [
            (_box(0.0, length, width, 0.25, belt), PAINT),
            (_box(-0.06 * length, 0.56 * length, 0.9 * width, belt, height), GLASS if height < 1.7 else PAINT),
            *wheels,
        ]
    if kind == CYCLIST:
        return [
            (_box(0.0, length, 0.06, 0.05, 0.9), FRAME),
            (_box(0.25 * length, 0.08, width, 0.95, 1.05), FRAME),
            (_upright("capsule", 0.2, 0.75, height), CLOTHES),
        ]
    if kind == PEDESTRIAN:
        return [(_upright("capsule", 0.48 * width, 0.0, height), CLOTHES)]
    if kind == POLE:
        return [(_upright("cylinder", width / 2, 0.0, height), POST)]
    return [(_box(0.0, length, width, 0.0, height), STONE)]


def _geom(kind: str, size: tuple[float, ...], place: tuple[float, float, float], euler: str = "0 0 0") -> str:
    numbers = " ".join(f"{number:.6g}" for number in size)
    x, y, z = place
    return f'<geom type="{kind}" size="{numbers}" pos="{x:.6g} {y:.6g} {z:.6g}" euler="{euler}"/>'


def _box(x: float, length: float, width: float, low: float, high: float) -> str:
    return _geom("box", (length / 2, width / 2, (high - low) / 2), (x, 0.0, (low + high) / 2))


def _upright(kind: str, radius: float, low: float, high: float) -> str:
    half = (high - low) / 2 - (radius if kind == "capsule" else 0.0)
    return _geom(kind, (radius, half), (0.0, 0.0, (low + high) / 2))
