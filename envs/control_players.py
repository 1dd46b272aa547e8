"""Players for the control suite that need no training: MPPI on the true model, and wandering.

Each plans with ``mujoco.rollout`` on a simulation of its own, which it puts at the state it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mujoco
import mujoco.rollout
import numpy as np

from envs.control import TASKS, Control
from envs.wanderer import CORRELATIONS, Wanderer

StageCost = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(positions (N,H,nq), velocities (N,H,nv), extra (E,)) -> costs (N,H), about 0..1."""


def _reacher_cost(q: np.ndarray, v: np.ndarray, target: np.ndarray) -> np.ndarray:
    angle = q[..., 0] + q[..., 1]
    finger = 0.12 * np.stack([np.cos(q[..., 0]) + np.cos(angle), np.sin(q[..., 0]) + np.sin(angle)], -1)
    distance = np.linalg.norm(finger - target, axis=-1)
    return (distance > 0.05) + 4 * distance + 0.002 * np.square(v).sum(-1) * (distance < 0.06)


def _point_mass_cost(q: np.ndarray, v: np.ndarray, extra: np.ndarray) -> np.ndarray:
    distance = np.linalg.norm(q, axis=-1)
    return (distance > 0.015) + 5 * distance


def _cartpole_cost(q: np.ndarray, v: np.ndarray, extra: np.ndarray) -> np.ndarray:
    # One minus the task's own reward, but for the small bonus on small controls.
    upright = (np.cos(q[..., 1]) + 1) / 2
    centred = (1 + np.exp(np.log(0.1) * np.square(q[..., 0] / 2))) / 2
    slow = (1 + np.exp(np.log(0.1) * np.square(v[..., 1] / 5))) / 2
    return 1 - upright * centred * slow


def _cheetah_cost(q: np.ndarray, v: np.ndarray, extra: np.ndarray) -> np.ndarray:
    return 1 - np.clip(v[..., 0] / 10, -1, 1) + 0.3 * (np.abs(q[..., 2]) > 0.8)


@dataclass(frozen=True)
class Search:
    """How MPPI searches on a task.

    Attributes:
        cost: of one control step.
        horizon: control steps planned.
        num_samples: candidates.
        num_iterations: refinements per control step.
        correlation: of the noise from one control step to the next, 0..1.
        std: of the noise.
        temperature: in standard deviations of the candidates' costs.
    """

    cost: StageCost
    horizon: int
    num_samples: int = 64
    num_iterations: int = 1
    correlation: float = 0.8
    std: float = 0.6
    temperature: float = 0.1


SEARCHES = {
    "reacher-easy": Search(_reacher_cost, horizon=15),
    "point_mass-easy": Search(_point_mass_cost, horizon=20),
    "cartpole-swingup": Search(_cartpole_cost, horizon=80, correlation=0.9, std=1.0),
    "cheetah-run": Search(_cheetah_cost, horizon=40, std=1.0),
}


