"""What all MuJoCo environments of this repository share: exact states, pictures of any state, goals.

A simulator state is float64 (S,): joint positions, joint velocities, actuator activations, mocap poses, and whatever a
task keeps outside of them (``extra``). Time and the solver's warm start are left out; a :meth:`MujocoEnv.snapshot`
holds them too.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cv2
import gymnasium as gym
import mujoco
import numpy as np

from envs.mujoco_flow import FINE, View, flow_between, look, segments
from envs.rendering import Renderer, make_camera, pick_backend
from envs.reset_options import state_and_goal

MIN_IMAGE_SIZE = 16
SUPERSAMPLING = 1.5  # pictures are drawn this much larger, and averaged: small things move by less than a pixel
STATE = (
    mujoco.mjtState.mjSTATE_QPOS
    | mujoco.mjtState.mjSTATE_QVEL
    | mujoco.mjtState.mjSTATE_ACT
    | mujoco.mjtState.mjSTATE_MOCAP_POS
    | mujoco.mjtState.mjSTATE_MOCAP_QUAT
)
SNAPSHOT = mujoco.mjtState.mjSTATE_INTEGRATION

Places = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Positions (..., nq) -> name -> (..., k): where the parts are that a goal is about, as smooth functions."""


def turn(angle: np.ndarray) -> np.ndarray:
    """(...) rad -> (..., 2) cos, sin."""
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def find(name: str, known: Mapping[str, Any], what: str) -> Any:
    """``known[name]``.

    Raises:
        ValueError: there is none; the message lists the names and the nearest one.
    """
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"no {what} is called {name!r}; there are {', '.join(known)}{hint}")


