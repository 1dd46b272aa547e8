"""What the report shows of a run that learned motion and content.

Made from ``motion.json`` (see :mod:`worldjepa.evaluation.motion`) and ``motion_figures.npz``, which holds pictures
uint8 (n,height,width,3): ``first``, ``second``, ``warped``, ``flow`` and, where the world knows it, ``true_flow``.
"""

from __future__ import annotations

from html import escape

import numpy as np

from worldjepa.evaluation import charts
from worldjepa.evaluation.page import section

ROWS = {
    "first": "first picture",
    "warped": "second, moved back",
    "second": "second picture",
    "flow": "flow found",
    "true_flow": "true flow",
}
FLOWS = {
    "epe": "this model",
    "epe_visible": "this model, where nothing is covered",
    "epe_hidden": "this model, where something is",
    "epe_dis": "OpenCV's DIS",
    "epe_farneback": "OpenCV's Farneback",
    "epe_translation": "the best shift of the whole picture",
    "epe_zero": "no motion",
}
OUTLIERS = {"f1_all": "share of pixels that are more than 3 px and more than 5 % off (F1-all)"}
RECORDED = {f"recorded_{name}": f"recorded pairs: {label}" for name, label in FLOWS.items()}
CONTENT = {
    "accuracy": "share of classes that a linear probe recognises",
    "chance": "always the commonest class",
    "j_and_f": "J&F of masks that its features carry through videos",
    "still_j_and_f": "J&F of masks that stay where they were",
    "rankme": "RankMe of the pooled features",
    "warp_error": "grey levels between the second picture, moved back, and the first",
    "still_error": "grey levels between the two pictures as they are",
}


def motion_section(measured: dict[str, float], pictures: dict[str, np.ndarray]) -> str:
    """HTML of the section; empty where nothing was measured."""
    if not measured:
        return ""
    strips = charts.strips(pictures, ROWS)
    return section(
        "How things move, and what they are",
        "Flow says where each pixel of a picture has gone in the next one: the colour is the direction, white is no "
        "motion. Errors are mean distances from the truth, in px (EPE), over pairs of held-out frames. Content is read "
        "off features pooled over a picture by a probe that is fitted afterwards.",
        f'<div class="rollout">{strips}</div>'
        + _table(FLOWS | RECORDED, measured, "px")
        + _table(OUTLIERS | CONTENT, measured, ""),
    )


def _table(rows: dict[str, str], measured: dict[str, float], unit: str) -> str:
    lines = "".join(
        f'<tr{" class=ours" if name == "epe" else ""}><th scope="row">{escape(label)}</th>'
        f"<td>{measured[name]:.3g} {unit}</td></tr>"
        for name, label in rows.items()
        if name in measured
    )
    return f'<div class="wide"><table>{lines}</table></div>' if lines else ""
