"""The evaluation protocol: the only way a success rate is produced.

Each pair starts the environment at an exact held-out state and shows the policy the goal's observation. Success is
the environment's own tolerance between simulator states, looked at after every raw step. Every pair has its own random
stream, so a result depends neither on the order of pairs, nor on batches, nor on the number of workers.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch

from worldjepa.evaluation.intervals import wilson
from worldjepa.evaluation.pairs import Pairs


class Policy(Protocol):
    """What the protocol asks of a policy.

    Attributes:
        observes: names of the observations it gets, in ``reset`` and ``act`` alike. ``state`` is the simulator state,
            for privileged players only.
        num_plans, plan_seconds: plans made since construction, counted per environment, and the time they took.
    """

    observes: tuple[str, ...]
    num_plans: int
    plan_seconds: float

    def reset(self, goal_observation: dict[str, np.ndarray], seeds: Sequence[int]) -> None:
        """Starts B tasks: their goals' observations (B,...) and one seed per environment."""

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """Raw actions (B,raw_action_dim) in the environment's units for observations (B,...)."""


MakePolicy = Callable[[Pairs], Policy]
MakeEnv = Callable[[], gymnasium.Env]
"""Both must be picklable when there are several workers: functions of a module, or ``functools.partial`` of one."""


@dataclass(frozen=True)
class Result:
    """What happened to n pairs.

    Attributes:
        pairs: the pairs.
        any: bool (n,) the goal was reached at some raw step within the budget.
        at_offset: bool (n,) it was, right after ``pairs.goal_offset`` raw steps.
        end: bool (n,) it was, after the last raw step.
        trajectories: float64 (n,budget+1,S) simulator states.
        num_plans: plans made in all environments together.
        plan_seconds: seconds spent on them, summed over workers.
    """

    pairs: Pairs
    any: np.ndarray
    at_offset: np.ndarray
    end: np.ndarray
    trajectories: np.ndarray
    num_plans: int
    plan_seconds: float

    def summary(self) -> dict[str, Any]:
        """Plain JSON values: rates with Wilson 95 % intervals, of all pairs and of the moved ones."""
        at = f"at_{self.pairs.goal_offset}"
        outcomes = {"any": self.any, at: self.at_offset, "end": self.end}
        rates = {name: rate(success) for name, success in outcomes.items()}
        rates |= {f"{name}_moved": rate(success[self.pairs.moved]) for name, success in outcomes.items()}
        return {**rates, "ms_per_plan": ms_per_plan(self.plan_seconds, self.num_plans)}


def ms_per_plan(seconds: float, num_plans: int) -> float | None:
    """None where nothing was planned."""
    return round(1e3 * seconds / num_plans, 2) if num_plans else None


def evaluate(
    make_policy: MakePolicy,
    make_env: MakeEnv,
    pairs: Pairs,
    *,
    budget: int = 50,
    seed: int = 0,
    num_workers: int = 1,
    batch_size: int = 20,
    on_progress: Callable[[int], None] | None = None,
) -> Result:
    """Plays every pair for ``budget`` raw steps and judges it.

    Args:
        make_policy: builds a policy for a batch of pairs; honest ones look at nothing in them.
        make_env: builds one environment; wrappers (time limits) are taken off.
        pairs: from :func:`sample_pairs`.
        budget: raw steps per pair, at least ``pairs.goal_offset``. All are played, solved or not: ``end`` needs them.
        seed: of the policies' random streams.
        num_workers: processes; 1 stays in this one. Each computes on one CPU thread, because the rounding of a matrix
            product may depend on the number of threads.
        batch_size: pairs played side by side.
        on_progress: called with the number of pairs just finished.
    """
    with workers(num_workers) as run:
        return _evaluate(run, make_policy, make_env, pairs, budget, seed, batch_size, on_progress)


