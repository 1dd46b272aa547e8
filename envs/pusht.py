"""PushT: a round agent pushes a T-shaped block. gym-pusht's physics, a fast picture, exact states.

Units and the simulator state: :mod:`envs.pusht_physics`.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import gymnasium as gym
import numpy as np

from envs import pusht_flow
from envs.pusht_physics import (
    AGENT_RADIUS,
    ARENA,
    GOAL_POSE,
    STATE_NAMES,
    Physics,
    PushTEnv,
    angle_difference,
    as_state,
    block_center,
    random_state,
    reached,
    task_state,
)
from envs.reset_options import state_and_goal

# After pusht_physics, which sets what pygame reads.
from gym_pusht.envs.pusht import pymunk_to_shapely  # isort: skip

SUCCESS_COVERAGE = 0.95
ACTION_MODES = ("relative", "absolute")
REWARDS = ("coverage", "none")
MIN_IMAGE_SIZE = 32


def whole_size(name: str, size: int) -> int:
    """``size`` as an int; ValueError if it is not a whole number >= 32."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < MIN_IMAGE_SIZE:
        raise ValueError(f"{name} must be a whole number of px >= {MIN_IMAGE_SIZE}, got {size!r}")
    return int(size)


class Renderer:
    """Draws states as gym-pusht does, anti-aliased at any size, without its 512 px surface.

    Args:
        image_size: height and width in px, >= 32.
    """

    _shift = 6  # cv2 takes fixed-point coordinates with this many fractional bits
    _outline = 2.25  # px of the arena on either side of a block's edge
    _bleed = 0.65  # px of the picture by which cv2's anti-aliased shapes come out too large, fitted to gym-pusht's
    _block = (119, 136, 153), (143, 163, 184)  # outline, inside
    _agent = (65, 105, 225), (78, 126, 255)

    def __init__(self, image_size: int):
        self.image_size = whole_size("image_size", image_size)
        self._scale = self.image_size / ARENA
        self.rectangles = np.stack(tee_rectangles(self._outline))  # what the block covers, see envs.pusht_flow
        bleed = self._bleed / self._scale
        # Stem first: the bar lies on top.
        shapes = [tee_rectangles(grow)[k] for k in (1, 0) for grow in (self._outline - bleed, -self._outline - bleed)]
        self._points = np.concatenate(shapes) * (self._scale * (1 << self._shift))
        self._background = self._draw_background()

    def __call__(self, state: np.ndarray) -> np.ndarray:
        """uint8 (height, width, 3) RGB of a state (>= 5,)."""
        x, y, block_x, block_y, angle = np.asarray(state[:5], dtype=np.float64).tolist()
        image = self._background.copy()
        points = self._place(self._points, block_x, block_y, angle)
        aa, shift = cv2.LINE_AA, self._shift
        for i in range(0, 16, 4):
            cv2.fillConvexPoly(image, points[i : i + 4], self._block[(i // 4) % 2], aa, shift)
        center = round(self._pixel(x)), round(self._pixel(y))
        for radius, color in zip((AGENT_RADIUS, AGENT_RADIUS - 4), self._agent, strict=True):
            size = round((radius * self._scale - self._bleed) * (1 << shift))
            cv2.circle(image, center, max(size, 1), color, -1, aa, shift)
        return image

    def _pixel(self, x: float) -> float:
        # A world coordinate is the centre of gym-pusht's pixel of that number.
        return ((x + 0.5) * self._scale - 0.5) * (1 << self._shift)

    def _place(self, points: np.ndarray, x: float, y: float, angle: float) -> np.ndarray:
        cos, sin = math.cos(angle), math.sin(angle)
        return np.rint(points @ ((cos, sin), (-sin, cos)) + (self._pixel(x), self._pixel(y))).astype(np.int32)

    def _draw_background(self) -> np.ndarray:
        """White floor, the green target zone and the walls, drawn large and shrunk once."""
        scale = math.ceil(self.image_size / ARENA)
        size = int(ARENA) * scale
        image = np.full((size, size, 3), 255, np.uint8)
        x, y, angle = GOAL_POSE
        rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        for rectangle in tee_rectangles(0.0):
            corners = (rectangle @ rotation + (x + 0.5, y + 0.5)) * scale - 0.5
            cv2.fillPoly(image, [np.rint(corners).astype(np.int32)], (144, 238, 144))
        edges = [edge * scale for edge in (3, 8, 504, 509)]  # gym-pusht's walls are 5 px wide
        image[edges[0] : edges[3], edges[0] : edges[1]] = image[edges[0] : edges[3], edges[2] : edges[3]] = 211
        image[edges[0] : edges[1], edges[0] : edges[3]] = image[edges[2] : edges[3], edges[0] : edges[3]] = 211
        return cv2.resize(image, (self.image_size, self.image_size), interpolation=cv2.INTER_AREA)


def tee_rectangles(grow: float) -> tuple[np.ndarray, np.ndarray]:
    """Corners (4, 2) of the T's bar and stem in the block's frame, px, each grown by ``grow`` on every side."""
    boxes = (-60.0, 0.0, 60.0, 30.0), (-15.0, 30.0, 15.0, 120.0)
    bar, stem = (
        np.array([(a - grow, b - grow), (c + grow, b - grow), (c + grow, d + grow), (a - grow, d + grow)])
        for a, b, c, d in boxes
    )
    return bar, stem


class PushT(gym.Env):
    """Push the T. Follows :class:`worldjepa.types.GoalEnv`.

    Observations: ``pixels`` uint8 (image_size, image_size, 3) RGB; ``proprioception`` float32 (2,) agent x, y in px.
    ``info`` holds ``state`` (7,); with a goal state ``is_success`` (:meth:`reached`); and with the coverage reward
    ``coverage``, the share of the target zone under the block, and without a goal state ``is_success`` (above 0.95).

    Args:
        image_size: height and width of ``pixels``, >= 32.
        action_mode: ``relative``, Box(-1, 1): the agent's target lies 100 px x action from where it is, kept 20 px off
            the arena's edge; or ``absolute``, Box(0, 512): the target in px, gym-pusht's own. Actions are clipped.
        reward: ``coverage``, gym-pusht's clip(coverage / 0.95, 0, 1), terminating above 0.95; or ``none``, always 0,
            never terminating, faster.
        render_mode: ``rgb_array`` or None.
        render_size: height and width of what :meth:`render` returns.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    state_names = STATE_NAMES

    def __init__(
        self,
        image_size: int = 64,
        action_mode: str = "relative",
        reward: str = "none",
        render_mode: str | None = "rgb_array",
        render_size: int = 256,
    ):
        for name, value, known in (("action_mode", action_mode, ACTION_MODES), ("reward", reward, REWARDS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        self.action_mode, self.reward, self.render_mode = action_mode, reward, render_mode
        self._draw = Renderer(image_size)
        self._draw_large = Renderer(whole_size("render_size", render_size))
        self.physics = Physics()
        self.goal_state: np.ndarray | None = None
        self._goal_geometry = None
        size = self._draw.image_size
        self.observation_space = gym.spaces.Dict(
            pixels=gym.spaces.Box(0, 255, (size, size, 3), np.uint8),
            proprioception=gym.spaces.Box(0, ARENA, (2,), np.float32),
        )
        low, high = (-1.0, 1.0) if action_mode == "relative" else (0.0, ARENA)
        self.action_space = gym.spaces.Box(low, high, (2,), np.float32)
        self._low, self._high = low, high

    @property
    def rewarded(self) -> bool:
        """Whether rewards mean something, see :class:`worldjepa.types.GoalEnv`."""
        return self.reward != "none"

    # Gymnasium's own methods.

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Starts at ``options["state"]``, or at a random one: with the coverage reward where gym-pusht's task starts,
        else with the agent clear of the block.

        ``options["goal_state"]`` makes ``info["is_success"]`` appear.
        """
        super().reset(seed=seed)
        state, goal = state_and_goal(options)
        self.goal_state = None if goal is None else as_state(goal)
        if state is None:
            state = (task_state if self.rewarded else random_state)(self.np_random)
        self.set_state(state)
        state = self.get_state()
        return self._observe(state), self._info(state)

    def step(self, action: np.ndarray):
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (2,):
            raise ValueError(f"a PushT action must have shape (2,), got {action.shape}")
        x, y = action.tolist()
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError(f"a PushT action must be finite, got {[x, y]}")
        x, y = min(max(x, self._low), self._high), min(max(y, self._low), self._high)
        if self.action_mode == "relative":
            self.physics.step_relative(x, y)
        else:
            self.physics.step(x, y)
        state = self.physics.state()
        info = self._info(state)
        if self.reward == "none":
            return self._observe(state), 0.0, False, False, info
        coverage = info["coverage"]
        return self._observe(state), coverage_reward(coverage), coverage > SUCCESS_COVERAGE, False, info

    def render(self) -> np.ndarray | None:
        """The present picture, uint8 (render_size, render_size, 3)."""
        return None if self.render_mode is None else self._draw_large(self.physics.state())

    # GoalEnv.

    def get_state(self) -> np.ndarray:
        """Simulator state, float64 (7,)."""
        return self.physics.state()

    def set_state(self, state: np.ndarray) -> None:
        """Puts the simulation exactly at ``state`` (5,) or (7,), the block at rest."""
        self.physics.restore(as_state(state))

    def snapshot(self) -> np.ndarray:
        """float64 (10,): all of the dynamics but the contact cache; see :meth:`Physics.restore`."""
        return self.physics.snapshot()

    def restore(self, snapshot: np.ndarray) -> None:
        """Puts the simulation at a :meth:`snapshot`."""
        if np.shape(snapshot) != (10,) or not np.isfinite(snapshot).all():
            raise ValueError(f"a PushT snapshot is 10 finite numbers, got {snapshot}; use set_state for a state")
        self.physics.restore(snapshot)

    def observe_state(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of ``state`` (5,) or (7,), without touching the simulation."""
        return self._observe(as_state(state))

    def render_state(self, state: np.ndarray) -> np.ndarray:
        """The large picture of ``state`` (5,) or (7,), uint8 (render_size, render_size, 3), for videos."""
        return self._draw_large(as_state(state))

    def flow(self, state: np.ndarray, next_state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where what ``pixels`` show at ``state`` is at ``next_state``, both (5,) or (7,).

        Flow: float32 (image_size, image_size, 2), px of the picture to the right and down, of the middle of every
        pixel. Visible: bool (image_size, image_size): that point is in the frame at ``next_state``, and nothing covers
        it there.
        """
        return pusht_flow.flow(as_state(state), as_state(next_state), self._draw.image_size, self._draw.rectangles)

    def segments(self, state: np.ndarray) -> np.ndarray:
        """int64 (image_size, image_size): 0 the floor, 1 the block, 2 the agent at ``state`` (5,) or (7,)."""
        return pusht_flow.segments(as_state(state), self._draw.image_size, self._draw.rectangles)

    def reached(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): agent and block position (4 numbers) within 20 px, block angle within 20 degrees."""
        return reached(state, goal_state)

    def moved(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): the block must move by more than 20 px or turn by more than 20 degrees."""
        state, goal_state = np.asarray(state), np.asarray(goal_state)
        distance = np.linalg.norm(state[..., 2:4] - goal_state[..., 2:4], axis=-1)
        turn = np.abs(angle_difference(state[..., 4], goal_state[..., 4]))
        return (distance > 20) | (turn > np.pi / 9)

    def probe_targets(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """``agent_xy`` and ``block_center`` (..., 2) in px, ``block_angle`` (..., 2) as cos, sin."""
        state = np.asarray(state)
        angle = state[..., 4]
        return {
            "agent_xy": state[..., :2],
            "block_center": block_center(state),
            "block_angle": np.stack([np.cos(angle), np.sin(angle)], axis=-1),
        }

    def reward_at(self, state: np.ndarray) -> float:
        """The coverage reward of ``state`` (5,) or (7,), which the simulation is put at."""
        self.set_state(state)
        return coverage_reward(self.coverage())

    def coverage(self) -> float:
        """Share of the target zone that the block covers, 0..1, as gym-pusht computes it."""
        shapes = self.physics.block_shapes
        if self._goal_geometry is None:
            goal_body = PushTEnv.get_goal_pose_body(np.array(GOAL_POSE))
            self._goal_geometry = pymunk_to_shapely(goal_body, shapes)
        block = pymunk_to_shapely(self.physics.block, shapes)
        return self._goal_geometry.intersection(block).area / self._goal_geometry.area

    def _observe(self, state: np.ndarray) -> dict[str, np.ndarray]:
        return {"pixels": self._draw(state), "proprioception": state[:2].astype(np.float32)}

    def _info(self, state: np.ndarray) -> dict[str, Any]:
        info: dict[str, Any] = {"state": state}
        if self.goal_state is not None:
            info["is_success"] = bool(self.reached(state, self.goal_state))
        if self.reward == "coverage":
            info["coverage"] = self.coverage()
            info.setdefault("is_success", info["coverage"] > SUCCESS_COVERAGE)
        return info


def coverage_reward(coverage: float) -> float:
    """gym-pusht's reward, 0..1: 1 for a solved task."""
    return min(max(coverage / SUCCESS_COVERAGE, 0.0), 1.0)
