"""TwoRoom: a point walks between two rooms through a door. Small and fast, for quick tests of everything else.

Positions are in a unit square, y down. The wall stands at x = 0.5 and has one door whose middle is at ``door_y``.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import gymnasium as gym
import numpy as np

from envs.reset_options import state_and_goal

STATE_NAMES = ("agent_x", "agent_y")
RADIUS = 0.04  # of the agent; its centre stays this far off walls
WALL = 0.5
HALF_WALL = 0.02
HALF_DOOR = 0.12
STEP = 0.05  # length of an action of 1 along an axis
MIN_IMAGE_SIZE = 16


class TwoRoom(gym.Env):
    """A point agent, two rooms, one door. Follows :class:`worldjepa.types.GoalEnv`.

    Observations: ``pixels`` uint8 (image_size, image_size, 3) RGB; ``proprioception`` float32 (2,) agent x, y in 0..1.
    Actions: Box(-1, 1, (2,)), clipped, a step of 0.05 x action. State: float64 (2,) agent x, y. ``info`` holds
    ``state`` and, with a goal state, ``is_success``; there is no other reward (always 0).

    Args:
        image_size: height and width of ``pixels``, >= 16.
        door_y: middle of the door, 0.2..0.8.
        render_mode: ``rgb_array`` or None.
        render_size: height and width of what :meth:`render` returns.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    state_names = STATE_NAMES

    def __init__(
        self, image_size: int = 64, door_y: float = 0.5, render_mode: str | None = "rgb_array", render_size: int = 256
    ):
        for name, size in (("image_size", image_size), ("render_size", render_size)):
            if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < MIN_IMAGE_SIZE:
                raise ValueError(f"{name} must be a whole number >= {MIN_IMAGE_SIZE}, got {size!r}")
        if not 0.2 <= door_y <= 0.8:
            raise ValueError(f"door_y must lie in 0.2..0.8, got {door_y!r}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        self.door_y, self.render_mode = float(door_y), render_mode
        self._background, self._large = self._draw_rooms(int(image_size)), self._draw_rooms(int(render_size))
        self.goal_state: np.ndarray | None = None
        self._x = self._y = 0.25
        self.observation_space = gym.spaces.Dict(
            pixels=gym.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8),
            proprioception=gym.spaces.Box(0, 1, (2,), np.float32),
        )
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Starts at ``options["state"]`` or anywhere; ``options["goal_state"]`` makes ``info["is_success"]`` appear."""
        super().reset(seed=seed)
        state, goal = state_and_goal(options)
        self.goal_state = None if goal is None else self._as_state(goal)
        self.set_state(random_state(self.np_random) if state is None else state)
        state = self.get_state()
        return self.observe_state(state), self._info(state)

    def step(self, action: np.ndarray):
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (2,) or not np.isfinite(action).all():
            raise ValueError(f"a TwoRoom action must be two finite numbers, got {action.tolist()}")
        dx, dy = (min(max(a, -1.0), 1.0) * STEP for a in action.tolist())
        # One axis after the other, so that the agent slides along walls; a step is shorter than the wall is wide.
        if self._free(self._x + dx, self._y):
            self._x += dx
        if self._free(self._x, self._y + dy):
            self._y += dy
        state = self.get_state()
        return self.observe_state(state), 0.0, False, False, self._info(state)

    def render(self) -> np.ndarray | None:
        """The present picture, uint8 (render_size, render_size, 3)."""
        return None if self.render_mode is None else self.render_state(self.get_state())

    def render_state(self, state: np.ndarray) -> np.ndarray:
        """The large picture of ``state``, uint8 (render_size, render_size, 3), for videos."""
        return _draw_agent(self._large, self._as_state(state))

    def get_state(self) -> np.ndarray:
        """Simulator state, float64 (2,)."""
        return np.array([self._x, self._y])

    def set_state(self, state: np.ndarray) -> None:
        """Puts the agent exactly at ``state`` (2,)."""
        self._x, self._y = self._as_state(state).tolist()

    snapshot, restore = get_state, set_state  # the state is all there is

    def observe_state(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of ``state`` (2,), without touching the simulation."""
        state = self._as_state(state)
        return {"pixels": _draw_agent(self._background, state), "proprioception": state.astype(np.float32)}

    def reached(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): within 0.08 of the goal, the agent's own width."""
        return np.linalg.norm(np.asarray(state) - np.asarray(goal_state), axis=-1) < 2 * RADIUS

    def moved(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): the goal lies in the other room."""
        return (np.asarray(state)[..., 0] < WALL) != (np.asarray(goal_state)[..., 0] < WALL)

    def probe_targets(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """``agent_xy`` (..., 2)."""
        return {"agent_xy": np.asarray(state)}

    def _as_state(self, state: np.ndarray) -> np.ndarray:
        values = np.array(state, dtype=np.float64)
        if values.shape != (2,) or not np.isfinite(values).all():
            raise ValueError(f"a TwoRoom state must be two finite numbers, agent x and y; got {values.tolist()}")
        if not self._free(*values.tolist(), slack=1e-6):  # stored states are float32: a hair inside is no mistake
            raise ValueError(f"the agent cannot stand in a wall, got {values.tolist()} with the door at {self.door_y}")
        return values

    def _free(self, x: float, y: float, slack: float = 0.0) -> bool:
        low, high = RADIUS - slack, 1 - RADIUS + slack
        in_door = abs(y - self.door_y) <= HALF_DOOR - low
        return low <= x <= high and low <= y <= high and (in_door or abs(x - WALL) >= HALF_WALL + low)

    def _info(self, state: np.ndarray) -> dict[str, Any]:
        if self.goal_state is None:
            return {"state": state}
        return {"state": state, "is_success": bool(self.reached(state, self.goal_state))}

    def _draw_rooms(self, size: int) -> np.ndarray:
        image = np.full((8 * size, 8 * size, 3), 255, np.uint8)
        left, right = (round((WALL + s * HALF_WALL) * 8 * size) for s in (-1, 1))
        top, bottom = (round((self.door_y + s * HALF_DOOR) * 8 * size) for s in (-1, 1))
        image[:top, left:right] = image[bottom:, left:right] = 60
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def _draw_agent(background: np.ndarray, state: np.ndarray) -> np.ndarray:
    image = background.copy()
    scale = len(image) * 64  # six fractional bits
    center = round(float(state[0]) * scale) - 32, round(float(state[1]) * scale) - 32
    cv2.circle(image, center, round(RADIUS * scale), (200, 40, 40), -1, cv2.LINE_AA, 6)
    return image


def random_state(rng: np.random.Generator) -> np.ndarray:
    """A state (2,) in either room, clear of the wall."""
    margin = HALF_WALL + RADIUS
    x, y = rng.uniform(RADIUS, WALL - margin), rng.uniform(RADIUS, 1 - RADIUS)
    return np.array([x if rng.random() < 0.5 else 1 - x, y])


class TwoRoomPlayer:
    """Walks from one random place to the next, through the door where it must, with noise.

    Args:
        door_y: where the environment's door is.
        label: written into every episode as its policy.
    """

    def __init__(self, door_y: float = 0.5, label: str = "scripted"):
        self.door_y, self.label = door_y, label

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """A random start (2,) and a group of its own."""
        self._rng = rng
        self._goal = random_state(rng)
        return random_state(rng), f"{self.label}/{int(rng.integers(2**62)):016x}"

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (2,) action in [-1, 1]."""
        x, y = state[:2].tolist()
        if math.hypot(self._goal[0] - x, self._goal[1] - y) < STEP:
            self._goal = random_state(self._rng)
        goal_x, goal_y = self._goal.tolist()
        if (x < WALL) != (goal_x < WALL):
            before = WALL + math.copysign(HALF_WALL + 2 * RADIUS, x - WALL)
            through = abs(y - self.door_y) < HALF_DOOR - RADIUS - 0.02
            goal_x, goal_y = (goal_x if through else before), self.door_y
        action = np.array([goal_x - x, goal_y - y]) / STEP + 0.3 * self._rng.standard_normal(2)
        return np.clip(action, -1, 1).astype(np.float32)

    def keep(self, states: np.ndarray) -> bool:
        """Everything is worth storing."""
        return True
