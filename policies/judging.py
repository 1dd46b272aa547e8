"""The judgement of a run: planner, floors, ceiling and scripted reference on frozen pairs; videos and the page."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from policies.baselines import baselines
from policies.planning import load_planning_policy
from worldjepa.checkpoint import load_world_model, write_text
from worldjepa.datasets.store import EpisodeStore
from worldjepa.datasets.windows import Windows
from worldjepa.evaluation.figures import collect_figures
from worldjepa.evaluation.pairs import sample_pairs
from worldjepa.evaluation.protocol import Result, judge
from worldjepa.evaluation.video import grid_frames, write_film
from worldjepa.rollout import Factory
from worldjepa.runs import PLANNING_FILE, env_factory
from worldjepa.training import num_cores, pick_device

# Clips that the report's retrieval and probes choose from, and that it shows; their random streams.
NUM_POOL_CLIPS, NUM_SHOWN_CLIPS, FIGURE_SEEDS = 900, 300, (20_001, 20_002)


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


def judge_run(run_dir: Path, config: DictConfig, folder: Path | None = None) -> dict[str, Any]:
    """Judges the model in ``run_dir`` by ``config``'s planner and evaluation settings; writes table and videos.

    Args:
        run_dir: a finished training.
        config: the run's configuration, with ``planner``, ``planning`` and ``evaluation`` as they shall be.
        folder: where ``planning.json``, ``pairs/`` and ``videos/`` go; ``run_dir`` by default.

    Returns:
        The content of ``planning.json``.
    """
    folder = folder or run_dir
    settings = config.evaluation
    device = pick_device(config.train.device)
    store = EpisodeStore.open(config.env.store)
    model, _ = load_world_model(run_dir)
    splits = draw_splits(store, config, settings.splits, settings.pairs, settings.seed)
    for name, pairs in splits.items():
        pairs.save(folder / "pairs" / f"{name}-{settings.pairs}-{settings.seed}.json")
    statistics = model.action_normalizer
    goal_player = Factory(config.env.goal_player).build if config.env.get("goal_player") else None
    policies = baselines(
        store.spec, statistics.center.tolist(), statistics.scale.tolist(), config.env.frameskip, goal_player
    )
    policies["planner"] = partial(
        load_planning_policy,
        run_dir=str(run_dir),
        planner=instantiate(config.planner),
        cost=instantiate(config.cost),
        observes=tuple(config.observations),
        device=device,
        **config.planning,
    )
    build_env = env_factory(config).build
    bar = Progress(
        TextColumn("judging "), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )
    with bar:
        task = bar.add_task("", total=sum(len(pairs) for pairs in splits.values()) * len(policies))
        table, results = judge(
            splits,
            policies,
            build_env,
            budget=config.env.budget,
            seed=settings.seed,
            num_workers=settings.workers or num_cores(),
            on_progress=lambda n: bar.advance(task, n),
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / PLANNING_FILE, json.dumps(table, indent=1))
    for name, by_policy in results.items():
        write_video(folder / "videos" / f"{name}.mp4", by_policy["planner"], build_env().unwrapped, settings.videos)
    return table


def write_video(path: Path, result: Result, env, num_pairs: int) -> None:
    """A grid of the planner's first pairs that ask for more than moving the robot."""
    rows = sorted(range(len(result.pairs)), key=lambda i: (not result.pairs.moved[i], i))[:num_pairs]
    if not rows:
        return
    states, goals = result.trajectories[rows], result.pairs.goal_state[rows]
    solved = env.reached(states, goals[:, None])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_film(path, grid_frames(env, states, goals, solved), frame_rate=env.metadata["render_fps"])


def draw_figures(run_dir: Path, config: DictConfig) -> None:
    """Writes ``figures.npz``: what the report shows of the latents."""
    store = EpisodeStore.open(config.env.store)
    model, _ = load_world_model(run_dir)
    size = (config.train.clip_frames, config.env.frameskip, tuple(config.observations))
    train = Windows(store, *size, "train").sample(NUM_POOL_CLIPS, FIGURE_SEEDS[0], 0)
    held_out = Windows(store, *size, "held_out").sample(NUM_SHOWN_CLIPS, FIGURE_SEEDS[1], 0)
    probe_targets = env_factory(config).build().unwrapped.probe_targets
    collect_figures(model, train, held_out, probe_targets, run_dir / "figures.npz")


def summary(table: dict[str, Any]) -> str:
    """One line per split in plain words."""
    lines = []
    for split, row in table.items():
        low, high = row["planner"]["any"]["ci95"]
        others = ", ".join(
            f"{name.replace('_', ' ')} {row[name]['any']['rate']:.1%}"
            for name in ("random", "still", "replay", "scripted_pusher")
            if name in row
        )
        lines.append(
            f"{split}: reached {row['planner']['any']['successes']} of {row['n']} unsolved goals within "
            f"{row['budget']} steps ({row['planner']['any']['rate']:.1%}, 95 % interval {low:.1%} to {high:.1%}); "
            f"{others}"
        )
    return "\n".join(lines)
