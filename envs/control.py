"""Tasks of the DeepMind control suite (arXiv:2006.12983) as goal environments: physics, starts and rewards are its own.

gymnasium.make("worldjepa/reacher-easy-v0")
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from envs.rendering import pick_backend
from envs.simulation import MujocoEnv, Places, find, turn


def _reacher(q: np.ndarray) -> dict[str, np.ndarray]:
    elbow = 0.12 * turn(q[..., 0])
    return {"elbow": elbow, "fingertip": elbow + 0.12 * turn(q[..., 0] + q[..., 1])}


def _point_mass(q: np.ndarray) -> dict[str, np.ndarray]:
    return {"mass": q}


def _cartpole(q: np.ndarray) -> dict[str, np.ndarray]:
    return {"cart": q[..., :1], "pole_angle": turn(q[..., 1])}


def _cheetah(q: np.ndarray) -> dict[str, np.ndarray]:
    return {"height": q[..., 1:2], "pitch_angle": turn(q[..., 2]), "joints": q[..., 3:]}


def _finger(q: np.ndarray) -> dict[str, np.ndarray]:
    return {"joints": q[..., :2], "spinner_angle": turn(q[..., 2])}


def _ball_in_cup(q: np.ndarray) -> dict[str, np.ndarray]:
    return {"cup": q[..., :2], "ball": q[..., 2:]}


def _walker(q: np.ndarray) -> dict[str, np.ndarray]:
    return {"height": q[..., :1], "pitch_angle": turn(q[..., 2]), "joints": q[..., 3:]}


@dataclass(frozen=True)
class Task:
    """What the suite does not say about one of its tasks.

    Attributes:
        camera: the view that shows everything.
        places: positions (..., nq) -> name -> (..., k).
        tolerances: of the places; m, rad, or chords of a unit circle (about rad).
        felt: places that belong to the robot's own body, and how many velocities do, for proprioception.
        num_velocities: of them; the robot's come first.
        target: the body's geom whose place is drawn anew in every episode, or None.
    """

    camera: str
    places: Places
    tolerances: dict[str, float]
    felt: tuple[str, ...]
    num_velocities: int
    target: str | None = None


TASKS = {
    # 0.05 m is the radius of the easy target; the elbow too, or the mirrored arm would count.
    "reacher-easy": Task("fixed", _reacher, {"elbow": 0.05, "fingertip": 0.05}, ("elbow", "fingertip"), 2, "target"),
    # 0.015 m is the radius of the target.
    "point_mass-easy": Task("fixed", _point_mass, {"mass": 0.015}, ("mass",), 2),
    "cartpole-swingup": Task("fixed", _cartpole, {"cart": 0.1, "pole_angle": 0.1}, ("cart", "pole_angle"), 2),
    "cheetah-run": Task(
        "side", _cheetah, {"height": 0.1, "pitch_angle": 0.2, "joints": 0.4}, ("height", "pitch_angle", "joints"), 9
    ),
    "finger-spin": Task("cam0", _finger, {"joints": 0.2, "spinner_angle": 0.2}, ("joints",), 2),
    "ball_in_cup-catch": Task("cam0", _ball_in_cup, {"cup": 0.05, "ball": 0.05}, ("cup",), 2),
    "walker-walk": Task(
        "side", _walker, {"height": 0.1, "pitch_angle": 0.2, "joints": 0.4}, ("height", "pitch_angle", "joints"), 9
    ),
}


class Control(MujocoEnv):
    """A task of the control suite. See :class:`envs.simulation.MujocoEnv` for observations, states and goals.

    Rewards are the suite's, 0..1 per control step; its episodes have 1000 of them. Goals say where the task's places
    (:data:`TASKS`) shall be; velocities do not count.

    Args:
        task: domain and task, such as ``reacher-easy``.
        action_repeat: control steps per step; their rewards are added up.
        image_size, pixels, camera, render_mode, render_size: see :class:`envs.simulation.MujocoEnv`; ``camera`` None
            takes the task's own.
    """

    def __init__(
        self,
        task: str,
        action_repeat: int = 1,
        image_size: int = 64,
        pixels: bool = True,
        camera: str | None = None,
        render_mode: str | None = "rgb_array",
        render_size: int = 256,
    ):
        self.task, self.action_repeat = find(task, TASKS, "task"), action_repeat
        if isinstance(action_repeat, bool) or not isinstance(action_repeat, int) or action_repeat < 1:
            raise ValueError(f"action_repeat must be a whole number >= 1, got {action_repeat!r}")
        if pixels:
            pick_backend()  # before dm_control looks for one by itself
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks for a display, too, and says so when there is none
            from dm_control import suite

        self._random = np.random.RandomState(0)
        domain, name = task.split("-")
        self._suite = suite.load(domain, name, task_kwargs={"random": self._random})
        self._suite.reset()
        physics = self._suite.physics
        self._physics, self._play = physics, self._suite.task
        self.num_substeps = round(self._suite.control_timestep() / physics.timestep())
        bounds = self._suite.action_spec()
        assert (bounds.minimum == -1).all() and (bounds.maximum == 1).all(), bounds
        model = physics.model.ptr
        self._target = None if self.task.target is None else model.geom(self.task.target).id
        super().__init__(
            model,
            physics.data.ptr,
            key=f"control/{task}",
            num_actions=bounds.shape[0],
            frame_rate=1 / (self._suite.control_timestep() * action_repeat),
            places=self.task.places,
            tolerances=self.task.tolerances,
            image_size=image_size,
            pixels=pixels,
            camera=camera or self.task.camera,
            render_mode=render_mode,
            render_size=render_size,
            extra_names=() if self._target is None else ("target_x", "target_y"),
        )

    def _begin(self, rng: np.random.Generator) -> None:
        self._random.seed(int(rng.integers(2**32)))
        self._suite.reset()

    def _simulate(self, action: np.ndarray) -> float:
        reward = 0.0
        for _ in range(self.action_repeat):
            self._play.before_step(action, self._physics)
            self._physics.step(self.num_substeps)
            self._play.after_step(self._physics)
            reward += self._play.get_reward(self._physics)
        return reward

    def _get_extra(self) -> np.ndarray:
        if self._target is None:
            return np.zeros(0)
        return self.model.geom_pos[self._target, :2].copy()

    def _set_extra(self, values: np.ndarray) -> None:
        if self._target is not None:
            self.model.geom_pos[self._target, :2] = values

    def _proprioception(self, state: np.ndarray) -> np.ndarray:
        num_positions, num_velocities = self.model.nq, self.model.nv
        velocities = state[num_positions : num_positions + num_velocities]
        places = self.task.places(state[:num_positions])
        felt = [places[name] for name in self.task.felt]
        return np.concatenate([*felt, velocities[: self.task.num_velocities]]).astype(np.float32)
