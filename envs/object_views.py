"""ObjectViews: an object seen from several sides, under light and over a floor of changing hues.

After 3DIEBench (SIE, arXiv:2302.10283) as seq-JEPA (NeurIPS 2025) uses it: an episode is one object in several views,
and an action says how the next view differs. Our objects are composed of primitives instead of ShapeNet's.

Quaternions are w, x, y, z of length 1, in the world's frame: a view turned by ``r`` is ``multiply(r, q)``. q and -q
are one rotation; the canonical one has w >= 0. Hues live on a circle, 0..1.
"""

from __future__ import annotations

import cv2
import numpy as np

from envs.object_shapes import NUM_CLASSES, find_meshes
from envs.object_stage import get_renderer, get_stage
from envs.rendering import pick_backend
from envs.view_env import ViewEnv

STATE_NAMES = ("object", "class", "qw", "qx", "qy", "qz", "floor_hue", "light_hue")
NUM_OBJECTS = 2**20  # float32, as stores keep states, holds these numbers exactly
REACHED = np.radians(15)
MOVED = np.radians(45)
SUPERSAMPLING = 1.5  # pictures are drawn this much larger, and averaged: edges move by less than a pixel
QUARTER = np.pi / 2


def multiply(q: np.ndarray, r: np.ndarray) -> np.ndarray:
    """(..., 4), (..., 4) -> (..., 4): first the rotation ``r``, then ``q``."""
    qw, qx, qy, qz = np.moveaxis(np.asarray(q), -1, 0)
    rw, rx, ry, rz = np.moveaxis(np.asarray(r), -1, 0)
    return np.stack(
        [
            qw * rw - qx * rx - qy * ry - qz * rz,
            qw * rx + qx * rw + qy * rz - qz * ry,
            qw * ry - qx * rz + qy * rw + qz * rx,
            qw * rz + qx * ry - qy * rx + qz * rw,
        ],
        -1,
    )


def conjugate(q: np.ndarray) -> np.ndarray:
    """(..., 4) -> (..., 4): the rotation back."""
    return np.asarray(q) * np.array([1, -1, -1, -1])


def canonical(q: np.ndarray) -> np.ndarray:
    """(..., 4) -> (..., 4): q or -q, the one whose first number that is not 0 is positive."""
    q = np.asarray(q)
    first = np.take_along_axis(q, np.argmax(q != 0, -1)[..., None], -1)
    return np.where(first < 0, -q, q)


def relative_rotation(q_from: np.ndarray, q_to: np.ndarray) -> np.ndarray:
    """(..., 4), (..., 4) -> (..., 4): canonical r with ``multiply(r, q_from)`` the rotation ``q_to``."""
    return canonical(multiply(q_to, conjugate(q_from)))


def rotation_from_euler(angles: np.ndarray) -> np.ndarray:
    """(..., 3) rad -> (..., 4): turns about the world's x axis, then its y axis, then its z axis."""
    half = np.asarray(angles, float)[..., None] / 2
    x, y, z = np.moveaxis(np.cos(half) * np.eye(4)[0] + np.sin(half) * np.eye(4)[1:], -2, 0)
    return canonical(multiply(z, multiply(y, x)))


def rotation_angle(q: np.ndarray, r: np.ndarray) -> np.ndarray:
    """(...) rad in 0..pi: how far one rotation (..., 4) is from the other."""
    return 2 * np.arccos(np.minimum(np.abs(np.sum(np.asarray(q) * np.asarray(r), -1)), 1))


