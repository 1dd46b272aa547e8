"""The static family: does each system's pre-training beat the same network at random initialisation?

Each seed draws a split (or the samples), the weights, the batches and the masks; both probes of a seed share all of
that, so that their difference is paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from worldjepa.datasets.recorded_sounds import find_fsdd
from worldjepa.evaluation.frozen import COLLAPSED, SAMPLES_FILE
from worldjepa.runs import machine
from worldjepa.studies.jobs import in_turns, pretrain_job, seconds_in_turns
from worldjepa.studies.record import figure, gain_figure, mean_figure, paired_figure, write_result

SEEDS = (0, 1, 2, 3, 4)
FOLDER = Path("runs") / "study-static"
SYSTEMS = (
    *("i_jepa", "v_jepa", "t_jepa", "brain_jepa", "3d_jepa", "point_jepa", "s_jepa", "ecg_jepa", "eeg_vjepa", "a_jepa"),
    *("sar_jepa", "ui_jepa", "ti_jepa", "dseq_jepa", "sparse_jepa", "lejepa_crops"),
)
"""Each with the data that its configuration names."""
TABLES = ("diabetes", "breast_cancer", "wine")
READERS = ("mlp_features", "random_mlp_features", "mlp_raw", "boosted_raw")
MOST_SECONDS = 600.0
"""Of one core beside another run; a run that has two cores to itself is quicker."""
OWN = {
    "point_jepa": {"point_jepa_solids_accuracy": ("probe", 0.9)},
    "i_jepa": {"image_digits_accuracy": ("probe", 0.95)},
    "lejepa_crops": {"lejepa_digits_accuracy": ("probe", 0.95)},
    "ti_jepa": {
        "ti_jepa_energy_auc": ("energy_auc", 0.9),
        "ti_jepa_energy_excess_auc": ("energy_excess_auc", None),
        "ti_jepa_energy_choice": ("energy_choice", None),
        "ti_jepa_picture_accuracy": ("probe_without_caption", None),
        "ti_jepa_random_picture_accuracy": ("random_probe_without_caption", None),
    },
    "ui_jepa": {
        "ui_jepa_intent_exact": ("intent_exact", None),
        "ui_jepa_random_intent_exact": ("random_intent_exact", None),
        "ui_jepa_commonest_intent_exact": ("commonest_intent_exact", None),
    },
}
"""Figures of their own: system -> name -> what was measured, and the least that is aimed at."""


def run(command: str) -> None:
    """Writes ``results/static.json``; runs that are there already are read back."""
    kinds = {name: (f"model={name}",) for name in SYSTEMS}
    kinds |= {f"t_jepa-{table}": ("model=t_jepa", f"data={table}") for table in TABLES[1:]}
    try:
        find_fsdd()
        kinds["a_jepa-fsdd"] = ("model=a_jepa", "data=fsdd", "pool=over_last")
    except ValueError as error:
        print(f"without spoken digits: {error}", flush=True)
    # The electrodes' places and the regions' gradients shuffled: what knowing them is worth.
    kinds["s_jepa-shuffled"] = ("model=s_jepa", "data=dipoles_shuffled")
    kinds["brain_jepa-shuffled"] = ("model=brain_jepa", "data.gradients.shuffle_seed=0")
    jobs = in_turns(
        {
            f"{name}-{seed}": partial(
                pretrain_job,
                FOLDER / f"{name}-{seed}",
                (*words, f"seed={seed}", "train.num_evaluations=0"),  # what is measured in the end is all that counts
                SAMPLES_FILE,
            )
            for name, words in kinds.items()
            for seed in SEEDS
        }
    )
    found = {name: [jobs[f"{name}-{seed}"] for seed in SEEDS] for name in kinds}
    figures: dict[str, Any] = {}
    for name in SYSTEMS:
        figures |= system_figures(name, found[name])
    beating = sum(bool(figures[f"{name}_gain_lower_bound"]["met"]) for name in SYSTEMS)
    figures["systems_beating_random"] = figure(beating, None, len(SYSTEMS), at_least=len(SYSTEMS))
    for name, own in OWN.items():
        for label, (key, least) in own.items():
            figures[label] = mean_figure([job[key] for job in found[name]], at_least=least)
    if "a_jepa-fsdd" in found:
        figures["a_jepa_fsdd_accuracy"] = mean_figure([job["probe"] for job in found["a_jepa-fsdd"]], at_least=0.9)
        figures["a_jepa_fsdd_random_accuracy"] = mean_figure([job["random_probe"] for job in found["a_jepa-fsdd"]])
    for table in TABLES:
        rows = found["t_jepa" if table == TABLES[0] else f"t_jepa-{table}"]
        scores = {reader: [job[reader] for job in rows] for reader in READERS}
        figures |= {f"t_jepa_{table}_{reader}": mean_figure(values) for reader, values in scores.items()}
        figures[f"t_jepa_{table}_over_boosted"] = paired_figure(scores["mlp_features"], scores["boosted_raw"])
    for name in ("s_jepa", "brain_jepa"):
        true, shuffled = ([job["probe"] for job in found[key]] for key in (name, f"{name}-shuffled"))
        figures[f"{name}_shuffled_probe"] = mean_figure(shuffled)
        figures[f"{name}_over_shuffled_bound"] = gain_figure(true, shuffled)
    once = seconds_in_turns({name: found[name][0] for name in SYSTEMS})
    figures["minutes_of_every_system_once"] = figure(once / 60, None, 1)
    figures["minutes"] = figure(seconds_in_turns(jobs) / 60, None, 1, at_most=90)
    write_result("static", command, machine(), SEEDS, figures)


def system_figures(name: str, jobs: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Of one system's seeds: probes of the trained and the untrained encoder and of the input itself, and the gain."""

    def column(key: str) -> list[float]:
        return [job[key] for job in jobs]

    figures = {
        f"{name}_probe": mean_figure(column("probe")),
        f"{name}_random_probe": mean_figure(column("random_probe")),
        f"{name}_raw_probe": mean_figure(column("raw_probe")),
        f"{name}_gain_lower_bound": gain_figure(column("probe"), column("random_probe")),
        f"{name}_rankme": mean_figure(column("rankme"), at_least=COLLAPSED),
        f"{name}_seconds": mean_figure(column("seconds"), at_most=MOST_SECONDS),
    }
    if "loss_over_mean_latent" in jobs[0]:
        figures[f"{name}_loss_over_mean_latent"] = mean_figure(column("loss_over_mean_latent"), at_most=1.0)
    return figures
