"""The reward that policies gather: whole episodes from a task's own starts, the same for every policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from worldjepa.evaluation.intervals import mean_interval
from worldjepa.evaluation.protocol import (
    MakeEnv,
    Policy,
    chosen_actions,
    ms_per_plan,
    named,
    pair_seed,
    rate,
    workers,
)

MakePolicy = Callable[[Sequence[int]], Policy]
"""Builds a policy for a batch of episodes, given by number; picklable when there are several workers."""


@dataclass(frozen=True)
class Returns:
    """What happened in n episodes.

    Attributes:
        total: float64 (n,) sum of an episode's rewards.
        best: float64 (n,) the largest of them.
        success: bool (n,) the environment said ``is_success`` at some step; None where it never says.
        outcomes: name -> float64 (n,), what ``info`` said of it at an episode's last step, of the names that the
            environment lists as ``outcomes``.
        trajectories: float64 (n,num_steps+1,S) simulator states; those after an episode's end are its last.
        num_plans: plans made in all episodes together.
        plan_seconds: seconds spent on them, summed over workers.
    """

    total: np.ndarray
    best: np.ndarray
    success: np.ndarray | None
    outcomes: dict[str, np.ndarray]
    trajectories: np.ndarray
    num_plans: int
    plan_seconds: float

    def summary(self) -> dict[str, Any]:
        """Plain JSON values: means with Student's 95 % interval, the success rate with Wilson's, and each episode's."""
        return {
            "return": _mean(self.total),
            "best_reward": _mean(self.best),
            "success": None if self.success is None else rate(self.success),
            "outcomes": {name: _mean(values) for name, values in self.outcomes.items()},
            "ms_per_plan": ms_per_plan(self.plan_seconds, self.num_plans),
            "episodes": {
                name: values.tolist()
                for name, values in {"return": self.total, "best_reward": self.best, **self.outcomes}.items()
            },
        }


def _mean(values: np.ndarray) -> dict[str, Any]:
    interval = mean_interval(values)[1:] if len(values) > 1 else (None, None)
    return {"mean": float(values.mean()), "ci95": list(interval), "n": len(values)}


def gather_returns(
    policies: Mapping[str, MakePolicy],
    make_env: MakeEnv,
    *,
    num_episodes: int,
    num_steps: int,
    seed: int = 0,
    num_workers: int = 1,
    batch_size: int = 10,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Returns]:
    """Plays the same episodes with several policies.

    A result depends neither on ``batch_size`` nor on ``num_workers``: every episode has its own random streams.

    Args:
        policies: name -> builder.
        make_env: builds one environment; wrappers (time limits) are taken off.
        num_episodes: of each policy.
        num_steps: raw steps of an episode, unless the environment ends it.
        seed: of starts and policies.
        num_workers: processes; 1 stays in this one.
        batch_size: episodes played side by side.
        on_progress: called with the number of episodes just finished.

    Raises:
        ValueError: no episodes or steps asked for, or a policy that returns no proper actions.
    """
    if min(num_episodes, num_steps, batch_size) < 1:
        raise ValueError(
            f"expected num_episodes, num_steps and batch_size >= 1, got {num_episodes}, {num_steps} and {batch_size}"
        )
    batches = [range(i, min(i + batch_size, num_episodes)) for i in range(0, num_episodes, batch_size)]
    with workers(num_workers) as run:
        return {
            name: _joined(_watched(run(partial(_play, make_policy, make_env, num_steps, seed), batches), on_progress))
            for name, make_policy in policies.items()
        }


def _watched(parts: Iterator[Returns], on_progress: Callable[[int], None] | None) -> Iterator[Returns]:
    for part in parts:
        if on_progress is not None:
            on_progress(len(part.total))
        yield part


def _joined(parts: Iterator[Returns]) -> Returns:
    parts = list(parts)
    said = [part.success for part in parts]
    return Returns(
        total=np.concatenate([part.total for part in parts]),
        best=np.concatenate([part.best for part in parts]),
        success=None if any(success is None for success in said) else np.concatenate(said),
        outcomes={name: np.concatenate([part.outcomes[name] for part in parts]) for name in parts[0].outcomes},
        trajectories=np.concatenate([part.trajectories for part in parts]),
        num_plans=sum(part.num_plans for part in parts),
        plan_seconds=sum(part.plan_seconds for part in parts),
    )


def _play(make_policy: MakePolicy, make_env: MakeEnv, num_steps: int, seed: int, episodes: Sequence[int]) -> Returns:
    """One batch of episodes side by side, in this process."""
    seeds = [pair_seed(seed, index) for index in episodes]
    policy = make_policy(episodes)
    envs = [make_env().unwrapped for _ in episodes]
    for env in envs:
        if hasattr(env, "shown"):
            env.shown = frozenset(policy.observes)
    total, best, over = np.zeros(len(envs)), np.full(len(envs), -np.inf), np.zeros(len(envs), bool)
    success: list[bool | None] = [None] * len(envs)
    outcomes = {name: np.zeros(len(envs)) for name in getattr(envs[0], "outcomes", ())}
    try:
        observations = []
        for env, env_seed in zip(envs, seeds, strict=True):
            observation, _ = env.reset(seed=env_seed % 2**31)
            observations.append(named(observation, env.get_state(), policy.observes))
        policy.reset({}, seeds)
        states = [np.stack([env.get_state() for env in envs])]
        for _ in range(num_steps):
            if over.all():
                states.append(states[-1])
                continue
            actions = chosen_actions(policy, observations, envs)
            for i, (env, action) in enumerate(zip(envs, actions, strict=True)):
                if over[i]:
                    continue  # an episode that is over keeps its last state
                observation, reward, terminated, truncated, info = env.step(action)
                observations[i] = named(observation, env.get_state(), policy.observes)
                total[i] += float(reward)
                best[i] = max(best[i], float(reward))
                over[i] = terminated or truncated
                for name, values in outcomes.items():
                    values[i] = float(info[name])
                if "is_success" in info:
                    success[i] = bool(success[i]) or bool(info["is_success"])
            states.append(np.stack([env.get_state() for env in envs]))
    finally:
        for env in envs:
            env.close()
    return Returns(
        total=total,
        best=best,
        success=None if None in success else np.array(success, bool),
        outcomes=outcomes,
        trajectories=np.stack(states, 1),
        num_plans=policy.num_plans,
        plan_seconds=policy.plan_seconds,
    )
