"""What the report shows of a run that learned from samples: probes, how many dimensions are in use, a map.

Made from ``samples.json`` (see :func:`worldjepa.evaluation.frozen.measure_samples`) and ``sample_figures.npz``:
``places`` float32 (N,2) and ``share`` (2,) of held-out features in their main directions, ``labels`` (N,), ``names``
(K,) of the classes, and ``eigenvalues`` and ``random_eigenvalues`` (F,).
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from worldjepa.evaluation import charts
from worldjepa.evaluation.frozen import COLLAPSED
from worldjepa.evaluation.page import figure, section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = {
    "probe": "the probe that counts",
    "linear": "a linear probe",
    "svm": "a linear support vector machine",
    "knn": "nearest neighbours",
    "rankme": "RankMe (compares runs of one method only)",
    "alpha_req": "decay of the covariance's spectrum (alpha-ReQ)",
}
MOST_CLASSES = 20
"""Of more, the map shows no colours."""


def samples_section(measured: dict[str, float], pictures: dict[str, np.ndarray]) -> str:
    """HTML of the section; empty where nothing was measured."""
    if "probe" not in measured:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(label)}</th><td>{measured[name]:.3g}</td>'
        f"<td>{measured[f'random_{name}']:.3g}</td></tr>"
        for name, label in ROWS.items()
        if name in measured
    )
    rows += f'<tr><th scope="row">the probe on the input itself</th><td>{measured["raw_probe"]:.3g}</td><td></td></tr>'
    if "finetuned" in measured:
        rows += (
            '<tr><th scope="row">learning on from labels, and the same from scratch</th>'
            f"<td>{measured['finetuned']:.3g}</td><td>{measured['scratch']:.3g}</td></tr>"
        )
    shown = (*ROWS, *(f"random_{name}" for name in ROWS), "raw_probe", "finetuned", "scratch")
    more = "".join(
        f'<tr><th scope="row">{escape(charts.plain(name))}</th><td>{value:.3g}</td><td></td></tr>'
        for name, value in measured.items()
        if name not in shown
    )
    alarm = ""
    if measured["rankme"] < COLLAPSED:
        alarm = '<p class="note"><strong>Collapsed: all samples have nearly the same features.</strong></p>'
    drawn = []
    if "eigenvalues" in pictures:
        drawn.append(
            figure(
                charts.picture(_spectrum(pictures), "eigenvalues of the features' covariance"),
                "Variance of the features along their directions: a line that drops early means few in use.",
            )
        )
        drawn.append(
            figure(
                charts.picture(_map(pictures), "held-out features in two directions"),
                "Held-out features in their two directions of most variance; labels were not seen while learning.",
            )
        )
    return section(
        "What its features are good for",
        "Probes read the labels off frozen features; accuracy, or R² of a quantity, on held-out samples.",
        '<div class="wide"><table><tr><th></th><th>this model</th><th>untrained</th></tr>'
        f'{rows}{more}</table></div>{alarm}<div class="grid">{"".join(drawn)}</div>',
    )


def _spectrum(pictures: dict[str, np.ndarray]) -> Callable[[str], Figure]:
    def draw(ink: str) -> Figure:
        drawing = charts.blank(4.1, 3.3)
        axes = drawing.subplots()
        for colour, (key, label) in zip(
            charts.PALETTE, {"eigenvalues": "this model", "random_eigenvalues": "untrained"}.items(), strict=False
        ):
            values = pictures[key]
            values = values[values > 1e-9 * values[0]]
            axes.loglog(np.arange(1, len(values) + 1), values, color=colour, linewidth=1.6, label=label)
        axes.set_xlabel("direction")
        axes.set_ylabel("variance")
        axes.grid(True, linewidth=0.6)
        axes.legend(frameon=False, fontsize=8, labelcolor=ink)
        return drawing

    return draw


def _map(pictures: dict[str, np.ndarray]) -> Callable[[str], Figure]:
    def draw(ink: str) -> Figure:
        drawing = charts.blank(4.1, 3.3)
        axes = drawing.subplots()
        places, share, labels = pictures["places"], pictures["share"], pictures["labels"]
        classes = [] if labels.dtype.kind == "f" else list(np.unique(labels))
        if not 0 < len(classes) <= MOST_CLASSES:
            axes.scatter(*places.T, s=6, c=labels, cmap="viridis", linewidths=0, alpha=0.8)
        for index, label in enumerate(classes[:MOST_CLASSES]):
            names = pictures["names"]
            name = str(names[label]) if label < len(names) else str(label)
            mine = places[labels == label]
            axes.scatter(*mine.T, s=6, color=f"C{index % 10}", linewidths=0, alpha=0.8, label=name)
        if len(classes) > 1:
            axes.legend(frameon=False, fontsize=6, labelcolor=ink, markerscale=2, ncols=1 + (len(classes) > 10))
        axes.set_xlabel(f"first direction ({share[0]:.0%} of variance)")
        axes.set_ylabel(f"second direction ({share[1]:.0%})")
        axes.grid(True, linewidth=0.6)
        return drawing

    return draw
