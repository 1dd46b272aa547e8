"""What the report shows of a run that learned from views of things: the two latents, and what each is good for.

Made from ``views.json`` (see :func:`worldjepa.evaluation.views.measure_views`) and ``view_figures.npz``, which holds
``neighbours/<latent>`` uint8 (Q,1+K,height,width,3): queries, each followed by the views nearest to it.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from worldjepa.evaluation import charts
from worldjepa.evaluation.page import figure, section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LATENTS = ("encoder", "aggregate")


def views_section(measured: dict[str, float], pictures: dict[str, np.ndarray]) -> str:
    """HTML of the section; empty where nothing was measured."""
    if "accuracy/encoder" not in measured:
        return ""
    lengths = _by_length(measured)
    drawn = [
        figure(
            charts.picture(_properties(measured), "class accuracy against R2 of relations, for both latents"),
            "Further right is better for recognising (invariance), further up for acting (equivariance).",
        )
    ]
    if lengths:
        drawn.append(
            figure(
                charts.picture(_growth(lengths, measured["accuracy/encoder"]), "class accuracy by number of views"),
                "Class accuracy of the aggregate by the number of views it has seen.",
            )
        )
    paths = {key: value for key, value in measured.items() if key.startswith("path/")}
    if paths:
        drawn.append(
            figure(
                charts.picture(_paths(paths), "R2 of the sum of two actions"),
                "Path integration: how the last of three views relates to the first, read off their aggregate.",
            )
        )
    strips = [
        f"<h3>Nearest views of other things, by the {escape(name)}</h3>"
        + "".join(charts.strip(row, f"a view and those nearest to it by the {escape(name)}") for row in rows)
        for name in LATENTS
        if (rows := pictures.get(f"neighbours/{name}")) is not None
    ]
    return section(
        "What its two latents are good for",
        "The encoder's latent of a view is to act on: it should tell how two views relate. The aggregate of several "
        "views is to recognise with: it should tell what the thing is. Probes are fitted on views of training things "
        "and scored on things never seen. In each row of pictures the first is the query.",
        f'<div class="grid">{"".join(drawn)}</div><div class="grid wider">'
        + "".join(f"<div>{strip}</div>" for strip in strips)
        + "</div>",
    )


def _by_length(measured: dict[str, float]) -> dict[int, float]:
    prefix = "accuracy/aggregate/"
    found = {int(key.removeprefix(prefix)): value for key, value in measured.items() if key.startswith(prefix)}
    return dict(sorted(found.items()))


def _properties(measured: dict[str, float]) -> Callable[[str], Figure]:
    """Accuracy against R2, a mark per relation and latent."""
    lengths = _by_length(measured)
    longest = max(lengths, default=0)
    accuracies = {"encoder": measured["accuracy/encoder"], "aggregate": lengths.get(longest)}
    names = {"encoder": "encoder", "aggregate": f"aggregate of {longest}"}
    lowest = min([-0.05, *(value for key, value in measured.items() if key.startswith("r2/"))])
    relations = sorted({key.removeprefix("r2/encoder/") for key in measured if key.startswith("r2/encoder/")})

    def draw(ink: str) -> Figure:
        drawing = charts.blank(4.2, 3.4)
        axes = drawing.subplots()
        for i, name in enumerate(LATENTS):
            for relation, marker in zip(relations, "osD^v<>" * len(relations), strict=False):
                value = measured.get(f"r2/{name}/{relation}")
                if value is None or accuracies[name] is None:
                    continue
                label = f"{names[name]}, {charts.plain(relation)}"
                axes.scatter(accuracies[name], value, s=46, marker=marker, color=charts.PALETTE[i], label=label)
        axes.set(xlabel="class accuracy", ylabel="R² of the relation of two views", xlim=(0, 1.02), ylim=(lowest, 1.02))
        axes.grid(True, linewidth=0.6)
        axes.legend(frameon=False, fontsize=7.5, labelcolor=ink, loc="upper left")
        return drawing

    return draw


def _growth(lengths: dict[int, float], encoder: float) -> Callable[[str], Figure]:
    def draw(ink: str) -> Figure:
        drawing = charts.blank(4.2, 3.4)
        axes = drawing.subplots()
        axes.plot(list(lengths), list(lengths.values()), marker="o", color=charts.PALETTE[1], label="aggregate")
        axes.axhline(encoder, color=charts.PALETTE[0], linestyle="--", linewidth=1.2, label="encoder, one view")
        axes.set(xlabel="views seen", ylabel="class accuracy", xticks=list(lengths))
        axes.grid(True, linewidth=0.6)
        axes.legend(frameon=False, fontsize=8, labelcolor=ink)
        return drawing

    return draw


def _paths(paths: dict[str, float]) -> Callable[[str], Figure]:
    """Bars per relation, one for everything that the aggregate was given."""
    given = list(dict.fromkeys(key.split("/")[1] for key in paths))
    relations = list(dict.fromkeys(key.split("/")[2] for key in paths))

    def draw(ink: str) -> Figure:
        drawing = charts.blank(4.2, 3.4)
        axes, width = drawing.subplots(), 0.8 / len(given)
        for i, name in enumerate(given):
            places = np.arange(len(relations)) + (i - (len(given) - 1) / 2) * width
            values = [paths[f"path/{name}/{relation}"] for relation in relations]
            axes.bar(places, values, 0.92 * width, color=charts.PALETTE[i], label=charts.plain(name))
        axes.set_xticks(range(len(relations)), [charts.plain(relation) for relation in relations])
        axes.set(ylabel="R²", ylim=(min(-0.02, *paths.values()), 1.02))
        axes.grid(True, axis="y", linewidth=0.6)
        axes.legend(frameon=False, fontsize=8, labelcolor=ink)
        return drawing

    return draw