class Mppi:
    """Model predictive path integral control (arXiv:1509.01149) on the true model: the expert.

    Args:
        task: of :data:`SEARCHES`.
        action_repeat: control steps that an action lasts, as in the environment that is played.
        search: how; None takes the task's own.

    Raises:
        ValueError: no expert is known for the task.
    """

    def __init__(self, task: str, action_repeat: int = 1, search: Search | None = None):
        if search is None and task not in SEARCHES:
            raise ValueError(f"there is no expert for {task!r}, but for {', '.join(SEARCHES)}; use the wanderer")
        self.search = search or SEARCHES[task]
        self.env = Control(task, pixels=False)
        self._num_substeps = self.env.num_substeps * action_repeat
        self._horizon = -(-self.search.horizon // action_repeat)
        self._data = mujoco.MjData(self.env.model)
        self._rollout = mujoco.rollout.Rollout(nthread=0)
        self._full = mujoco.mjtState.mjSTATE_FULLPHYSICS
        self._initial = np.empty((1, mujoco.mj_stateSize(self.env.model, self._full)))

    def begin(self, rng: np.random.Generator) -> None:
        """Starts an episode: no plan yet, and noise of its own."""
        self._rng = rng
        self._plan = np.zeros((self._horizon, self.env.model.nu))

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (A,) for the simulator state (S,)."""
        search, model = self.search, self.env.model
        self.env.set_state(state)
        mujoco.mj_getState(model, self.env.data, self._initial[0], self._full)
        extra = np.asarray(state)[self.env.num_native :]
        for _ in range(search.num_iterations):
            candidates = np.clip(self._plan + search.std * self._noise(), -1, 1)
            controls = np.repeat(candidates, self._num_substeps, axis=1)
            states, _ = self._rollout.rollout(model, [self._data], self._initial, controls)
            seen = states[:, self._num_substeps - 1 :: self._num_substeps, 1:]  # after each step, without time
            positions, velocities = seen[..., : model.nq], seen[..., model.nq : model.nq + model.nv]
            cost = search.cost(positions, velocities, extra).mean(1)
            cost = np.where(np.isfinite(cost), cost, 1e6)  # a simulation that blew up
            weight = np.exp(-(cost - cost.min()) / (search.temperature * cost.std() + 1e-9))
            self._plan = np.einsum("n,nha->ha", weight / weight.sum(), candidates)
        action = self._plan[0].astype(np.float32)
        self._plan = np.concatenate([self._plan[1:], self._plan[-1:]])
        return action

    def _noise(self) -> np.ndarray:
        """(N,H,A), unit variance, correlated in time; none for the first candidate, which is the plan itself."""
        noise = self._rng.standard_normal((self.search.num_samples, *self._plan.shape))
        noise[0] = 0
        rho = self.search.correlation
        for h in range(1, self._horizon):
            noise[:, h] = rho * noise[:, h - 1] + np.sqrt(1 - rho**2) * noise[:, h]
        return noise


class ControlPlayer(Wanderer):
    """Makes diverse episodes: a part by the expert with noise at several levels, the rest by wandering.

    Args:
        task: of the control suite, such as ``reacher-easy``.
        action_repeat: control steps that an action lasts, as in the environment that is played.
        expert_fraction: share of episodes that the expert plays, 0..1; 0 needs no expert.
        label: written into every episode as its policy.
        correlations: of wandering, see :class:`~envs.wanderer.Wanderer`.
    """

    noise_levels = (0.0, 0.2, 0.5)  # standard deviation of what is added to the expert's actions

    def __init__(
        self,
        task: str,
        action_repeat: int = 1,
        expert_fraction: float = 0.3,
        label: str = "scripted",
        correlations: Sequence[float] = CORRELATIONS,
    ):
        if not 0 <= expert_fraction <= 1:
            raise ValueError(f"expert_fraction must be between 0 and 1, got {expert_fraction}")
        super().__init__(f"worldjepa/{task}-v0", {"action_repeat": action_repeat}, label, correlations)
        self.expert_fraction = expert_fraction
        self.expert = Mppi(task, action_repeat) if expert_fraction > 0 else None

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """A start of the task, or what wandering has made of it some steps later; a group of its own."""
        start = super().reset(rng)
        self._is_expert = rng.random() < self.expert_fraction
        if self._is_expert:
            self._strength = float(rng.choice(self.noise_levels))
            self.expert.begin(rng)
        return start

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (A,) action in [-1, 1]."""
        action = super().act(state)
        return np.clip(action + self.expert.act(state), -1, 1) if self._is_expert else action


class GoalSeeker:
    """MPPI towards a goal state: a privileged reference that sees the simulator state.

    Args:
        task: of the control suite.
        action_repeat: control steps that an action lasts, as in the environment that is played.
        seed: of its noise.
    """

    def __init__(self, task: str, action_repeat: int = 1, seed: int = 0):
        self.task, self.action_repeat, self.seed = task, action_repeat, seed

    def reset(self, state: np.ndarray, goal_state: np.ndarray) -> None:
        """Starts towards ``goal_state`` (S,)."""
        self._mppi = Mppi(self.task, self.action_repeat, Search(self._cost, horizon=25 * self.action_repeat))
        self._goal = self._mppi.env.probe_targets(goal_state)
        self._mppi.begin(np.random.default_rng(self.seed))

    def _cost(self, positions: np.ndarray, velocities: np.ndarray, extra: np.ndarray) -> np.ndarray:
        task = TASKS[self.task]
        here = task.places(positions)
        away = [np.linalg.norm(here[name] - self._goal[name], axis=-1) / size for name, size in task.tolerances.items()]
        worst = np.max(away, 0)
        return (worst > 1) + 0.2 * worst

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (A,) action in [-1, 1] for the simulator state (S,)."""
        return self._mppi.act(state)
