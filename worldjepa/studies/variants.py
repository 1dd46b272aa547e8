"""One part changed at a time under one budget: encoders, and objectives.

The budget is the time that the default needs for :data:`DEFAULT_STEPS` steps on one core. A machine's speed drifts over
an hour, so speeds are measured against each other first, in turns, and every variant gets the steps that fit.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from worldjepa.config import RUN_SCHEMA
from worldjepa.files import write_text
from worldjepa.runs import build_training, machine, open_store
from worldjepa.studies.jobs import in_turns, outcomes, run_job
from worldjepa.studies.pusht import SPLITS
from worldjepa.studies.record import mean_figure, rate_figure, write_result
from worldjepa.training import read_metrics, train

SEEDS = (0, 1, 2)
DEFAULT_STEPS, NUM_PAIRS = 1250, 40
BATCH = ("train.batch_size=32",)  # half the default's: a short budget is better spent on more steps
FOLDER = Path("runs") / "study-variants"
CONFIGS = Path("configs")
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
    speeds = _speeds(name, variants)
    default = statistics.median(next(iter(speeds.values())))
    steps = {variant: round(DEFAULT_STEPS * statistics.median(values) / default) for variant, values in speeds.items()}
    results = in_turns(
        {
            f"{variant}-{seed}": partial(_job, overrides, seed, steps[variant])
            for seed in SEEDS
            for variant, overrides in variants.items()
        }
    )
    figures: dict[str, Any] = {}
    for variant in variants:
        done = [results[f"{variant}-{seed}"] for seed in SEEDS]
        for split in SPLITS:
            if outcomes(done, split, "planner", "any"):
                figures[f"{variant}_{split}_success"] = rate_figure(outcomes(done, split, "planner", "any"))
        for figure, probe in (("angle_r2", "linear/block_angle/r2"), ("rankme", "rankme")):
            figures[f"{variant}_{figure}"] = mean_figure([job["probes"][f"eval/{probe}"] for job in done])
        figures[f"{variant}_steps"] = mean_figure([steps[variant]])
        figures[f"{variant}_images_per_s"] = mean_figure(speeds[variant])
    write_result(name, command, machine(), SEEDS, figures)


def _speeds(name: str, variants: dict[str, Sequence[str]], rounds: int = 3) -> dict[str, list[float]]:
    """Pictures/s of training on one thread, in turns, once per round; kept, so that a repeated study goes on."""
    file = FOLDER / f"speeds-{name}.json"
    if file.is_file():
        return json.loads(file.read_text())
    torch.set_num_threads(1)
    ConfigStore.instance().store("base_train_world_model", RUN_SCHEMA)
    speeds: dict[str, list[float]] = {variant: [] for variant in variants}
    with initialize_config_dir(str(CONFIGS.resolve()), version_base="1.3"):
        store, sentence = open_store(compose("train_world_model", ["env=pusht"]))  # of all variants
        for _ in range(rounds):
            for variant, overrides in variants.items():
                config = compose("train_world_model", ["env=pusht", *overrides, *BATCH])
                system, windows, settings = build_training(config, store)
                short = replace(settings, steps=12, log_every=4, num_evaluations=0, processes=1, trackers=())
                with tempfile.TemporaryDirectory() as folder:
                    train(system, windows, short, Path(folder))
                    speeds[variant].append(read_metrics(Path(folder))[-1]["images_per_s"])
    print(f"{sentence}\n{speeds}", flush=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(speeds))
    return speeds


def _job(overrides: Sequence[str], seed: int, steps: int, alone: bool) -> dict[str, Any]:
    """What came out of one run: on one thread even where it is alone, so that all have the same share of a machine."""
    changed = "-".join(word.replace("objective.weights.", "").replace("=", "_") for word in overrides) or "default"
    changed = changed.replace("encoder_glimpse", "default")  # the same run serves both studies
    run_dir = FOLDER / f"{changed}-seed-{seed}"
    # One phase: the second would train all predictors alike, and hide what the first made of them.
    budget = [f"train.steps={steps}", f"train.warmup_steps={min(200, steps // 6)}", "train.processes=1"]
    budget += ["train.num_evaluations=1", "refinement.steps=0"]
    judged = [f"evaluation.pairs={NUM_PAIRS}", f"evaluation.seed={seed}", "evaluation.workers=1"]
    words = ["env=pusht", *overrides, f"seed={seed}", *BATCH, *budget, *judged]
    return run_job(run_dir, words, one_thread=True)
