"""ACT-JEPA against ACT, two stages, behaviour cloning and diffusion on human PushT; the speed of chunks and loaders.

Where ``study.py pusht`` has left its world models, ACT-JEPA on their frozen encoders too.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldjepa.datasets.chunks import Chunks
from worldjepa.datasets.demonstrations import find_demonstrations
from worldjepa.datasets.lerobot import export_lerobot
from worldjepa.datasets.store import EpisodeStore
from worldjepa.files import write_text
from worldjepa.runs import machine
from worldjepa.studies.jobs import in_turns, run_script
from worldjepa.studies.record import figure, mean_figure, rate_figure, write_result
from worldjepa.training import read_metrics

SEEDS = (0, 1, 2)
POLICIES = {
    "act_jepa": ("policy=act_jepa",),
    "act": ("policy=act",),
    "two_stage": ("policy=act_jepa", "policy.two_stage=true"),
    "bc": ("policy=behavior_cloning",),
    "diffusion": ("policy=diffusion",),
}
WORLD_MODELS = Path("runs") / "study-pusht"
NUM_EPISODES = 100
FULL_COVERAGE, ASKED_COVERAGE = 0.95, 0.9
"""Coverage at which gym-pusht's reward is 1 and the episode ends, and that counts as success here."""
FOLDER = Path("runs") / "study-act_jepa"


def run(command: str, steps: int) -> None:
    """Writes ``results/act_jepa.json``; every part that is there already is read back.

    Args:
        steps: of training, the same for every policy and seed; the paper's are 4,000 of 128 chunks.
    """
    if not find_demonstrations("auto")[0]:
        raise SystemExit("this study is about human demonstrations: set WORLDJEPA_DATA, or go online")
    policies = {name: [words] * len(SEEDS) for name, words in POLICIES.items()}
    models = [WORLD_MODELS / f"seed-{seed}" for seed in SEEDS]
    if all(model.is_dir() for model in models):
        policies["on_world_model"] = [("policy=act_jepa", "policy.frozen=encoder", f"run={model}") for model in models]
    else:
        print(f"no world models in {WORLD_MODELS}: no policies on their encoders; study.py pusht trains them")
    # Diffusion takes longest: it comes last.
    order = sorted(policies, key=lambda name: name == "diffusion")
    done = in_turns(
        {
            f"{name}-{seed}": partial(policy_job, name, seed, words, steps)
            for name in order
            for seed, words in zip(SEEDS, policies[name], strict=True)
        }
    )
    jobs = {name: [done[f"{name}-{seed}"] for seed in SEEDS] for name in policies}
    figures: dict[str, Any] = {}
    pairs = list(zip(jobs["act_jepa"], jobs["act"], strict=True))
    for suffix, what in (("", "proprioception"), ("_state", "state")):
        ratios = [_probed(ours, what) / _probed(theirs, what) for ours, theirs in pairs]
        figures[f"probe_rmse_ratio{suffix}"] = mean_figure(ratios, at_most=None if suffix else 0.85)
        for when in ("now", "later"):
            ratios = [_probed(ours, what, when) / _probed(theirs, what, when) for ours, theirs in pairs]
            figures[f"probe_rmse_ratio{suffix}_{when}"] = mean_figure(ratios)
    for name, seeds in jobs.items():
        best = best_coverage(seeds)
        solved = solved_of(best)
        ours = name in ("act_jepa", "on_world_model")
        prefix = "" if name == "act_jepa" else f"{name}_"
        joint = figures["success_at_0_9"]["value"] if name == "two_stage" else None
        figures[f"{prefix}success_at_0_9"] = rate_figure(solved, at_least=0.2 if ours else None, at_most=joint)
        means = [float(coverage.mean()) for coverage in best]
        figures[f"{prefix}avg_max_coverage"] = mean_figure(means, at_least=0.6 if ours else None)
        if name != "diffusion":
            figures[f"{prefix}held_out_error"] = mean_figure([job["held_out_error"] for job in seeds])
        figures[f"{prefix}minutes"] = mean_figure([job["minutes"] for job in seeds], at_most=60 if ours else None)
    figures["steps"] = figure(steps, None, len(SEEDS))
    figures["chunk_ms"] = mean_figure(_chunk_ms(FOLDER / "act_jepa-0"), at_most=15)
    figures |= _loaders(Path("data/pusht-demonstrations-96"))
    write_result("act_jepa", command, machine(), SEEDS, figures)


def best_coverage(jobs: list[dict[str, Any]]) -> list[np.ndarray]:
    """The best of each episode (episodes,), of each job."""
    return [np.array(job["best_reward"]) * FULL_COVERAGE for job in jobs]


def solved_of(best: list[np.ndarray]) -> list[tuple[int, int]]:
    """(episodes that reached the asked coverage, episodes) of each job, by :func:`best_coverage`."""
    return [(int((coverage >= ASKED_COVERAGE).sum()), len(coverage)) for coverage in best]


