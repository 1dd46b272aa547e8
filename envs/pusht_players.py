"""Those who play PushT to make data: they see the simulator state and answer with relative actions in [-1, 1].

All follow :class:`worldjepa.types.Player`. A player runs once per simulated step and must not cost more than the
physics, hence plain floats.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np

from envs.pusht import ACTION_SCALE, AGENT_RADIUS, ARENA, CENTER_OF_GRAVITY, as_state, random_state

Target = tuple[float, float]
Skill = Generator[Target, None, None]
"""Yields the point (px) to go to, once per step, and returns when done; reads the player's pose in between."""

# The block's moment of inertia over its mass, px^2 (gym-pusht's choice: twice 1275 + 15^2 of its bar). Damping is total
# and contacts have no friction, so a push at a point with inward normal n moves the block by (n, torque / INERTIA).
INERTIA = 3000.0
CLEARANCE = 115.0  # px from the block's centre at which the agent walks round it; the two touch at 92 or less


def _contacts() -> list[tuple[float, float, float, float, float]]:
    """Where the agent can lean on the T: (x, y, normal x, normal y, torque) in the block's frame, about 12 px apart."""
    edges = [
        # start, end, inward normal; clear of the corners, and of the stem by the agent's width.
        ((-54, 0), (54, 0), (0, 1)),
        ((-55, 30), (-31, 30), (0, -1)),
        ((31, 30), (55, 30), (0, -1)),
        ((-60, 5), (-60, 25), (1, 0)),
        ((60, 5), (60, 25), (-1, 0)),
        ((-15, 47), (-15, 115), (1, 0)),
        ((15, 47), (15, 115), (-1, 0)),
        ((-10, 120), (10, 120), (0, -1)),
    ]
    contacts = []
    for (x0, y0), (x1, y1), (nx, ny) in edges:
        count = 1 + max(1, round(math.hypot(x1 - x0, y1 - y0) / 12))
        for i in range(count):
            x, y = x0 + (x1 - x0) * i / (count - 1), y0 + (y1 - y0) * i / (count - 1)
            torque = (x - CENTER_OF_GRAVITY[0]) * ny - (y - CENTER_OF_GRAVITY[1]) * nx
            contacts.append((x, y, float(nx), float(ny), torque))
    return contacts


CONTACTS = _contacts()


class Pose:
    """The state as floats, with the block's frame at hand."""

    __slots__ = ("angle", "block_x", "block_y", "center_x", "center_y", "cos", "sin", "x", "y")

    def update(self, state: np.ndarray) -> None:
        self.x, self.y, self.block_x, self.block_y, self.angle = state[:5].tolist()
        self.cos, self.sin = math.cos(self.angle), math.sin(self.angle)
        self.center_x, self.center_y = self.to_world(*CENTER_OF_GRAVITY)

    def to_world(self, x: float, y: float) -> Target:
        return self.block_x + self.cos * x - self.sin * y, self.block_y + self.sin * x + self.cos * y

    def to_block(self, x: float, y: float) -> Target:
        x, y = x - self.block_x, y - self.block_y
        return self.cos * x + self.sin * y, self.cos * y - self.sin * x

    def turn(self, x: float, y: float) -> Target:
        """A direction of the block's frame in the world's."""
        return self.cos * x - self.sin * y, self.sin * x + self.cos * y


def needed_motion(pose: Pose, goal: tuple[float, float, float]) -> tuple[float, float, float]:
    """How far the block is from ``goal`` (centre x, y, angle): (dx, dy) px in the block's frame, angle in rad."""
    dx, dy = goal[0] - pose.center_x, goal[1] - pose.center_y
    turn = (goal[2] - pose.angle + math.pi) % (2 * math.pi) - math.pi
    return pose.cos * dx + pose.sin * dy, pose.cos * dy - pose.sin * dx, turn


