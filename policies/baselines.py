"""What a planner is compared with: floors, the ceiling, and a privileged player.

All follow :class:`worldjepa.evaluation.protocol.Policy`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence, Sized
from functools import partial
from typing import Protocol

import numpy as np
import torch

from worldjepa.evaluation.pairs import Pairs
from worldjepa.evaluation.protocol import MakePolicy
from worldjepa.planners import BlockNoise
from worldjepa.types import EnvSpec


class GoalPlayer(Protocol):
    """A scripted player that knows the simulator state and the goal's."""

    def reset(self, state: np.ndarray, goal_state: np.ndarray) -> None: ...

    def act(self, state: np.ndarray) -> np.ndarray: ...


class RandomPolicy:
    """The planner's own noise around the average action: what a planner without a model would do.

    Args:
        low, high: (raw_action_dim,) bounds of raw actions.
        mean, std: (raw_action_dim,) statistics of the data's raw actions.
        frameskip: raw actions per block.
        noise_correlation: inside a block, as the planner's.
    """

    observes = ()
    num_plans = 0
    plan_seconds = 0.0

    def __init__(
        self,
        low: Sequence[float],
        high: Sequence[float],
        mean: Sequence[float],
        std: Sequence[float],
        frameskip: int = 5,
        noise_correlation: float = 0.8,
    ):
        if len({len(low), len(high), len(mean), len(std)}) != 1:
            raise ValueError(f"low, high, mean and std must have one length, got {low}, {high}, {mean}, {std}")
        if frameskip < 1 or min(std) <= 0:
            raise ValueError(f"frameskip must be >= 1 and std > 0, got {frameskip} and {std}")
        self.low, self.high, self.mean, self.std = (np.asarray(x, np.float32) for x in (low, high, mean, std))
        self.frameskip = frameskip
        self.noise = BlockNoise(noise_correlation)

    def reset(self, goal_observation: dict[str, np.ndarray], seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        self._queue: deque[np.ndarray] = deque()

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        if not self._queue:
            noise = self.noise.sample(self._generators, 1, 1, (self.frameskip, len(self.std)))[:, 0, 0].numpy()
            self._queue.extend(np.split(noise, self.frameskip, axis=1))
        return np.clip(self.mean + self.std * self._queue.popleft(), self.low, self.high)


class StillPolicy:
    """Zero actions, which our environments take as "stay where you are"."""

    observes = ()
    num_plans = 0
    plan_seconds = 0.0

    def __init__(self, raw_action_dim: int):
        self.raw_action_dim = raw_action_dim

    def reset(self, goal_observation: dict[str, np.ndarray], seeds: Sequence[int]) -> None:
        self._num_envs = len(seeds)

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return np.zeros((self._num_envs, self.raw_action_dim), np.float32)


class ReplayPolicy:
    """The recorded actions of each pair, then zeros: the ceiling, and a check of exact resets.

    Args:
        action: float32 (B,steps,raw_action_dim).
    """

    observes = ()
    num_plans = 0
    plan_seconds = 0.0

    def __init__(self, action: np.ndarray):
        if action.ndim != 3:
            raise ValueError(f"recorded actions must be (pairs, steps, raw_action_dim), got {action.shape}")
        self.action = action

    def reset(self, goal_observation: dict[str, np.ndarray], seeds: Sequence[int]) -> None:
        if len(seeds) != len(self.action):
            raise ValueError(f"expected the {len(self.action)} pairs whose actions were given, got {len(seeds)}")
        self._step = 0

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        self._step += 1
        if self._step > self.action.shape[1]:
            return np.zeros_like(self.action[:, 0])
        return self.action[:, self._step - 1]


class PlayerPolicy:
    """A scripted goal-reaching player per environment; it sees simulator states.

    Args:
        make_player: builds a player.
    """

    observes = ("state",)
    num_plans = 0
    plan_seconds = 0.0

    def __init__(self, make_player: Callable[[], GoalPlayer]):
        self.make_player = make_player

    def reset(self, goal_observation: dict[str, np.ndarray], seeds: Sequence[int]) -> None:
        self._goals = goal_observation["state"]
        self._players: list[GoalPlayer] = []

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        states = observation["state"]
        if not self._players:
            self._players = [self.make_player() for _ in states]
            for player, state, goal in zip(self._players, states, self._goals, strict=True):
                player.reset(state, goal)
        return np.stack([player.act(state) for player, state in zip(self._players, states, strict=True)])


class Expert(Protocol):
    """A player of a task that sees the simulator state."""

    def begin(self, rng: np.random.Generator) -> None: ...

    def act(self, state: np.ndarray) -> np.ndarray: ...


class ExpertPolicy:
    """An expert per environment; it sees simulator states, and is the ceiling that returns are compared with.

    Args:
        make_expert: builds one.
    """

    observes = ("state",)
    num_plans = 0
    plan_seconds = 0.0

    def __init__(self, make_expert: Callable[[], Expert]):
        self.make_expert = make_expert

    def reset(self, goal_observation: dict[str, np.ndarray], seeds: Sequence[int]) -> None:
        self._experts = [self.make_expert() for _ in seeds]
        for expert, seed in zip(self._experts, seeds, strict=True):
            expert.begin(np.random.default_rng(seed))

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        states = observation["state"]
        return np.stack([expert.act(state) for expert, state in zip(self._experts, states, strict=True)])


def make_expert(make: Callable[[], Expert], tasks: Sized) -> ExpertPolicy:
    """For evaluations: ``functools.partial(make_expert, make)`` is picklable."""
    return ExpertPolicy(make)


def baselines(
    spec: EnvSpec,
    action_mean: Sequence[float],
    action_std: Sequence[float],
    frameskip: int,
    make_player: Callable[[], GoalPlayer] | None = None,
) -> dict[str, MakePolicy]:
    """Builders of ``random``, ``still``, ``replay`` and, with a player, ``scripted_pusher``, for ``judge``."""
    policies: dict[str, MakePolicy] = {**floors(spec, action_mean, action_std, frameskip), "replay": _replay}
    if make_player is not None:
        policies["scripted_pusher"] = partial(_player, make_player)
    return policies


def floors(
    spec: EnvSpec, action_mean: Sequence[float], action_std: Sequence[float], frameskip: int
) -> dict[str, Callable[[Sized], RandomPolicy | StillPolicy]]:
    """Builders of ``random`` and ``still``, for ``judge`` and ``gather_returns``."""
    return {
        "random": partial(_random, spec.action_low, spec.action_high, action_mean, action_std, frameskip),
        "still": partial(_still, spec.raw_action_dim),
    }


def _random(low, high, mean, std, frameskip: int, tasks: Sized) -> RandomPolicy:
    return RandomPolicy(low, high, mean, std, frameskip)


def _still(raw_action_dim: int, tasks: Sized) -> StillPolicy:
    return StillPolicy(raw_action_dim)


def _replay(pairs: Pairs) -> ReplayPolicy:
    return ReplayPolicy(pairs.action)


def _player(make_player: Callable[[], GoalPlayer], pairs: Pairs) -> PlayerPolicy:
    return PlayerPolicy(make_player)
