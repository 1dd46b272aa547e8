"""Judges policies: goals reached on frozen pairs, or reward gathered; floors, ceiling, videos and the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sized
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from policies.baselines import baselines, floors, make_expert
from policies.driving import load_driving_policy
from policies.planning import load_planning_policy
from worldjepa.checkpoint import kind_of, load_bev_world, load_world_model
from worldjepa.datasets.store import EpisodeStore
from worldjepa.datasets.windows import Windows
from worldjepa.evaluation.driving import DRIVE_FIGURES, RETURNS_FILE, drive_pictures
from worldjepa.evaluation.figures import collect_figures
from worldjepa.evaluation.pairs import sample_pairs
from worldjepa.evaluation.protocol import Policy, Result, judge
from worldjepa.evaluation.returns import Returns, gather_returns
from worldjepa.evaluation.video import grid_frames, write_film
from worldjepa.files import write_text, written_whole
from worldjepa.runs import PLANNING_FILE, env_factory, player_factory
from worldjepa.training import num_cores, pick_device
from worldjepa.types import EnvSpec

# Clips that the report's retrieval and probes choose from, and that it shows; their random streams.
NUM_SHOWN_DRIVES = 6
NUM_POOL_CLIPS, NUM_SHOWN_CLIPS, FIGURE_SEEDS = 900, 300, (20_001, 20_002)
MAX_FILM_FRAMES = 120
"""Of episodes for reward, which are long."""

MakePolicy = Callable[[Sized], Policy]


def draw_splits(store: EpisodeStore, config: DictConfig, splits: str | list[str], num_pairs: int, seed: int):
    """Pairs per split, split -> Pairs; ``auto`` takes every split that the store has episodes for.

    Raises:
        ValueError: a split without episodes.
    """
    known = [name for name in ("scripted", "human") if name in set(store.policies)]
    names = known if splits == "auto" else [splits] if isinstance(splits, str) else list(splits)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"split {unknown[0]!r} has no episodes in {store.path}; it has {known}. The human split needs the recorded "
            "demonstrations: set WORLDJEPA_DATA, or data=<path>, and collect again"
        )
    env = env_factory(config).build().unwrapped
    return {
        name: sample_pairs(store, env, policy=name, num_pairs=num_pairs, goal_offset=config.env.goal_offset, seed=seed)
        for name in names
    }


def planner_policy(run_dir: Path, config: DictConfig) -> MakePolicy:
    """Builds the policy that plans with the model in ``run_dir`` as ``config`` says."""
    planner, cost, device = instantiate(config.planner), instantiate(config.cost), pick_device(config.train.device)
    if kind_of(config) == "driving":
        settings = {name: config.planning[name] for name in ("horizon", "hold", "replan_every")}
        return partial(load_driving_policy, path=str(run_dir), planner=planner, cost=cost, device=device, **settings)
    return partial(
        load_planning_policy,
        run_dir=str(run_dir),
        planner=planner,
        cost=cost,
        observes=tuple(config.observations),
        device=device,
        **config.planning,
    )


def judge_run(run_dir: Path, config: DictConfig, folder: Path | None = None) -> dict[str, Any]:
    """Judges the model in ``run_dir`` by ``config``'s planner and evaluation settings; writes table and videos.

    Args:
        run_dir: a finished training.
        config: the run's configuration, with ``planner``, ``planning`` and ``evaluation`` as they shall be.
        folder: where ``planning.json``, ``pairs/`` and ``videos/`` go; ``run_dir`` by default.

    Returns:
        The content of ``planning.json``, or of ``returns.json`` for a run that drives.
    """
    if kind_of(config) == "driving":
        return judge_returns(config, {"planner": planner_policy(run_dir, config)}, folder or run_dir)
    statistics = load_world_model(run_dir)[0].action_normalizer
    spread = statistics.center.tolist(), statistics.scale.tolist()
    return judge_goals(config, {"planner": planner_policy(run_dir, config)}, spread, folder or run_dir)


def judge_goals(
    config: DictConfig, judged: dict[str, MakePolicy], spread: tuple[list[float], list[float]], folder: Path
) -> dict[str, Any]:
    """Judges policies on reaching goals, with floors, ceiling and privileged player beside them.

    Args:
        config: ``env``, whose store must be there, and ``evaluation``.
        judged: name -> builder.
        spread: mean and standard deviation of raw actions, for the random floor.
        folder: where ``planning.json``, ``pairs/`` and ``videos/`` go.

    Returns:
        The content of ``planning.json``.
    """
    settings = config.evaluation
    store = EpisodeStore.open(config.env.store)
    splits = draw_splits(store, config, settings.splits, settings.pairs, settings.seed)
    for name, pairs in splits.items():
        pairs.save(folder / "pairs" / f"{name}-{settings.pairs}-{settings.seed}.json")
    goal_player = player_factory(config.env.goal_player).build if config.env.get("goal_player") else None
    policies = {**baselines(store.spec, *spread, config.env.frameskip, goal_player), **judged}
    build_env = env_factory(config).build
    with _bar(sum(len(pairs) for pairs in splits.values()) * len(policies)) as advance:
        table, results = judge(
            splits,
            policies,
            build_env,
            budget=config.env.budget,
            seed=settings.seed,
            num_workers=settings.workers or num_cores(),
            on_progress=advance,
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / PLANNING_FILE, json.dumps(table, indent=1))
    env = build_env().unwrapped
    for split, by_policy in results.items():
        for name in judged:
            film = split if name == "planner" else f"{split}-{name}"
            write_video(folder / "videos" / f"{film}.mp4", by_policy[name], env, settings.videos)
    return table


def judge_returns(config: DictConfig, judged: dict[str, MakePolicy], folder: Path) -> dict[str, Any]:
    """Judges policies on the task's reward over whole episodes; floors and the scripted players beside them.

    Args:
        config: ``env``, with ``expert``, and ``blind``, who does without looking, where there are such; ``evaluation``.
        judged: name -> builder.
        folder: where ``returns.json`` and ``videos/`` go.

    Returns:
        The content of ``returns.json``.
    """
    settings, build_env = config.evaluation, env_factory(config, judged=True).build
    env = build_env().unwrapped
    if not getattr(env, "rewarded", False):
        raise ValueError(f"{config.env.id} gives no rewards as it is set up here; use measure=goals")
    spec = EnvSpec.from_env(env)
    low, high = np.array(spec.action_low), np.array(spec.action_high)
    policies = floors(spec, ((low + high) / 2).tolist(), ((high - low) / 2).tolist(), config.env.frameskip)
    for name in ("blind", "expert"):
        if config.env.get(name):
            policies[name] = partial(make_expert, player_factory(config.env[name]).build)
    if settings.get("beside") is not None:
        unknown = [name for name in settings.beside if name not in policies]
        if unknown:
            raise ValueError(f"evaluation.beside may name {', '.join(policies)}, got {unknown[0]!r}")
        policies = {name: policies[name] for name in settings.beside}
    policies |= judged
    num_steps = settings.get("steps") or config.env.episode_steps
    with _bar(settings.episodes * len(policies)) as advance:
        results = gather_returns(
            policies,
            build_env,
            num_episodes=settings.episodes,
            num_steps=num_steps,
            seed=settings.seed,
            num_workers=settings.workers or num_cores(),
            # On the CPU policies think about one environment at a time, so that none should wait for the longest drive.
            batch_size=10 if torch.cuda.is_available() else 1,
            on_progress=advance,
        )
    folder.mkdir(parents=True, exist_ok=True)
    table = {
        "n": settings.episodes,
        "steps": num_steps,
        "seed": settings.seed,
        "policies": {name: result.summary() for name, result in results.items()},
    }
    write_text(folder / RETURNS_FILE, json.dumps(table, indent=1))
    for name in [name for name in results if name in {*(judged or policies), "blind", "expert"}]:
        write_returns_video(folder / "videos" / f"return-{name}.mp4", results[name], env, settings.videos)
    return table


def write_video(path: Path, result: Result, env, num_pairs: int) -> None:
    """A grid of a policy's first pairs that ask for more than moving the robot."""
    rows = sorted(range(len(result.pairs)), key=lambda i: (not result.pairs.moved[i], i))[:num_pairs]
    if not rows:
        return
    states, goals = result.trajectories[rows], result.pairs.goal_state[rows]
    solved = env.reached(states, goals[:, None])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_film(path, grid_frames(env, states, goals, solved), frame_rate=env.metadata["render_fps"])