def hue_change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(...), (...) -> (...) in [-0.5, 0.5): the short way round the circle of hues."""
    return np.mod(after - before + 0.5, 1.0) - 0.5


class ObjectViews(ViewEnv):
    """One object, turned, with the floor's and the light's hue. See :class:`envs.view_env.ViewEnv` for the contract.

    Action (6,): the rotation from this view to the next, a quaternion that is made unit length, then what is added to
    the floor's and to the light's hue.

    State: float64 (8,): the object's number, 0..2**20 - 1, which alone determines its class (number % num_classes),
    its proportions and greys; its class; the canonical quaternion; the two hues.

    Args:
        image_size: height and width of ``pixels``, >= 16.
        meshes: folder of OBJ meshes, each of which is a class beside the fourteen composed ones; objects of such a
            class differ in their grey only. None for none.
        render_mode: ``rgb_array`` or None.
        render_size: height and width of what :meth:`render` returns, with shadows and smooth edges.

    Raises:
        ValueError: a size or a mode that there is not; a folder without meshes, or a file that is none.
        RuntimeError: pictures cannot be drawn here.
    """

    state_names = STATE_NAMES
    label_name = "class"

    def __init__(
        self,
        image_size: int = 64,
        meshes: str | None = None,
        render_mode: str | None = "rgb_array",
        render_size: int = 256,
    ):
        super().__init__(np.array([0, 0, 1, 0, 0, 0, 0, 0], float), 6, image_size, render_mode, render_size)
        self._meshes = None if meshes is None else str(meshes)
        self.num_classes = get_stage(self._meshes).num_classes  # of objects, 14 and one for every mesh
        pick_backend()  # says at once where pictures cannot be drawn

    def _random_state(self) -> np.ndarray:
        number, angles = self.np_random.integers(NUM_OBJECTS), self.np_random.uniform(-QUARTER, QUARTER, 3)
        return view_state(number, self.num_classes, angles, self.np_random.random(2))

    def step(self, action: np.ndarray):
        values = np.asarray(action, dtype=np.float64)
        if values.shape != (6,) or not np.isfinite(values).all():
            raise ValueError(
                "an ObjectViews action must be six finite numbers, a quaternion w, x, y, z and two changes of hue; "
                f"got {values.tolist()}"
            )
        values = np.clip(values, -1.0, 1.0)
        length = np.linalg.norm(values[:4])
        if length < 1e-6:
            raise ValueError("an action's first four numbers must be a quaternion, got zeros; no turn is 1, 0, 0, 0")
        state = self._state.copy()
        state[2:6] = canonical(_unit(multiply(values[:4] / length, state[2:6])))
        state[6:] = _wrap(state[6:] + values[4:])
        self._state = state
        return self._observe(state), 0.0, False, False, self._info()

    def render_state(self, state: np.ndarray) -> np.ndarray:
        """The large picture of ``state`` (8,), uint8 (render_size, render_size, 3), for videos."""
        return get_stage(self._meshes).draw(self._as_state(state), get_renderer(self._meshes, self.render_size, True))

    def reached(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): turned to within 15 degrees of the goal; hues do not count."""
        return rotation_angle(np.asarray(state)[..., 2:6], np.asarray(goal_state)[..., 2:6]) < REACHED

    def moved(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): the goal is more than 45 degrees away."""
        return rotation_angle(np.asarray(state)[..., 2:6], np.asarray(goal_state)[..., 2:6]) > MOVED

    def probe_targets(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """``rotation`` (..., 4), a canonical quaternion; ``floor_hue`` and ``light_hue`` (..., 2), cos and sin."""
        state = np.asarray(state)
        angles = 2 * np.pi * state[..., 6:]
        circle = np.stack([np.cos(angles), np.sin(angles)], -1)
        return {
            "rotation": canonical(state[..., 2:6]),
            "floor_hue": circle[..., 0, :],
            "light_hue": circle[..., 1, :],
        }

    def relations(self, state: np.ndarray, other: np.ndarray) -> dict[str, np.ndarray]:
        """How the view ``other`` differs from ``state``, both (..., 8): what an action between them would say.

        ``rotation`` (..., 4), a canonical quaternion; ``hue`` (..., 2) in [-0.5, 0.5), of floor and light.
        """
        state, other = np.asarray(state), np.asarray(other)
        return {
            "rotation": relative_rotation(state[..., 2:6], other[..., 2:6]),
            "hue": hue_change(state[..., 6:], other[..., 6:]),
        }

    def _as_state(self, state: np.ndarray) -> np.ndarray:
        values = np.array(state, dtype=np.float64)
        if values.shape != (8,) or not np.isfinite(values).all():
            raise ValueError(
                f"an ObjectViews state must be eight finite numbers ({', '.join(STATE_NAMES)}), got {values.tolist()}"
            )
        number, label = values[:2].tolist()
        if not number.is_integer() or not 0 <= number < NUM_OBJECTS:
            raise ValueError(f"object must be a whole number in 0..{NUM_OBJECTS - 1}, got {number}")
        if label != number % self.num_classes:
            raise ValueError(
                f"object {number:.0f} is of class {number % self.num_classes:.0f} where there are {self.num_classes} "
                f"classes, got {label}; a player's meshes must be the environment's"
            )
        length = np.linalg.norm(values[2:6])
        if abs(length - 1) > 1e-3:
            raise ValueError(f"qw, qx, qy, qz must have length 1, got {values[2:6].tolist()} of length {length:.4f}")
        if (values[6:] < 0).any() or (values[6:] > 1).any():
            raise ValueError(f"floor_hue and light_hue must lie in 0..1, got {values[6:].tolist()}")
        values[2:6], values[6:] = canonical(_unit(values[2:6])), _wrap(values[6:])
        return values

    def _observe(self, state: np.ndarray) -> dict[str, np.ndarray]:
        renderer = get_renderer(self._meshes, round(SUPERSAMPLING * self.image_size), False)
        size = (self.image_size, self.image_size)
        return {"pixels": cv2.resize(get_stage(self._meshes).draw(state, renderer), size, interpolation=cv2.INTER_AREA)}


def _unit(q: np.ndarray) -> np.ndarray:
    """(4,) of length 1; left to the bit where it is already, so that states survive a round trip."""
    length = np.linalg.norm(q)
    return q if abs(length - 1) < 1e-12 else q / length


def _wrap(hue: np.ndarray) -> np.ndarray:
    """Into [0, 1); a float32 may have been rounded up to 1, and a tiny negative number's remainder is 1."""
    hue = np.mod(hue, 1.0)
    return np.where(hue >= 1, 0.0, hue)