def _probed(job: dict[str, Any], what: str, *moments: str) -> float:
    """Root mean square error of the probes for ``what``, over now and later unless one of them is named."""
    return float(np.sqrt(np.mean([job[f"probe/{what}/{when}"] ** 2 for when in moments or ("now", "later")])))


def policy_job(
    name: str, seed: int, words: tuple[str, ...], steps: int, alone: bool, parent: Path = FOLDER
) -> dict[str, Any]:
    """What came out of one policy's training and judgement, done unless it is there; on one core unless ``alone``.

    Args:
        words: of the command line; the first says which policy.
        parent: of the policy's folder.
    """
    folder = parent / f"{name}-{seed}"
    summary = folder / "summary.json"
    if not summary.is_file():
        budget = (f"train.steps={steps}", "train.num_evaluations=4", *(() if alone else ("train.processes=1",)))
        run_script("train_policy", (*words, "env=pusht", f"out={folder}", f"seed={seed}", *budget), folder, not alone)
        judged = (words[0], "measure=return")
        made = (f"policy.make.path={folder}", f"evaluation.episodes={NUM_EPISODES}", f"evaluation.seed={seed}")
        workers = () if alone else ("evaluation.workers=1",)
        run_script("evaluate", (*judged, *made, *workers, f"out={folder}/judged"), folder, not alone)
        table = json.loads((folder / "judged" / "returns.json").read_text())["policies"]
        row = next(row for policy, row in table.items() if policy not in ("random", "still", "expert"))
        last: dict[str, float] = {}
        rows = read_metrics(folder)
        for line in rows:
            last |= {key.removeprefix("eval/"): value for key, value in line.items() if key.startswith("eval/")}
        stages = (read_metrics(folder / "pretraining"), rows)
        seconds = sum(stage[-1]["seconds"] for stage in stages if stage)
        outcome = {**last, "minutes": seconds / 60, "best_reward": row["episodes"]["best_reward"]}
        write_text(summary, json.dumps(outcome))
    return json.loads(summary.read_text())


def _chunk_ms(folder: Path, repetitions: int = 200) -> list[float]:
    """Milliseconds of one core for one chunk of one environment, medians of ten groups."""
    code = (
        "import sys, time, torch; torch.set_num_threads(1)\n"
        "from policies.chunk_policy import load_chunk_model\n"
        "model, _ = load_chunk_model(sys.argv[1])\n"
        "size = model.encoder.normalizer.image_size\n"
        "pixels = torch.zeros(1, 1, 3, size, size, dtype=torch.uint8)\n"
        "obs = {'pixels': pixels, 'proprioception': torch.zeros(1, 1, 2)}\n"
        "with torch.no_grad():\n"
        "    for _ in range(int(sys.argv[2]) + 20):\n"
        "        began = time.perf_counter(); model(obs); print(1e3 * (time.perf_counter() - began))\n"
    )
    words = [sys.executable, "-c", code, str(folder), str(repetitions)]
    out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    times = [float(line) for line in out.split()][20:]
    return [statistics.median(times[i::10]) for i in range(10)]


def _loaders(store: Path, horizon: int = 16, batch_size: int = 64, num_episodes: int = 50) -> dict[str, Any]:
    """Samples (a picture, a state, a chunk of actions) per second out of our store, and of LeRobot's of the same."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    ours = EpisodeStore.open(store)
    later = {"action": [step / ours.spec.frame_rate for step in range(horizon)]}
    figures, rng = {}, np.random.default_rng(0)
    chunks = Chunks(ours, horizon, split="all")
    num_moments = int((ours.lengths[:num_episodes] - 1).sum())  # the same episodes for both

    def served(batch: Callable[[], Any], repetitions: int) -> list[float]:
        batch()
        speeds = []
        for _ in range(repetitions):
            began = time.perf_counter()
            batch()
            speeds.append(batch_size / (time.perf_counter() - began))
        return speeds

    mine = served(lambda: chunks.gather(rng.integers(num_moments, size=batch_size)), 50)
    figures["loader_samples_per_s"] = mean_figure(mine)
    best = 0.0
    for kind in ("image", "video"):
        root = FOLDER / f"lerobot-{kind}"
        if not root.is_dir():
            export_lerobot(ours, root, "local/pusht", list(range(num_episodes)), "push", kind == "video", progress=True)
        data = LeRobotDataset("local/pusht", root=root, delta_timestamps=later, video_backend="pyav")

        def batch(data=data) -> Any:
            return torch.utils.data.default_collate([data[int(i)] for i in rng.integers(len(data), size=batch_size)])

        theirs = served(batch, 5)
        figures[f"lerobot_{kind}_samples_per_s"] = mean_figure(theirs)
        best = max(best, statistics.mean(theirs))
        shutil.rmtree(root, ignore_errors=True)
    figures["loader_ratio_to_lerobot"] = figure(statistics.mean(mine) / best, None, len(mine), at_least=10)
    return figures
