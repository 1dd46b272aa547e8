"""The main job on PushT, several times from nothing: success rates, floors, ceiling, probes, time and memory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worldjepa.runs import machine
from worldjepa.studies.jobs import outcomes, run_job
from worldjepa.studies.record import mean_figure, rate_figure, write_result

NUM_PAIRS = 200
SPLITS = ("scripted", "human")


def seed_folder(name: str, seed: int) -> Path:
    """Of one job of a study."""
    return Path("runs") / f"study-{name}" / f"seed-{seed}"


def run_seed(
    name: str,
    seed: int,
    overrides: Sequence[str] = (),
    env: str = "pusht",
    num_pairs: int = NUM_PAIRS,
    alone: bool = True,
) -> dict[str, Any]:
    """One whole job with a store of its own, from nothing; on one core unless ``alone``.

    See :func:`worldjepa.studies.jobs.run_job`.
    """
    run_dir = seed_folder(name, seed)
    words = [f"env={env}", *overrides, f"seed={seed}", f"collection_seed={seed}", f"evaluation.seed={seed}"]
    if not alone:
        words += ["train.processes=1", "evaluation.workers=1"]
    job = run_job(run_dir, [*words, f"evaluation.pairs={num_pairs}", f"env.store={run_dir}/store"], not alone)
    shutil.rmtree(run_dir / "store", ignore_errors=True)  # gigabytes that the same seed would make again
    return job


def planning_figures(jobs: Sequence[dict[str, Any]], suffix: str = "") -> dict[str, Any]:
    """How often a model other than the default one plans to its goals, and how well its latents tell the angle.

    Returns:
        ``pusht_success``, ``pusht_human_success`` where there are demonstrations, and ``pusht_angle_r2``, each name
        followed by ``suffix``.
    """
    names = {"scripted": "pusht_success", "human": "pusht_human_success"}
    found = {name: outcomes(jobs, split, "planner", "any") for split, name in names.items()}
    angles = [job["probes"]["eval/linear/block_angle/r2"] for job in jobs]
    rates = {f"{name}{suffix}": rate_figure(tried) for name, tried in found.items() if tried}
    return rates | {f"pusht_angle_r2{suffix}": mean_figure(angles)}


def run(
    name: str,
    seeds: Sequence[int],
    overrides: Sequence[str],
    targets: dict[str, float],
    command: str,
) -> Path:
    """Runs every seed and writes ``results/<name>.json``.

    Args:
        name: of the study.
        seeds: each is a job from nothing: its own data, weights and pairs.
        overrides: of the main command, such as ``+experiment=pusht_long``.
        targets: figure -> least value (most, for ``minutes`` and ``peak_memory_gb`` and the floors).
        command: that repeats the study.
    """
    jobs = [run_seed(name, seed, overrides) for seed in seeds]
    figures: dict[str, Any] = {}
    for split in SPLITS:
        if not outcomes(jobs, split, "planner", "any"):
            continue  # no demonstrations on this machine: the scripted split alone
        for measure, suffix in (("any", "success"), ("any_moved", "moved_success"), ("at_25", "success_at_25")):
            figure = f"{split}_{suffix}"
            figures[figure] = rate_figure(outcomes(jobs, split, "planner", measure), at_least=targets.get(figure))
        figures[f"{split}_end_success"] = rate_figure(outcomes(jobs, split, "planner", "end"))
        figures[f"{split}_scripted_pusher_success"] = rate_figure(outcomes(jobs, split, "scripted_pusher", "any"))
    both = [split for split in SPLITS if outcomes(jobs, split, "planner", "any")]
    for player, bound in (("random", "at_most"), ("still", "at_most"), ("replay", "at_least")):
        pooled = [outcome for split in both for outcome in outcomes(jobs, split, player, "any")]
        figures[f"{player}_success"] = rate_figure(pooled, **{bound: targets.get(f"{player}_success")})
    angles = [job["probes"]["eval/linear/block_angle/r2"] for job in jobs]
    figures["angle_r2"] = mean_figure(angles, at_least=targets.get("angle_r2"))
    figures["minutes"] = mean_figure([job["facts"]["minutes"] for job in jobs], at_most=targets.get("minutes"))
    memory = [job["facts"]["peak_memory_gb"] for job in jobs]
    figures["peak_memory_gb"] = mean_figure(memory, at_most=targets.get("peak_memory_gb"))
    figures["train_images_per_s"] = mean_figure([job["images_per_s"] for job in jobs])
    return write_result(name, command, machine(), seeds, figures)