def judge(
    splits: Mapping[str, Pairs],
    policies: Mapping[str, MakePolicy],
    make_env: MakeEnv,
    *,
    budget: int = 50,
    seed: int = 0,
    num_workers: int = 1,
    batch_size: int = 20,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[dict[str, Any], dict[str, dict[str, Result]]]:
    """The same evaluation of several policies on several splits: planner, floors, ceiling and scripted pusher.

    Returns:
        The content of ``planning.json``: per split ``n``, ``num_requested``, ``n_moved``, ``excluded_solved``,
        ``manifest_hash``, ``budget``, ``seed``, and per policy :meth:`Result.summary`; and the results themselves by
        split and policy.
    """
    table: dict[str, Any] = {}
    results: dict[str, dict[str, Result]] = {}
    with workers(num_workers) as run:
        for split, pairs in splits.items():
            results[split] = {
                name: _evaluate(run, make_policy, make_env, pairs, budget, seed, batch_size, on_progress)
                for name, make_policy in policies.items()
            }
            table[split] = {
                "n": len(pairs),
                "num_requested": pairs.num_requested,
                "n_moved": int(pairs.moved.sum()),
                "excluded_solved": pairs.excluded_solved,
                "manifest_hash": pairs.hash,
                "budget": budget,
                "seed": seed,
                **{name: result.summary() for name, result in results[split].items()},
            }
    return table, results


def _evaluate(
    run: Callable[..., Iterator[Result]],
    make_policy: MakePolicy,
    make_env: MakeEnv,
    pairs: Pairs,
    budget: int,
    seed: int,
    batch_size: int,
    on_progress: Callable[[int], None] | None,
) -> Result:
    if budget < pairs.goal_offset:
        raise ValueError(f"budget must be at least the goal offset ({pairs.goal_offset} raw steps), got {budget}")
    if batch_size < 1 or len(pairs) < 1:
        raise ValueError(f"expected at least one pair and batch_size >= 1, got {len(pairs)} pairs and {batch_size}")
    batches = [pairs.select(range(i, min(i + batch_size, len(pairs)))) for i in range(0, len(pairs), batch_size)]
    parts = []
    for part in run(partial(play, make_policy, make_env, budget=budget, seed=seed), batches):
        parts.append(part)
        if on_progress is not None:
            on_progress(len(part.pairs))
    columns = ("any", "at_offset", "end", "trajectories")
    return Result(
        pairs=pairs,
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns},
        num_plans=sum(part.num_plans for part in parts),
        plan_seconds=sum(part.plan_seconds for part in parts),
    )


def play(make_policy: MakePolicy, make_env: MakeEnv, pairs: Pairs, *, budget: int, seed: int) -> Result:
    """One batch of pairs side by side, in this process."""
    seeds = [pair_seed(seed, index) for index in pairs.index]
    policy = make_policy(pairs)
    envs = [make_env().unwrapped for _ in range(len(pairs))]
    try:
        goals = [
            named(env.observe_state(goal), goal, policy.observes)
            for env, goal in zip(envs, pairs.goal_state, strict=True)
        ]
        observations = []
        for i, env in enumerate(envs):
            options = {"state": pairs.start_state[i], "goal_state": pairs.goal_state[i]}
            observation, _ = env.reset(seed=seeds[i] % 2**31, options=options)
            observations.append(named(observation, env.get_state(), policy.observes))
        policy.reset(stacked(goals), seeds)
        states = [np.stack([env.get_state() for env in envs])]
        for _ in range(budget):
            actions = chosen_actions(policy, observations, envs)
            observations = []
            for env, action in zip(envs, actions, strict=True):
                observation = env.step(action)[0]
                observations.append(named(observation, env.get_state(), policy.observes))
            states.append(np.stack([env.get_state() for env in envs]))
        trajectories = np.stack(states, 1)
        reached = np.asarray(envs[0].reached(trajectories, pairs.goal_state[:, None]), bool)
    finally:
        for env in envs:
            env.close()
    return Result(
        pairs=pairs,
        any=reached[:, 1:].any(1),
        at_offset=reached[:, pairs.goal_offset],
        end=reached[:, -1],
        trajectories=trajectories,
        num_plans=policy.num_plans,
        plan_seconds=policy.plan_seconds,
    )


def chosen_actions(policy: Policy, observations: list[dict[str, np.ndarray]], envs: list[Any]) -> np.ndarray:
    """float32 (n,raw_action_dim), one row per environment.

    Raises:
        ValueError: the policy returned something else.
    """
    actions = np.asarray(policy.act(stacked(observations)), np.float32)
    expected = (len(envs), *envs[0].action_space.shape)
    if actions.shape != expected or not np.isfinite(actions).all():
        raise ValueError(f"the policy must return finite actions {expected}, got {actions.shape}: {actions}")
    return actions


def pair_seed(seed: int, index: int) -> int:
    """Seed in [0, 2^63) of the pair at ``index`` of its manifest."""
    return int(np.random.SeedSequence([seed, int(index)]).generate_state(1, np.uint64)[0] >> 1)


def named(observation: dict[str, np.ndarray], state: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """What a policy asked for, and nothing else."""
    known = {**observation, "state": state}
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(f"the policy observes {', '.join(missing)}, but the environment has only {', '.join(known)}")
    return {name: known[name] for name in names}


def stacked(observations: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([observation[name] for observation in observations]) for name in observations[0]}


def rate(success: np.ndarray) -> dict[str, Any]:
    n, num_successes = len(success), int(success.sum())
    if n == 0:
        return {"rate": None, "ci95": None, "successes": 0, "n": 0}
    return {"rate": num_successes / n, "ci95": list(wilson(num_successes, n)), "successes": num_successes, "n": n}


@contextlib.contextmanager
def workers(num_workers: int) -> Iterator[Callable[..., Iterator[Result]]]:
    """A ``map`` over this process or several, each on one thread."""
    if num_workers < 1:
        raise ValueError(f"num_workers must be >= 1, got {num_workers}")
    if num_workers == 1:
        num_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield map
        finally:
            torch.set_num_threads(num_threads)
        return
    # Spawned, not forked: a fork of a process that has used threads or an accelerator may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool.map