def push_length(need: tuple[float, float, float], contact: tuple[float, float, float, float, float]) -> float:
    """How far (px of the block's centre) to push at ``contact`` to come closest to ``need``; negative: not from here.

    Distances between poses are sqrt(dx^2 + dy^2 + INERTIA dtheta^2), in which frictionless pushes are projections.
    """
    _, _, nx, ny, torque = contact
    return (need[0] * nx + need[1] * ny + need[2] * torque) / (1 + torque * torque / INERTIA)


def push_gain(need: tuple[float, float, float], contact: tuple[float, float, float, float, float]) -> float:
    """Distance in px that the best push at ``contact`` removes from ``need``, at most the whole of it."""
    return push_length(need, contact) * math.sqrt(1 + contact[4] ** 2 / INERTIA)


def walk(pose: Pose, x: float, y: float) -> Target:
    """The next point on a way to (x, y) that goes round the block: straight, or along a circle about its centre."""
    dx, dy = x - pose.x, y - pose.y
    length = math.hypot(dx, dy) + 1e-6
    along = ((pose.center_x - pose.x) * dx + (pose.center_y - pose.y) * dy) / (length * length)
    if length < 45 or not 0 < along < 1:
        return x, y
    out_x, out_y = pose.x + dx * along - pose.center_x, pose.y + dy * along - pose.center_y
    distance = math.hypot(out_x, out_y)
    if distance > 85:
        return x, y
    if distance < 1:
        out_x, out_y, distance = -dy, dx, length
    scale = CLEARANCE / distance
    return _inside(pose.center_x + out_x * scale), _inside(pose.center_y + out_y * scale)


def _inside(x: float) -> float:
    return min(max(x, 22.0), 490.0)


def stays_inside(states: np.ndarray) -> bool:
    """Whether in ``states`` (L, >= 5) the block was never pressed through a wall."""
    block = states[:, 2:4]
    return bool(np.isfinite(states).all() and block.min() >= 15 and block.max() <= ARENA - 15)


