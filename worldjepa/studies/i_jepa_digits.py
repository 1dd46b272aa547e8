"""Does I-JEPA's pre-training on digits beat the same network at random initialisation?

Each seed draws a split, the weights, the batches and the masks; both probes of a seed share the split and the
weights they start from, so their difference is paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from worldjepa.evaluation.intervals import mean_interval

CONFIGS = Path(__file__).parents[2] / "configs"


def run(seeds: Sequence[int] = (0, 1, 2, 3, 4), run_root: str | Path = "runs") -> dict[str, dict]:
    """Pre-trains once per seed with ``configs/pretrain.yaml`` and compares linear probes of frozen features.

    Returns:
        figures by name: ``value``, ``ci95`` (low, high), ``n``, ``target`` in words and whether it is ``met``
        (None where nothing is aimed at). Accuracies and gains are shares in [0, 1].
    """
    results = [pretrain_seed(seed, run_root) for seed in seeds]
    columns = {name: [result[name] for result in results] for name in results[0]}
    gains = [
        trained - random
        for trained, random in zip(columns["probe_accuracy"], columns["random_probe_accuracy"], strict=True)
    ]
    # A one-sided 95 % bound is the low end of the two-sided 90 % interval.
    bound = mean_interval(gains, confidence=0.9)[1]
    ranks = columns["rankme"]
    return {
        "probe_gain": _figure(gains, "one-sided 95 % lower bound > 0", bound > 0),
        "probe_gain_lower_bound": {"value": bound, "ci95": None, "n": len(gains), "target": "> 0", "met": bound > 0},
        "probe_accuracy": _figure(columns["probe_accuracy"]),
        "random_probe_accuracy": _figure(columns["random_probe_accuracy"]),
        "loss_over_mean_latent": _figure(
            columns["loss_over_mean_latent"], "< 1 on every seed", max(columns["loss_over_mean_latent"]) < 1
        ),
        "rankme": _figure(ranks, "> the untrained encoder's", min(ranks) > max(columns["random_rankme"])),
        "random_rankme": _figure(columns["random_rankme"]),
        "seconds": _figure(columns["seconds"]),
    }


def pretrain_seed(seed: int, run_root: str | Path) -> dict[str, float]:
    """One run of ``scripts/pretrain.py model=i_jepa data=digits seed=<seed>``."""
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore

    from worldjepa.pretraining import PretrainSettings, pretrain_run

    ConfigStore.instance().store("base_pretrain", {"train": PretrainSettings})
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(
            "pretrain", ["model=i_jepa", "data=digits", f"seed={seed}", f"run_dir={run_root}/i_jepa-digits-{seed}"]
        )
    return pretrain_run(config, show_progress=False)


def _figure(values: Sequence[float], target: str | None = None, met: bool | None = None) -> dict:
    mean, low, high = mean_interval(values)
    return {"value": mean, "ci95": (low, high), "n": len(values), "target": target, "met": met}
