"""One part changed at a time under one budget: encoders, and objectives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from worldjepa.checkpoint import write_text
from worldjepa.runs import machine
from worldjepa.studies.pusht import SPLITS, outcomes
from worldjepa.studies.record import mean_figure, rate_figure, write_result
from worldjepa.training import num_cores, read_metrics

SEEDS = (0, 1, 2)
MINUTES, NUM_PAIRS = 8, 40
ENCODERS = {name: (f"encoder={name}",) for name in ("glimpse", "convnet", "vit")}
OBJECTIVES = {
    "sigreg": (),
    "sigreg_without_inverse_dynamics": ("objective.weights.inverse_dynamics=0",),
    "vicreg": ("objective=vicreg",),
    "vicreg_without_inverse_dynamics": ("objective=vicreg", "objective.weights.inverse_dynamics=0"),
    "ema": ("objective=teacher", "target=ema"),
    "ema_without_inverse_dynamics": ("objective=teacher", "target=ema", "objective.weights.inverse_dynamics=0"),
}


def encoders(command: str) -> None:
    """Writes ``results/encoders.json``."""
    _study("encoders", ENCODERS, command)


def objectives(command: str) -> None:
    """Writes ``results/objectives.json``."""
    _study("objectives", OBJECTIVES, command)


def _study(name: str, variants: dict[str, Sequence[str]], command: str) -> None:
    jobs = {(variant, seed): _job(overrides, seed) for seed in SEEDS for variant, overrides in variants.items()}
    _collect()
    # One process of one thread each, a job per core: every variant gets the same share of the machine.
    with ThreadPoolExecutor(num_cores()) as pool:
        results = dict(zip(jobs, pool.map(lambda job: _run(*job), jobs.values()), strict=True))
    figures: dict[str, Any] = {}
    for variant in variants:
        done = [results[variant, seed] for seed in SEEDS]
        for split in SPLITS:
            if outcomes(done, split, "planner", "any"):
                figures[f"{variant}_{split}_success"] = rate_figure(outcomes(done, split, "planner", "any"))
        for figure in ("angle_r2", "images_per_s", "rankme"):
            figures[f"{variant}_{figure}"] = mean_figure([job[figure] for job in done])
    write_result(name, command, machine(), SEEDS, figures)


def _collect() -> None:
    subprocess.run([sys.executable, "scripts/collect.py", "env=pusht"], check=True)


def _job(overrides: Sequence[str], seed: int) -> tuple[Path, list[str]]:
    changed = "-".join(word.replace("objective.weights.", "").replace("=", "_") for word in overrides) or "default"
    changed = changed.replace("encoder_glimpse", "default")  # the same run serves both studies
    run_dir = Path("runs") / "study-variants" / f"{changed}-seed-{seed}"
    # One phase: the second would train all predictors alike, and hide what the first made of them.
    budget = ["train.steps=null", f"train.minutes={MINUTES}", "train.processes=1", "train.num_evaluations=1"]
    budget += ["refinement.steps=0"]
    judged = [f"evaluation.pairs={NUM_PAIRS}", f"evaluation.seed={seed}", "evaluation.workers=1"]
    return run_dir, ["env=pusht", *overrides, f"seed={seed}", f"run_dir={run_dir}", *budget, *judged]


def _run(run_dir: Path, overrides: list[str]) -> dict[str, Any]:
    summary = run_dir / "summary.json"
    if not summary.is_file():
        print(f"{run_dir} ...", flush=True)
        subprocess.run(
            [sys.executable, "scripts/train_world_model.py", *overrides],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        rows = read_metrics(run_dir)
        probes = next(row for row in reversed(rows) if "eval/rankme" in row)
        speeds = sorted(row["images_per_s"] for row in rows if "images_per_s" in row)
        outcome = {
            "planning": json.loads((run_dir / "planning.json").read_text()),
            "angle_r2": probes["eval/linear/block_angle/r2"],
            "rankme": probes["eval/rankme"],
            "images_per_s": speeds[len(speeds) // 2],
        }
        write_text(summary, json.dumps(outcome, indent=1))
    return json.loads(summary.read_text())
