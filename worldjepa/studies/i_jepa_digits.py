"""Does I-JEPA's pre-training on digits beat the same network at random initialisation?

Each seed draws a split, the weights, the batches and the masks; both probes of a seed share the split and the
weights they start from, so their difference is paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from worldjepa.evaluation.frozen import SAMPLES_FILE
from worldjepa.studies.jobs import in_turns, pretrain_job
from worldjepa.studies.record import gain_figure, mean_figure, paired_figure

FOLDER = Path("runs") / "study-i_jepa_digits"


def run(seeds: Sequence[int] = (0, 1, 2, 3, 4)) -> dict[str, dict]:
    """Pre-trains once per seed and compares linear probes of frozen features; runs that are there are read back.

    Returns:
        figures by name, in the form of :mod:`worldjepa.studies.record`. Accuracies and gains are shares in [0, 1].
    """
    words = ("model=i_jepa", "data=digits", "pool=mean", "train.steps=3000")
    jobs = in_turns(
        {
            str(seed): partial(pretrain_job, FOLDER / f"seed-{seed}", (*words, f"seed={seed}"), SAMPLES_FILE)
            for seed in seeds
        }
    )
    results = [jobs[str(seed)] for seed in seeds]
    columns = {name: [result[name] for result in results] for name in results[0]}
    probes = columns["probe"], columns["random_probe"]
    bound = gain_figure(*probes)
    ratios, ranks = columns["loss_over_mean_latent"], columns["rankme"]
    return {
        "probe_gain": _aimed(paired_figure(*probes), "one-sided 95 % bound > 0", bound["met"]),
        "probe_gain_bound": bound,
        "probe_accuracy": mean_figure(columns["probe"]),
        "random_probe_accuracy": mean_figure(columns["random_probe"]),
        "loss_over_mean_latent": _aimed(mean_figure(ratios), "< 1 for every seed", max(ratios) < 1),
        "rankme": _aimed(mean_figure(ranks), "> untrained for every seed", min(ranks) > max(columns["random_rankme"])),
        "random_rankme": mean_figure(columns["random_rankme"]),
        "seconds": mean_figure(columns["seconds"]),
    }


def _aimed(figure: dict, target: str, met: bool) -> dict:
    return {**figure, "target": target, "met": met}