class MujocoEnv(gym.Env):
    """A gymnasium environment on one MuJoCo model. Follows :class:`worldjepa.types.GoalEnv`.

    Observations: ``pixels`` uint8 (image_size, image_size, 3) RGB, unless ``pixels=False``; ``proprioception``
    float32. Actions: float32 in [-1, 1], clipped. ``info`` holds ``state`` and, with a goal state, ``is_success``.

    A family of environments fills in :meth:`_begin` and :meth:`_simulate`, and :meth:`_proprioception` where it knows
    better than "all positions and velocities".

    Args:
        model, data: mujoco.MjModel and MjData of the simulation.
        key: names model and camera; environments with the same key share their renderers.
        num_actions: raw_action_dim.
        frame_rate: steps per second of simulated time, Hz.
        places: see :data:`Places`; also what latents are probed for.
        tolerances: name of a place -> distance to the goal's that still counts as reached.
        image_size: height and width of ``pixels``, >= 16.
        pixels: without pictures nothing of OpenGL is touched.
        camera: name of a camera of the model; None for its free view.
        render_mode: ``rgb_array`` or None.
        render_size: height and width of what :meth:`render` returns, with shadows and smooth edges.
        extra_names: numbers of the state beyond MuJoCo's, see :meth:`_get_extra`.

    Raises:
        ValueError: a size, a mode or a camera that there is not.
        RuntimeError: pictures are asked for and cannot be drawn here.
    """

    rewarded = True
    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # every environment has its own rate

    def __init__(
        self,
        model,
        data,
        *,
        key: str,
        num_actions: int,
        frame_rate: float,
        places: Places,
        tolerances: Mapping[str, float],
        image_size: int = 64,
        pixels: bool = True,
        camera: str | None = None,
        render_mode: str | None = "rgb_array",
        render_size: int = 256,
        extra_names: tuple[str, ...] = (),
    ):
        for name, size in (("image_size", image_size), ("render_size", render_size)):
            if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < MIN_IMAGE_SIZE:
                raise ValueError(f"{name} must be a whole number >= {MIN_IMAGE_SIZE}, got {size!r}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        self.model, self.data = model, data
        self.places, self.tolerances = places, dict(tolerances)
        self.image_size, self.pixels, self.render_mode, self.render_size = image_size, pixels, render_mode, render_size
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": round(frame_rate)}
        self.goal_state: np.ndarray | None = None
        self._key, self._camera = f"{key}/{camera}", make_camera(model, camera)
        self._drawn = mujoco.MjData(model)  # what is drawn is posed here, and the simulation stays as it is
        self.num_native = mujoco.mj_stateSize(model, STATE)
        self.state_names = (*_state_names(model), *extra_names)
        assert len(self.state_names) == self.num_native + len(extra_names)
        self.action_space = gym.spaces.Box(-1, 1, (num_actions,), np.float32)
        felt = self._proprioception(self.get_state())
        spaces = {"proprioception": gym.spaces.Box(-np.inf, np.inf, felt.shape, np.float32)}
        if pixels:
            pick_backend()  # says at once where pictures cannot be drawn
            spaces["pixels"] = gym.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        self.observation_space = gym.spaces.Dict(spaces)

    # What a family of environments fills in.

    def _begin(self, rng: np.random.Generator) -> None:
        """Puts the simulation into a random start of the task."""
        raise NotImplementedError

    def _simulate(self, action: np.ndarray) -> float:
        """Advances the simulation by one step of a float64 action in [-1, 1]; returns the task's reward."""
        raise NotImplementedError

    def _get_extra(self) -> np.ndarray:
        """float64 (E,): what belongs to the state but not to MuJoCo's, such as a target's place in the model."""
        return np.zeros(0)

    def _set_extra(self, values: np.ndarray) -> None:
        """Puts :meth:`_get_extra`'s numbers back."""

    def _proprioception(self, state: np.ndarray) -> np.ndarray:
        """float32 (n,): what the robot feels in ``state``."""
        return state[: self.model.nq + self.model.nv].astype(np.float32)

    # gymnasium.

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Starts at ``options["state"]`` or anywhere; ``options["goal_state"]`` makes ``info["is_success"]`` appear."""
        super().reset(seed=seed)
        state, goal = state_and_goal(options)
        self.goal_state = None if goal is None else self._as_state(goal)
        start = None if state is None else self._as_state(state)
        self._begin(self.np_random)
        if start is not None:
            self.set_state(start)
        state = self.get_state()
        return self._observe(state), self._info(state)

    def step(self, action: np.ndarray):
        values = np.asarray(action, dtype=np.float64)
        if values.shape != self.action_space.shape or not np.isfinite(values).all():
            raise ValueError(f"an action must be {self.action_space.shape[0]} finite numbers, got {values.tolist()}")
        reward = self._simulate(np.clip(values, -1.0, 1.0))
        state = self.get_state()
        return self._observe(state), float(reward), False, False, self._info(state)

    def render(self) -> np.ndarray | None:
        """The present picture, uint8 (render_size, render_size, 3)."""
        return None if self.render_mode is None else self.render_state(self.get_state())

    # GoalEnv.

    def get_state(self) -> np.ndarray:
        """Simulator state, float64 (S,)."""
        native = np.empty(self.num_native)
        mujoco.mj_getState(self.model, self.data, native, STATE)
        return np.concatenate([native, self._get_extra()])

    def set_state(self, state: np.ndarray) -> None:
        """Puts the simulation exactly at ``state`` (S,); what follows depends on it alone."""
        state = self._as_state(state)
        mujoco.mj_resetData(self.model, self.data)
        self._set_extra(state[self.num_native :])
        mujoco.mj_setState(self.model, self.data, state[: self.num_native], STATE)
        mujoco.mj_forward(self.model, self.data)

    def snapshot(self) -> np.ndarray:
        """float64: all that the dynamics depend on, the solver's warm start included."""
        native = np.empty(mujoco.mj_stateSize(self.model, SNAPSHOT))
        mujoco.mj_getState(self.model, self.data, native, SNAPSHOT)
        return np.concatenate([native, self._get_extra()])

    def restore(self, snapshot: np.ndarray) -> None:
        """Puts the simulation at a :meth:`snapshot`."""
        size = mujoco.mj_stateSize(self.model, SNAPSHOT)
        expected = (size + len(self.state_names) - self.num_native,)
        if np.shape(snapshot) != expected or not np.isfinite(snapshot).all():
            raise ValueError(f"a snapshot is {expected[0]} finite numbers; use set_state for a state")
        self._set_extra(snapshot[size:])
        mujoco.mj_setState(self.model, self.data, snapshot[:size], SNAPSHOT)
        warm_start = self.data.qacc_warmstart.copy()
        mujoco.mj_forward(self.model, self.data)
        self.data.qacc_warmstart[:] = warm_start

    def observe_state(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of ``state`` (S,), without touching the simulation."""
        return self._observe(self._as_state(state))

    def render_state(self, state: np.ndarray) -> np.ndarray:
        """The large picture of ``state`` (S,), uint8 (render_size, render_size, 3), for videos."""
        return self._draw(self._as_state(state), self.render_size, pretty=True)

    def flow(self, state: np.ndarray, next_state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where what ``pixels`` show at ``state`` (S,) is at ``next_state``, without touching the simulation.

        Flow: float32 (image_size, image_size, 2), px to the right and down, of the middle of every pixel. Visible: bool
        (image_size, image_size): that point is in the frame at ``next_state``, and nothing covers it there.
        """
        return flow_between(self._look(state), self._look(next_state))

    def segments(self, state: np.ndarray) -> np.ndarray:
        """int64 (image_size, image_size): the body that is seen at ``state`` (S,); 0 for all that cannot move.

        A tendon's string has the number of bodies plus its own.
        """
        return segments(self._look(state), self.model)

    def reached(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): every place lies within its tolerance of the goal's."""
        return np.all(self._relative_distances(state, goal_state) < 1, 0)

    def moved(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): far away: some place lies further than three times its tolerance from the goal's."""
        return np.any(self._relative_distances(state, goal_state) > 3, 0)

    def probe_targets(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """The places, name -> (..., k)."""
        return self.places(np.asarray(state)[..., : self.model.nq])

    def _relative_distances(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """(places, ...): distances in tolerances."""
        here, there = self.probe_targets(state), self.probe_targets(goal_state)
        return np.stack(
            [
                np.linalg.norm(here[name] - there[name], axis=-1) / tolerance
                for name, tolerance in self.tolerances.items()
            ]
        )

    def _as_state(self, state: np.ndarray) -> np.ndarray:
        values = np.array(state, dtype=np.float64)
        if values.shape != (len(self.state_names),) or not np.isfinite(values).all():
            raise ValueError(
                f"a state must be {len(self.state_names)} finite numbers ({', '.join(self.state_names)}), "
                f"got {values.tolist()}"
            )
        return values

    def _info(self, state: np.ndarray) -> dict[str, Any]:
        if self.goal_state is None:
            return {"state": state}
        return {"state": state, "is_success": bool(self.reached(state, self.goal_state))}

    def _observe(self, state: np.ndarray) -> dict[str, np.ndarray]:
        observation = {"proprioception": self._proprioception(state)}
        if self.pixels:
            large = self._draw(state, round(SUPERSAMPLING * self.image_size), pretty=False)
            size = (self.image_size, self.image_size)
            observation["pixels"] = cv2.resize(large, size, interpolation=cv2.INTER_AREA)
        return observation

    def _draw(self, state: np.ndarray, size: int, pretty: bool) -> np.ndarray:
        renderer = _renderer(self._key, size, pretty, _Unhashed(self.model))
        with self._posed(state) as data:
            return renderer.draw(self.model, data, self._camera)

    def _look(self, state: np.ndarray) -> View:
        renderer = _renderer(self._key, FINE * self.image_size, False, _Unhashed(self.model))
        with self._posed(self._as_state(state)) as data:
            return look(renderer, self.model, data, self._camera)

    @contextlib.contextmanager
    def _posed(self, state: np.ndarray) -> Iterator[mujoco.MjData]:
        """What is drawn, posed as ``state`` says; the model holds the state's extra numbers meanwhile."""
        now = self._get_extra()
        self._set_extra(state[self.num_native :])
        # Always drawn from the state alone: after a step, some simulators' body poses lag behind their joints.
        mujoco.mj_setState(self.model, self._drawn, state[: self.num_native], STATE)
        mujoco.mj_kinematics(self.model, self._drawn)
        mujoco.mj_comPos(self.model, self._drawn)
        mujoco.mj_camlight(self.model, self._drawn)
        mujoco.mj_tendon(self.model, self._drawn)
        try:
            yield self._drawn
        finally:
            self._set_extra(now)


class _Unhashed:
    """Hands a model past the cache's key: environments of one key have equal models."""

    def __init__(self, model):
        self.model = model

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unhashed)


@functools.lru_cache(maxsize=16)
def _renderer(key: str, size: int, pretty: bool, unhashed: _Unhashed) -> Renderer:
    """One per process, not one per environment: an OpenGL context is slow to make and to switch to."""
    return Renderer(unhashed.model, size, size, pretty)


def _state_names(model) -> list[str]:
    """A name for every number of :data:`STATE`."""
    positions, velocities = [], []
    for number in range(model.njnt):
        joint = model.joint(number)
        name = joint.name or f"joint{number}"
        parts = {
            mujoco.mjtJoint.mjJNT_FREE: ("x", "y", "z", "qw", "qx", "qy", "qz"),
            mujoco.mjtJoint.mjJNT_BALL: ("qw", "qx", "qy", "qz"),
        }.get(int(joint.type[0]))
        turns = {7: ("vx", "vy", "vz", "wx", "wy", "wz"), 4: ("wx", "wy", "wz")}
        positions += [f"{name}_{part}" for part in parts] if parts else [name]
        velocities += [f"{name}_{part}" for part in turns[len(parts)]] if parts else [f"{name}_velocity"]
    activations = [f"activation{number}" for number in range(model.na)]
    places = [f"mocap{number}_{axis}" for number in range(model.nmocap) for axis in "xyz"]
    turns = [f"mocap{number}_q{axis}" for number in range(model.nmocap) for axis in "wxyz"]
    return [*positions, *velocities, *activations, *places, *turns]