class ScriptedPusher:
    """Plays without a purpose but with variety: mostly pushes, never the same twice.

    A mixture, drawn anew whenever a skill ends: pushes through a random point of the block in a random direction,
    mostly after walking round it; runs of pushes that bring the block towards a random pose; wandering near the block;
    free moves. Speed (18..55 px per step) and the size of the correlated noise on top (2, 6, 12 px) change with it.

    Args:
        label: written into every episode as its policy.
    """

    def __init__(self, label: str = "scripted"):
        self.label = label
        self._pose = Pose()

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """A random start (7,) and a group of its own, since no two episodes share anything."""
        self._rng = rng
        self._skill: Skill = iter(())
        self._normals: list[float] = []
        self._noise_x = self._noise_y = 0.0
        return random_state(rng), f"{self.label}/{int(rng.integers(2**62)):016x}"

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (2,) relative action in [-1, 1] for a state (>= 5,)."""
        pose = self._pose
        pose.update(state)
        target = next(self._skill, None)
        while target is None:
            self._skill = self._choose()
            target = next(self._skill, None)
        dx, dy = target[0] - pose.x, target[1] - pose.y
        shrink = min(1.0, self._speed / (math.hypot(dx, dy) + 1e-6))
        self._noise_x = 0.7 * (self._noise_x + self._noise * self._normal())
        self._noise_y = 0.7 * (self._noise_y + self._noise * self._normal())
        x = (dx * shrink + self._noise_x) / ACTION_SCALE
        y = (dy * shrink + self._noise_y) / ACTION_SCALE
        return np.array((min(max(x, -1.0), 1.0), min(max(y, -1.0), 1.0)), dtype=np.float32)

    def keep(self, states: np.ndarray) -> bool:
        """Whether in ``states`` (L, 7) the block was never pressed through a wall."""
        return stays_inside(states)

    def _normal(self) -> float:
        # One call for many numbers: a call costs as much as a substep of the physics.
        if not self._normals:
            self._normals = self._rng.standard_normal(128).tolist()
        return self._normals.pop()

    def _choose(self) -> Skill:
        rng = self._rng
        self._speed = rng.uniform(18, 55)
        self._noise = (2.0, 6.0, 12.0)[rng.integers(3)]
        kind = rng.random()
        if kind < 0.45:
            return self._aimed_push()
        if kind < 0.75:
            return self._push_to_pose()
        return self._wander() if kind < 0.9 else self._go()

    def _aimed_push(self) -> Skill:
        rng, pose = self._rng, self._pose
        x, y = _point_of_tee(rng)
        angle = rng.uniform(-math.pi, math.pi)
        off_x, off_y = ARENA / 2 - pose.center_x, ARENA / 2 - pose.center_y
        if math.hypot(off_x, off_y) > 110 and rng.random() < 0.8:
            angle = math.atan2(off_y, off_x) + 0.6 * rng.standard_normal()  # away from the walls
        ux, uy = math.cos(angle), math.sin(angle)
        length, round_block = rng.uniform(30, 150), rng.random() < 0.75
        for _ in range(35):
            start_x, start_y = self._outside(*pose.to_world(x, y), ux, uy)
            if math.hypot(start_x - pose.x, start_y - pose.y) < 14:
                break
            yield walk(pose, start_x, start_y) if round_block else (start_x, start_y)
        else:
            return
        end_x, end_y = pose.x + ux * (length + 25), pose.y + uy * (length + 25)
        for _ in range(30):
            dx, dy = end_x - pose.x, end_y - pose.y
            if math.hypot(dx, dy) < 12 or dx * ux + dy * uy < 5:
                return
            yield end_x, end_y

    def _outside(self, x: float, y: float, ux: float, uy: float) -> Target:
        """From a point of the block back along -u until the agent stands clear of it."""
        for _ in range(40):
            lx, ly = self._pose.to_block(x, y)
            if not ((-78 < lx < 78 and -18 < ly < 48) or (-33 < lx < 33 and 12 < ly < 138)):
                break
            x, y = x - 5 * ux, y - 5 * uy
        return _inside(x - 6 * ux), _inside(y - 6 * uy)

    def _push_to_pose(self) -> Skill:
        rng, pose = self._rng, self._pose
        goal_x, goal_y = rng.uniform(130, 382, 2)
        goal_angle = pose.angle + rng.uniform(-math.pi, math.pi)
        for _ in range(int(rng.integers(1, 5))):
            need = needed_motion(pose, (goal_x, goal_y, goal_angle))
            # Not always the best contact: data should show the others too.
            gains = [(push_gain(need, contact) * rng.uniform(0.7, 1.0), contact) for contact in CONTACTS]
            gain, contact = max(gains)
            if gain < 8:
                return
            yield from self._push_at(contact, (goal_x, goal_y, goal_angle), rng.uniform(40, 150))

    def _push_at(self, contact, goal: tuple[float, float, float], limit: float) -> Skill:
        """Walks to a contact and pushes along its normal for at most ``limit`` px, or as far as the goal asks."""
        pose = self._pose
        x, y, nx, ny, torque = contact
        lever = 1 + torque * torque / INERTIA  # motion of the contact point per px of the centre
        gap = AGENT_RADIUS + 8
        for _ in range(35):
            start_x, start_y = pose.to_world(x - gap * nx, y - gap * ny)
            if math.hypot(start_x - pose.x, start_y - pose.y) < 12:
                break
            yield walk(pose, _inside(start_x), _inside(start_y))
        else:
            return
        origin_x, origin_y = pose.x, pose.y
        for _ in range(25):
            left = push_length(needed_motion(pose, goal), contact)
            if left < 3 or math.hypot(pose.x - origin_x, pose.y - origin_y) > limit:
                return
            reach = min(left * lever, 60.0) - AGENT_RADIUS
            yield pose.to_world(x + reach * nx, y + reach * ny)

    def _wander(self) -> Skill:
        rng, pose = self._rng, self._pose
        dx, dy = rng.standard_normal(2) * 70
        for _ in range(int(rng.integers(5, 20))):
            x, y = pose.center_x + dx, pose.center_y + dy
            if math.hypot(x - pose.x, y - pose.y) < 15:
                dx, dy = rng.standard_normal(2) * 70
            yield x, y

    def _go(self) -> Skill:
        x, y = self._rng.uniform(40, 472, 2)
        for _ in range(25):
            if math.hypot(x - self._pose.x, y - self._pose.y) < 15:
                return
            yield x, y


def _point_of_tee(rng: np.random.Generator) -> Target:
    """A point of the T in its own frame, uniform over its area (bar 120 x 30, stem 30 x 90)."""
    if rng.random() < 120 * 30 / (120 * 30 + 30 * 90):
        return rng.uniform(-60, 60), rng.uniform(0, 30)
    return rng.uniform(-15, 15), rng.uniform(30, 120)


class NoisyReplay:
    """Replays demonstrations from a random point on, with a displaced start and correlated noise on the targets.

    Args:
        states: float (N, 5) or (N, 7) of all demonstrations, one after the other.
        actions: float (N, 2) absolute targets, px.
        episode_ends: int (E,) one past each demonstration's last row.
        episodes: which demonstrations may be replayed; the held-out ones are left out here.
        label: written into every episode as its policy.
    """

    def __init__(
        self,
        states: np.ndarray,
        actions: np.ndarray,
        episode_ends: np.ndarray,
        episodes: Sequence[int],
        label: str = "human_replay",
    ):
        states, actions = np.asarray(states, dtype=np.float64), np.asarray(actions, dtype=np.float64)
        if states.ndim != 2 or states.shape[1] not in (5, 7) or actions.shape != (len(states), 2):
            raise ValueError(
                f"expected states (N, 5) or (N, 7) and actions (N, 2), got {states.shape} and {actions.shape}"
            )
        if not (np.isfinite(states).all() and np.isfinite(actions).all()):
            raise ValueError("demonstrations hold numbers that are not finite")
        ends = np.asarray(episode_ends, dtype=np.int64)
        if ends.ndim != 1 or not len(ends) or (np.diff(ends, prepend=0) <= 0).any() or ends[-1] != len(states):
            raise ValueError(f"episode_ends must rise to {len(states)}, the number of rows, got {ends.tolist()[-3:]}")
        self._episodes = np.asarray(episodes, dtype=np.int64)
        if not len(self._episodes) or self._episodes.min() < 0 or self._episodes.max() >= len(ends):
            raise ValueError(f"episodes must name some of the {len(ends)} demonstrations, 0..{len(ends) - 1}")
        self.label = label
        self._states, self._actions = states, actions
        self._starts, self._ends = np.concatenate([[0], ends[:-1]]), ends

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """A displaced state (7,) of a demonstration, at least 30 steps before its end where it is that long, and
        ``human/<demonstration>``."""
        self._rng = rng
        demo = int(rng.choice(self._episodes))
        start, self._last = int(self._starts[demo]), int(self._ends[demo]) - 1
        self._row = int(rng.integers(start, max(start + 1, self._last - 29)))
        self._sigma = rng.choice([0.0, 5.0, 10.0, 20.0, 40.0])
        self._noise = np.zeros(2)
        self._offset = rng.standard_normal(2) * rng.choice([0.0, 4.0, 12.0])
        state = self._states[self._row].copy()
        state[:2] = np.clip(state[:2] + rng.standard_normal(2) * rng.choice([0.0, 5.0, 15.0]), 20, ARENA - 20)
        return as_state(state), f"human/{demo}"

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (2,) relative action in [-1, 1] for a state (>= 5,); past the end, the last target is held."""
        self._noise = 0.8 * self._noise + 0.6 * self._rng.standard_normal(2) * self._sigma
        target = self._actions[min(self._row, self._last)] + self._noise + self._offset
        self._row += 1
        return np.clip((target - state[:2]) / ACTION_SCALE, -1, 1).astype(np.float32)

    def keep(self, states: np.ndarray) -> bool:
        """Whether in ``states`` (L, 7) the block was never pressed through a wall."""
        return stays_inside(states)