def view_state(number: int, num_classes: int, angles: np.ndarray, hues: np.ndarray) -> np.ndarray:
    """The state (8,) of an object seen under Euler angles (3,) rad and hues (2,)."""
    return np.concatenate([[number, number % num_classes], rotation_from_euler(angles), hues])


class ObjectViewer:
    """Goes from one random view of an object to the next.

    Euler angles are uniform within +-max_angle_deg, hues uniform. In a share of the episodes, labelled ``beyond``,
    every view has an Euler angle past a quarter turn instead: rotations that no other episode shows.

    Args:
        max_angle_deg: 0..180; at most 90 with ``beyond``, or its rotations would not be new.
        beyond: share of episodes past a quarter turn, 0..1.
        label: written into the other episodes as their policy.
        turn: how far an episode's views spread around a first random one, 0..1; with 1 every view is drawn
            independently.
        meshes: the environment's.

    Raises:
        ValueError: an argument out of its bounds.
    """

    def __init__(
        self,
        max_angle_deg: float = 90,
        beyond: float = 0.1,
        label: str = "scripted",
        turn: float = 1.0,
        meshes: str | None = None,
    ):
        if not 0 <= beyond <= 1 or not 0 <= turn <= 1:
            raise ValueError(f"beyond and turn must lie in 0..1, got {beyond!r} and {turn!r}")
        if not 0 < max_angle_deg <= (90 if beyond > 0 else 180):
            raise ValueError(
                f"max_angle_deg must lie in 0..90 (0..180 with beyond=0), got {max_angle_deg!r} with beyond={beyond!r}"
            )
        self.label, self._own_label = label, label
        self.beyond, self.turn = beyond, turn
        self.num_classes = NUM_CLASSES + (0 if meshes is None else len(find_meshes(str(meshes))))
        self._max_angle = np.radians(max_angle_deg)

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """A random object's first view (8,), and the object as the group."""
        self._rng = rng
        self._beyond = bool(rng.random() < self.beyond)
        self.label = "beyond" if self._beyond else self._own_label
        self._number = int(rng.integers(NUM_OBJECTS))
        self._first = self._draw()
        self.view = view_state(self._number, self.num_classes, *self._first)
        return self.view, f"object/{self._number:07d}"

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (6,) action from ``state`` to a newly drawn view, kept as ``view`` (8,)."""
        self.view = view_state(self._number, self.num_classes, *self._next())
        turn, hues = relative_rotation(state[2:6], self.view[2:6]), hue_change(state[6:], self.view[6:])
        return np.concatenate([turn, hues]).astype(np.float32)

    def keep(self, states: np.ndarray) -> bool:
        """Everything is worth storing."""
        return True

    def _draw(self) -> tuple[np.ndarray, np.ndarray]:
        """Euler angles (3,) rad and hues (2,)."""
        angles = self._rng.uniform(-self._max_angle, self._max_angle, 3)
        if self._beyond:
            # One axis, not two or three: half turns about all three are no turn at all.
            angles[self._rng.integers(3)] = self._rng.choice((-1, 1)) * self._rng.uniform(QUARTER, np.pi)
        return angles, self._rng.random(2)

    def _next(self) -> tuple[np.ndarray, np.ndarray]:
        while True:
            angles, hues = self._draw()
            if self.turn < 1:
                angles = self._first[0] + self.turn * (angles - self._first[0])
                hues = _wrap(self._first[1] + self.turn * hue_change(self._first[1], hues))
            if not self._beyond or np.abs(angles).max() > QUARTER:
                return angles, hues
