"""Does I-JEPA's pre-training on digits beat the same network at random initialisation?

Each seed draws a split, the weights, the batches and the masks; both probes of a seed share the split and the
weights they start from, so their difference is paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from worldjepa.evaluation.frozen import SAMPLES_FILE
from worldjepa.evaluation.intervals import mean_interval
from worldjepa.studies.jobs import in_turns, pretrain_job
from worldjepa.studies.record import mean_figure

FOLDER = Path("runs") / "study-i_jepa_digits"


def run(seeds: Sequence[int] = (0, 1, 2, 3, 4)) -> dict[str, dict]:
    """Pre-trains once per seed and compares linear probes of frozen features; runs that are there are read back.

    Returns:
        figures by name, in the form of :mod:`worldjepa.studies.record`. Accuracies and gains are shares in [0, 1].
    """
    words = ("model=i_jepa", "data=digits")
    jobs = in_turns(
        {
            str(seed): partial(pretrain_job, FOLDER / f"seed-{seed}", (*words, f"seed={seed}"), SAMPLES_FILE)
            for seed in seeds
        }
    )
    results = [jobs[str(seed)] for seed in seeds]
    columns = {name: [result[name] for result in results] for name in results[0]}
    gains = [trained - random for trained, random in zip(columns["probe"], columns["random_probe"], strict=True)]
    # A one-sided 95 % bound is the low end of the two-sided 90 % interval.
    bound = mean_interval(gains, confidence=0.9)[1]
    ratios, ranks = columns["loss_over_mean_latent"], columns["rankme"]
    return {
        "probe_gain": _aimed(mean_figure(gains), "one-sided 95 % bound > 0", bound > 0),
        "probe_gain_bound": _aimed({"value": round(bound, 4), "ci95": None, "n": len(gains)}, "> 0", bound > 0),
        "probe_accuracy": mean_figure(columns["probe"]),
        "random_probe_accuracy": mean_figure(columns["random_probe"]),
        "loss_over_mean_latent": _aimed(mean_figure(ratios), "< 1 for every seed", max(ratios) < 1),
        "rankme": _aimed(mean_figure(ranks), "> untrained for every seed", min(ranks) > max(columns["random_rankme"])),
        "random_rankme": mean_figure(columns["random_rankme"]),
        "seconds": mean_figure(columns["seconds"]),
    }


def _aimed(figure: dict, target: str, met: bool) -> dict:
    return {**figure, "target": target, "met": met}
