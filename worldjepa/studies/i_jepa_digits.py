"""Does I-JEPA's pre-training on digits beat the same network at random initialisation?

Each seed draws a split, the weights, the batches and the masks; both probes of a seed share the split and the
weights they start from, so their difference is paired.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch

from worldjepa.evaluation.intervals import mean_interval
from worldjepa.files import write_text
from worldjepa.studies.record import mean_figure
from worldjepa.training import num_cores

CONFIGS = Path(__file__).parents[2] / "configs"


def run(seeds: Sequence[int] = (0, 1, 2, 3, 4), run_root: str | Path = "runs") -> dict[str, dict]:
    """Pre-trains once per seed with ``configs/pretrain.yaml`` and compares linear probes of frozen features.

    Returns:
        figures by name, in the form of :mod:`worldjepa.studies.record`. Accuracies and gains are shares in [0, 1].
    """
    results = pretrain_seeds(seeds, run_root)
    columns = {name: [result[name] for result in results] for name in results[0]}
    gains = [
        trained - random
        for trained, random in zip(columns["probe_accuracy"], columns["random_probe_accuracy"], strict=True)
    ]
    # A one-sided 95 % bound is the low end of the two-sided 90 % interval.
    bound = mean_interval(gains, confidence=0.9)[1]
    ratios, ranks = columns["loss_over_mean_latent"], columns["rankme"]
    return {
        "probe_gain": _aimed(mean_figure(gains), "one-sided 95 % bound > 0", bound > 0),
        "probe_gain_bound": _aimed({"value": round(bound, 4), "ci95": None, "n": len(gains)}, "> 0", bound > 0),
        "probe_accuracy": mean_figure(columns["probe_accuracy"]),
        "random_probe_accuracy": mean_figure(columns["random_probe_accuracy"]),
        "loss_over_mean_latent": _aimed(mean_figure(ratios), "< 1 for every seed", max(ratios) < 1),
        "rankme": _aimed(mean_figure(ranks), "> untrained for every seed", min(ranks) > max(columns["random_rankme"])),
        "random_rankme": mean_figure(columns["random_rankme"]),
        "seconds": mean_figure(columns["seconds"]),
    }


def pretrain_seeds(seeds: Sequence[int], run_root: str | Path) -> list[dict[str, float]]:
    """Every seed's result; one thread each and a seed per core, since so small a network gains nothing from threads."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_cores(), context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(partial(pretrain_seed, run_root=str(run_root)), seeds))


def pretrain_seed(seed: int, run_root: str) -> dict[str, float]:
    """One run of ``scripts/pretrain.py model=i_jepa data=digits seed=<seed>``, or its result if it was done before."""
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore

    from worldjepa.pretraining import PretrainSettings, pretrain_run

    run_dir = Path(run_root) / "study-i_jepa_digits" / f"seed-{seed}"
    summary = run_dir / "summary.json"
    if not summary.is_file():
        ConfigStore.instance().store("base_pretrain", {"train": PretrainSettings})
        overrides = ["model=i_jepa", "data=digits", f"seed={seed}", f"run_dir={run_dir}"]
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            config = compose("pretrain", overrides)
        write_text(summary, json.dumps(pretrain_run(config, show_progress=False)))
    return json.loads(summary.read_text())


def _aimed(figure: dict, target: str, met: bool) -> dict:
    return {**figure, "target": target, "met": met}