def write_returns_video(path: Path, result: Returns, env, num_episodes: int) -> None:
    """A grid of a policy's first episodes, every so many steps."""
    every = -(-result.trajectories.shape[1] // MAX_FILM_FRAMES)
    states = result.trajectories[: min(num_episodes, 4), ::every]
    if len(states):
        frame_rate = max(1, round(env.metadata["render_fps"] / every))
        write_film(path, grid_frames(env, states, None, None), frame_rate=frame_rate)


@contextmanager
def _bar(total: int):
    bar = Progress(
        TextColumn("judging "), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )
    with bar:
        task = bar.add_task("", total=total)
        yield lambda n: bar.advance(task, n)


def draw_figures(run_dir: Path, config: DictConfig) -> None:
    """Writes ``figures.npz``, or ``drive_figures.npz``: what the report shows of the latents."""
    store = EpisodeStore.open(config.env.store)
    if kind_of(config) == "driving":
        size = (config.train.clip_frames, config.env.frameskip, ("sweep", "proprioception"))
        clips = Windows(store, *size, "held_out").sample(NUM_SHOWN_DRIVES, FIGURE_SEEDS[1], 0)
        with written_whole(run_dir / DRIVE_FIGURES) as beside:
            np.savez_compressed(beside, **drive_pictures(load_bev_world(run_dir)[0], clips))
        return
    model, _ = load_world_model(run_dir)
    size = (config.train.clip_frames, config.env.frameskip, tuple(config.observations))
    train = Windows(store, *size, "train").sample(NUM_POOL_CLIPS, FIGURE_SEEDS[0], 0)
    held_out = Windows(store, *size, "held_out").sample(NUM_SHOWN_CLIPS, FIGURE_SEEDS[1], 0)
    probe_targets = env_factory(config).build().unwrapped.probe_targets
    collect_figures(model, train, held_out, probe_targets, run_dir / "figures.npz")


def summary(table: dict[str, Any], judged: str = "planner") -> str:
    """One line per split in plain words."""
    lines = []
    for split, row in table.items():
        low, high = row[judged]["any"]["ci95"]
        others = ", ".join(
            f"{name.replace('_', ' ')} {row[name]['any']['rate']:.1%}"
            for name in ("random", "still", "replay", "scripted_pusher")
            if name in row
        )
        lines.append(
            f"{split}: reached {row[judged]['any']['successes']} of {row['n']} unsolved goals within "
            f"{row['budget']} steps ({row[judged]['any']['rate']:.1%}, 95 % interval {low:.1%} to {high:.1%}); "
            f"{others}"
        )
    return "\n".join(lines)


def returns_summary(table: dict[str, Any]) -> str:
    """One line per policy in plain words."""
    lines = []
    for name, row in table["policies"].items():
        low, high = row["return"]["ci95"]
        interval = "" if low is None else f" (95 % interval {low:.1f} to {high:.1f})"
        lines.append(f"{name.replace('_', ' ')}: mean return {row['return']['mean']:.1f}{interval}")
    return "\n".join([f"{table['n']} episodes of {table['steps']} steps", *lines])
