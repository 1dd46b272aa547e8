"""Street: a car with a spinning LiDAR drives a route through traffic. Made in MuJoCo, whose rays are the sensor.

Roads, routes and what stands beside them are those of :mod:`envs.street_layout`; how things move is in
:mod:`envs.street_traffic`. All follows from the state: no dynamics are simulated beyond the car's kinematics and rules
for the others.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from envs.lidar import Lidar
from envs.reset_options import state_and_goal
from envs.street_drawing import draw_from_above, draw_ranges
from envs.street_driver import TRAINING, as_range
from envs.street_layout import CLASSES, NUM_LAYOUTS, make_layout
from envs.street_scene import layout_of, scene_of
from envs.street_traffic import (
    ARRIVED,
    ASTRAY,
    DRIVEN,
    LAYOUT,
    MAX_SPEED,
    MAX_STEER,
    MOVER_PROGRESS,
    POSE,
    PROGRESS,
    SPEED,
    STATE_NAMES,
    STEER,
    STEP,
    TICK,
    advance,
    all_boxes,
    collides,
    present,
    project,
    start_state,
)
from envs.view_env import check_sizes

NUM_WAYPOINTS, WAYPOINT_SPACING = 10, 3.0  # m
REACH = 1000.0  # m: nothing on a street is farther from its middle
ABOVE_ROAD = 0.3  # m: from here on points of a cloud lie on things
FAILED = -20.0  # reward for an end that is none


class Street(gym.Env):
    """A car on a street, step 0.2 s. Follows :class:`worldjepa.types.GoalEnv`.

    Observations:
        ``sweep`` float16 (beams, azimuths, 2): range, m, 0 where nothing came back, and intensity, 0..1; rows and
        columns as in :mod:`envs.lidar`.
        ``proprioception`` float32 (2,): speed, m/s, and steering angle, rad, positive to the left.
        ``route`` float32 (10, 2): the route's points 3, 6, ... 30 m on, x ahead and y to the left of our car, m; past
        its end, the end.
        ``pixels`` uint8 (image_size, image_size, 3), with ``pixels=True``: 51.2 m x 51.2 m from above.
        ``cloud`` float32 (cloud, 3), with ``cloud`` > 0: so many of the sweep's points that lie more than 0.3 m above
        the road, m; all at 0 where there is none.

    Action (2,), float32 in [-1, 1], clipped: steer (1 turns the wheels to 0.6 rad to the left, at 1 rad/s) and throttle
    (1 accelerates by 3 m/s^2, -1 brakes by 6). The car is a kinematic bicycle with a wheelbase of 2.7 m; it goes at
    most 10 m/s and never back.

    ``shown`` names the observations that are wanted, all of them when None; a sweep that nobody wants is not made.

    The frame of the car, for route, points and boxes, lies in the LiDAR: over the car's middle, 1.7 m above the road,
    x ahead, y to the left, z up.

    State: float64 (37,), numbers that float32 holds exactly; see :mod:`envs.street_traffic`. The noise of a sweep
    follows from its layout and tick.

    Reward: the m that we have come on along the route, less 20 for a collision or for leaving the route by 6 m; both
    end the episode, and so does the route's end. ``info`` holds ``state``, ``collided`` (our box overlaps another's),
    ``completion`` (0..1 of the route), ``distance`` (m driven), ``success`` (the end is reached without a collision),
    and ``is_success`` where there is a goal state.

    Args:
        layouts: numbers of the streets that :meth:`reset` draws from, the first and the one after the last;
            0 <= low < high <= 2**24. Streets for training and for judging lie in ranges that share nothing:
            ``street_driver.TRAINING``, the default, and ``street_driver.HELD_OUT``.
        beams: of the LiDAR, 32 or 64 (any >= 1).
        azimuths: of the LiDAR, >= 1.
        max_range: of the LiDAR, m.
        range_noise: of the LiDAR, m; ``dropout``: share of its echoes that are lost.
        pixels: whether ``pixels`` is observed.
        image_size: height and width of ``pixels``, >= 16.
        cloud: points of ``cloud``, >= 0; 0 leaves it out.
        render_mode: ``rgb_array`` or None.
        render_size: width of what :meth:`render` returns, >= 16 and a multiple of 4.

    Raises:
        ValueError: an argument out of its bounds.
    """

    rewarded = True
    outcomes = ("completion", "collided", "distance")
    """Of ``info``: how a drive has ended."""
    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / STEP)}
    state_names = STATE_NAMES
    class_names = CLASSES

    def __init__(
        self,
        layouts: tuple[int, int] = TRAINING,
        beams: int = 32,
        azimuths: int = 512,
        max_range: float = 60.0,
        range_noise: float = 0.02,
        dropout: float = 0.02,
        pixels: bool = False,
        image_size: int = 64,
        cloud: int = 0,
        render_mode: str | None = "rgb_array",
        render_size: int = 256,
    ):
        check_sizes(image_size=image_size, render_size=render_size)
        if render_size % 4:
            raise ValueError(f"render_size must be a multiple of 4, got {render_size}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        if cloud < 0:
            raise ValueError(f"cloud must be >= 0 points, got {cloud}")
        self.layouts = as_range(layouts)
        self.lidar = Lidar(beams, azimuths, max_range=max_range, range_noise=range_noise, dropout=dropout)
        self.pixels, self.image_size, self.cloud = bool(pixels), int(image_size), int(cloud)
        self.render_mode, self.render_size = render_mode, int(render_size)
        self.goal_state: np.ndarray | None = None
        self.shown: frozenset[str] | None = None
        self._state = start_state(make_layout(self.layouts[0])).astype(np.float32).astype(np.float64)
        box = gym.spaces.Box
        farthest = np.stack([np.full((beams, azimuths), max_range), np.ones((beams, azimuths))], -1)
        spaces = {
            "sweep": box(np.float16(0), farthest.astype(np.float16), dtype=np.float16),
            "proprioception": box(np.float32([0, -MAX_STEER]), np.float32([MAX_SPEED, MAX_STEER]), dtype=np.float32),
            "route": box(-2 * REACH, 2 * REACH, (NUM_WAYPOINTS, 2), np.float32),
        }
        if self.pixels:
            spaces["pixels"] = box(0, 255, (image_size, image_size, 3), np.uint8)
        if self.cloud:
            spaces["cloud"] = box(-max_range, max_range, (self.cloud, 3), np.float32)
        self.observation_space = gym.spaces.Dict(spaces)
        self.action_space = box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Starts at ``options["state"]`` or on one of ``layouts``; with ``options["goal_state"]`` there is a goal."""
        super().reset(seed=seed)
        state, goal = state_and_goal(options)
        self.goal_state = None if goal is None else self._as_state(goal)
        if state is None:
            state = start_state(make_layout(int(self.np_random.integers(*self.layouts))))
        self.set_state(state)
        return self.observe_state(self._state), self._info()

    def step(self, action: np.ndarray):
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (2,) or not np.isfinite(action).all():
            raise ValueError(f"a Street action must be two finite numbers, steer and throttle; got {action.tolist()}")
        before = self._state
        layout = layout_of(before)
        self._state = advance(layout, before, action).astype(np.float32).astype(np.float64)
        info = self._info()
        astray = project(layout.route, self._state[2:4], self._state[PROGRESS])[1] > ASTRAY
        failed = info["collided"] or astray
        reward = float(self._state[PROGRESS] - before[PROGRESS]) + FAILED * failed
        return self.observe_state(self._state), reward, bool(failed or info["success"]), False, info

    def render(self) -> np.ndarray | None:
        """The present picture, uint8 (render_size * 5 / 4, render_size, 3)."""
        return None if self.render_mode is None else self.render_state(self._state)

    def render_state(self, state: np.ndarray) -> np.ndarray:
        """The street from above and, below, the sweep's ranges; uint8 (render_size * 5 / 4, render_size, 3)."""
        state, size = self._as_state(state), self.render_size
        ranges = draw_ranges(self._sweep(state)[..., 0], self.lidar.max_range, size // 4, size)
        return np.concatenate([draw_from_above(layout_of(state), state, size), ranges])

    def get_state(self) -> np.ndarray:
        """Simulator state, float64 (37,)."""
        return self._state.copy()

    def set_state(self, state: np.ndarray) -> None:
        """Puts everything where ``state`` (37,) says, to float32's precision."""
        self._state = self._as_state(state)

    snapshot, restore = get_state, set_state  # the state is all there is

    def observe_state(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of ``state`` (37,), without touching the simulation; of a stored one, that of then."""
        state = self._as_state(state)
        observation = {
            "proprioception": state[[SPEED, STEER]].astype(np.float32),
            "route": self._waypoints(state),
        }
        of_sweep = ["sweep", *(["cloud"] if self.cloud else [])]
        wanted = [name for name in of_sweep if self.shown is None or name in self.shown]
        if wanted:
            sweep = self._sweep(state)
            made = {name: self._cloud(sweep) if name == "cloud" else sweep for name in wanted}
            observation = {**made, **observation}
        if self.pixels:
            observation["pixels"] = draw_from_above(layout_of(state), state, self.image_size)
        return observation

    def boxes(self, state: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """What is there in ``state`` (37,), seen or not, near or far.

        Returns:
            float32 (N, 7): x, y, z of the centre, length, width, height, m, and yaw, rad in [-pi, pi), in the LiDAR's
            frame; and N names of ``class_names``.
        """
        state = self._as_state(state)
        boxes, classes = all_boxes(layout_of(state), state)
        x, y, heading = state[POSE]
        cos, sin = np.cos(heading), np.sin(heading)
        boxes[:, :2] = (boxes[:, :2] - [x, y]) @ np.array([[cos, -sin], [sin, cos]])
        boxes[:, 2] -= self.lidar.height
        boxes[:, 6] = np.remainder(boxes[:, 6] - heading + np.pi, 2 * np.pi) - np.pi
        return boxes.astype(np.float32), [CLASSES[kind] for kind in classes]

    def hits(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What every ray of the sweep in ``state`` (37,) meets, before any echo is lost.

        Returns:
            int64 (beams, azimuths): the row of :meth:`boxes` that it meets, -1 for the ground and for nothing; and
            int64 (beams, azimuths): its class, a place in ``class_names``, of which 0 is the ground; -1 for nothing.
        """
        state = self._as_state(state)
        scene = scene_of(int(state[LAYOUT]))
        _, geoms, _ = scene.cast(self.lidar, state)
        objects = scene.object_of[geoms]
        classes = np.where(geoms < 0, -1, scene.classes[objects])
        there = present(layout_of(state), state)
        there = np.concatenate([there, np.ones(len(layout_of(state).boxes), bool)])
        row = np.append(np.where(there, np.cumsum(there) - 1, -1), -1)
        return np.where(geoms > 0, row[objects], -1), classes.astype(np.int64)

    def reached(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): on the goal's street, within 2 m and 20 degrees of its pose."""
        state, goal_state = np.asarray(state), np.asarray(goal_state)
        near = np.linalg.norm(state[..., 2:4] - goal_state[..., 2:4], axis=-1) < 2.0
        turned = np.cos(state[..., 4] - goal_state[..., 4]) > np.cos(np.radians(20))
        return near & turned & (state[..., LAYOUT] == goal_state[..., LAYOUT])

    def moved(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): the goal is on another street or 10 m away or more."""
        state, goal_state = np.asarray(state), np.asarray(goal_state)
        far = np.linalg.norm(state[..., 2:4] - goal_state[..., 2:4], axis=-1) >= 10.0
        return far | (state[..., LAYOUT] != goal_state[..., LAYOUT])

    def probe_targets(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """``speed`` (..., 1), m/s, and ``steer`` (..., 1), rad."""
        state = np.asarray(state)
        return {"speed": state[..., SPEED, None], "steer": state[..., STEER, None]}

    def _as_state(self, state: np.ndarray) -> np.ndarray:
        values = np.array(state, dtype=np.float64)
        if values.shape != (len(STATE_NAMES),) or not np.isfinite(values).all():
            raise ValueError(f"a Street state must be {len(STATE_NAMES)} finite numbers, got {values.tolist()}")
        for name, place in (("layout", LAYOUT), ("tick", TICK)):
            if not 0 <= values[place] < NUM_LAYOUTS or values[place] % 1:
                raise ValueError(f"a state's {name} must be a whole number in 0..2**24 - 1, got {values[place]}")
        values = values.astype(np.float32).astype(np.float64)
        if np.abs(values[2:4]).max() > REACH or not 0 <= values[SPEED] <= MAX_SPEED:
            raise ValueError(
                f"a state's car must be within {REACH} m of the middle at 0..{MAX_SPEED} m/s, got {values[:7].tolist()}"
            )
        if abs(values[STEER]) > np.float32(MAX_STEER) or min(values[PROGRESS], values[MOVER_PROGRESS].min()) < 0:
            raise ValueError(
                f"a state's steering angle must lie within {MAX_STEER} rad and progress be >= 0, got {values.tolist()}"
            )
        return values

    def _info(self) -> dict[str, Any]:
        state, layout = self.get_state(), layout_of(self._state)
        collided = collides(layout, state)
        info = {
            "state": state,
            "collided": collided,
            "completion": float(state[PROGRESS] / layout.length),
            "distance": float(state[DRIVEN]),
            "success": bool(state[PROGRESS] >= layout.length - ARRIVED and not collided),
        }
        if self.goal_state is not None:
            info["is_success"] = bool(self.reached(state, self.goal_state))
        return info

    def _sweep(self, state: np.ndarray) -> np.ndarray:
        scene = scene_of(int(state[LAYOUT]))
        ranges, geoms, cosines = scene.cast(self.lidar, state)
        reflectivity = scene.reflectivity_of(self.lidar, ranges, geoms, *state[POSE])
        rng = np.random.default_rng([int(state[LAYOUT]), int(state[TICK]), 0x11DA])
        return self.lidar.measure(ranges, reflectivity, cosines, rng)

    def _cloud(self, sweep: np.ndarray) -> np.ndarray:
        points = self.lidar.to_points(sweep)[:, :3]
        points = points[points[:, 2] > ABOVE_ROAD - self.lidar.height]
        if not len(points):
            return np.zeros((self.cloud, 3), np.float32)
        return points[np.linspace(0, len(points) - 1, self.cloud).round().astype(int)]

    def _waypoints(self, state: np.ndarray) -> np.ndarray:
        route = layout_of(state).route
        along = state[PROGRESS] + WAYPOINT_SPACING * np.arange(1, NUM_WAYPOINTS + 1)
        run = np.linspace(0, layout_of(state).length, len(route))
        dx, dy = np.interp(along, run, route[:, 0]) - state[2], np.interp(along, run, route[:, 1]) - state[3]
        cos, sin = np.cos(state[4]), np.sin(state[4])
        return np.stack([cos * dx + sin * dy, cos * dy - sin * dx], -1).astype(np.float32)
