"""MuJoCo environments of other packages as goal environments: Gymnasium's own, and those that come as extras.

gymnasium.make("worldjepa/gym-reacher-v0")

Dynamics, starts and rewards stay theirs; states, pictures and goals are ours. What such an environment keeps in Python
(its own goal, counters) is no part of a state.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

from envs.rendering import pick_backend
from envs.simulation import MujocoEnv, Places, find, turn


def _reacher(q: np.ndarray) -> dict[str, np.ndarray]:
    elbow = 0.1 * turn(q[..., 0])
    return {"elbow": elbow, "fingertip": elbow + 0.11 * turn(q[..., 0] + q[..., 1])}


def _pusher(q: np.ndarray) -> dict[str, np.ndarray]:
    return {"object": q[..., 7:9], "joints": q[..., :7]}


def _half_cheetah(q: np.ndarray) -> dict[str, np.ndarray]:
    return {"height": q[..., 1:2], "pitch_angle": turn(q[..., 2]), "joints": q[..., 3:]}


@dataclass(frozen=True)
class Source:
    """Where an environment comes from, and what its goals are about.

    Attributes:
        env_id: gymnasium id.
        package: to import for it, and the extra of ours that installs it; None for Gymnasium's own.
        places: see :data:`envs.simulation.Places`, or name -> joints, whose positions (a free joint's x, y, z) count.
        tolerances: of the places, m or rad.
        kwargs: of the environment.
        camera: of the model.
    """

    env_id: str
    package: tuple[str, str] | None
    places: Places | Mapping[str, Sequence[str]]
    tolerances: dict[str, float]
    kwargs: Mapping[str, Any] | None = None
    camera: str | None = None


ROBOTICS, OGBENCH = ("gymnasium_robotics", "robotics"), ("ogbench", "ogbench")
SOURCES = {
    "gym-reacher": Source("Reacher-v5", None, _reacher, {"elbow": 0.05, "fingertip": 0.05}),
    "gym-pusher": Source("Pusher-v5", None, _pusher, {"object": 0.05, "joints": 0.5}),
    "gym-half_cheetah": Source(
        "HalfCheetah-v5", None, _half_cheetah, {"height": 0.1, "pitch_angle": 0.2, "joints": 0.4}, camera="track"
    ),
    "fetch-push": Source("FetchPush-v4", ROBOTICS, {"object": ["object0:joint"]}, {"object": 0.05}),
    "point_maze-umaze": Source("PointMaze_UMaze-v3", ROBOTICS, {"ball": ["ball_x", "ball_y"]}, {"ball": 0.45}),
    "ogbench-cube": Source("cube-single-v0", OGBENCH, {"cube": ["object_joint_0"]}, {"cube": 0.04}, camera="front"),
    "ogbench-pointmaze": Source("pointmaze-medium-v0", OGBENCH, {"ball": ["ballx", "bally"]}, {"ball": 1.0}),
    "aloha-transfer_cube": Source(
        "gym_aloha/AlohaTransferCube-v0", ("gym_aloha", "aloha"), {"cube": ["red_box_joint"]}, {"cube": 0.05}
    ),
    "metaworld-push": Source(
        "Meta-World/MT1",
        ("metaworld", "metaworld"),
        {"puck": ["objjoint"]},
        {"puck": 0.05},
        {"env_name": "push-v3", "seed": 0},
    ),
}


class Mujoco(MujocoEnv):
    """One of :data:`SOURCES`. See :class:`envs.simulation.MujocoEnv` for observations, states and goals.

    Args:
        name: of the source, such as ``gym-reacher``.
        image_size, pixels, camera, render_mode, render_size: see :class:`envs.simulation.MujocoEnv`.

    Raises:
        ValueError: no such source.
        ModuleNotFoundError: its package is missing; the message names the extra.
    """

    def __init__(
        self,
        name: str,
        image_size: int = 64,
        pixels: bool = True,
        camera: str | None = None,
        render_mode: str | None = "rgb_array",
        render_size: int = 256,
    ):
        source = find(name, SOURCES, "environment")
        if source.package is not None:
            _import(name, *source.package)
        if pixels:
            pick_backend()  # before the package's own code asks for OpenGL
        self._env = gym.make(source.env_id, disable_env_checker=True, max_episode_steps=-1, **(source.kwargs or {}))
        self._env.reset(seed=0)  # some build their models here
        model, data = simulation(self._env.unwrapped)
        space = self._env.action_space
        self._low, self._high = space.low.astype(np.float64), space.high.astype(np.float64)
        if not (np.isfinite(self._low).all() and np.isfinite(self._high).all()):
            raise ValueError(f"{source.env_id} has unbounded actions ({space}), which cannot be scaled to [-1, 1]")
        rate = self._env.unwrapped.metadata.get("render_fps") or 1 / (5 * model.opt.timestep)
        super().__init__(
            model,
            data,
            key=f"mujoco/{name}",
            num_actions=space.shape[0],
            frame_rate=rate,
            places=source.places if callable(source.places) else partial(_joint_places, _addresses(model, source)),
            tolerances=source.tolerances,
            image_size=image_size,
            pixels=pixels,
            camera=camera or source.camera,
            render_mode=render_mode,
            render_size=render_size,
        )

    def _begin(self, rng: np.random.Generator) -> None:
        seed = int(rng.integers(2**31))
        # Some packages draw starts from NumPy's global stream, seed or no seed.
        before = np.random.get_state()  # noqa: NPY002
        np.random.seed(seed)  # noqa: NPY002
        try:
            if hasattr(self._env.unwrapped, "seed"):  # Meta-World ignores the seed given to reset
                self._env.unwrapped.seed(seed)
            self._env.reset(seed=seed)
        finally:
            np.random.set_state(before)  # noqa: NPY002

    def _simulate(self, action: np.ndarray) -> float:
        raw = self._low + (action + 1) / 2 * (self._high - self._low)
        return float(self._env.step(raw.astype(self._env.action_space.dtype))[1])

    def close(self) -> None:
        """Closes the environment inside."""
        self._env.close()


def simulation(env: gym.Env) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """Model and data inside an unwrapped environment, wherever its package keeps them.

    Raises:
        ValueError: none found.
    """
    for holder in (env, getattr(env, "point_env", None), getattr(getattr(env, "_env", None), "physics", None)):
        for model_name, data_name in (("model", "data"), ("_model", "_data")):
            found = getattr(holder, model_name, None), getattr(holder, data_name, None)
            model, data = (getattr(part, "ptr", part) for part in found)
            if isinstance(model, mujoco.MjModel) and isinstance(data, mujoco.MjData):
                return model, data
    raise ValueError(f"{type(env).__name__} holds no mujoco.MjModel where one was looked for")


def _import(name: str, module: str, extra: str) -> None:
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{name} needs {module}: pip install 'worldjepa[{extra}]' ({error})") from None
    gym.register_envs(imported)


def _addresses(model: mujoco.MjModel, source: Source) -> dict[str, list[int]]:
    """Name of a place -> indices into the positions."""
    names = [model.joint(number).name for number in range(model.njnt)]
    addresses: dict[str, list[int]] = {}
    for place, joints in source.places.items():
        addresses[place] = []
        for joint in joints:
            if joint not in names:
                raise ValueError(f"{source.env_id} has no joint {joint!r}; it has {', '.join(names)}")
            first = int(model.joint(joint).qposadr[0])
            free = int(model.joint(joint).type[0]) == mujoco.mjtJoint.mjJNT_FREE
            addresses[place] += range(first, first + (3 if free else 1))
    return addresses


def _joint_places(addresses: Mapping[str, list[int]], positions: np.ndarray) -> dict[str, np.ndarray]:
    return {place: positions[..., where] for place, where in addresses.items()}
