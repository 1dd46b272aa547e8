"""Does I-JEPA's pre-training on digits beat the same network at random initialisation?

Each seed draws a split, the weights, the batches and the masks; both probes of a seed share the split and the
weights they start from, so their difference is paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from worldjepa.evaluation.intervals import mean_interval
from worldjepa.studies.record import mean_figure

CONFIGS = Path(__file__).parents[2] / "configs"


def run(seeds: Sequence[int] = (0, 1, 2, 3, 4), run_root: str | Path = "runs") -> dict[str, dict]:
    """Pre-trains once per seed with ``configs/pretrain.yaml`` and compares linear probes of frozen features.

    Returns:
        figures by name, in the form of :mod:`worldjepa.studies.record`. Accuracies and gains are shares in [0, 1].
    """
    results = [pretrain_seed(seed, run_root) for seed in seeds]
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


def _aimed(figure: dict, target: str, met: bool) -> dict:
    return {**figure, "target": target, "met": met}
