"""What the report shows of a run that learned from a LiDAR's scans.

Made from ``scans.json`` and ``scan_figures.npz``, see :mod:`worldjepa.evaluation.bev`.
"""

from __future__ import annotations

from html import escape

import numpy as np

from worldjepa.evaluation import charts
from worldjepa.evaluation.page import section

ROWS = {
    "points": "what was scanned, seen from above (brighter is higher)",
    "hidden": "half of the cells hidden; of those, green: rightly full, grey: rightly empty, red and blue: wrong",
}
OCCUPANCY = {
    "": "this model",
    "untrained_": "the same network, untrained",
    "neighbour_": "as most of the visible neighbours are",
}


def scans_section(measured: dict[str, float], pictures: dict[str, np.ndarray]) -> str:
    """HTML of the section; empty where nothing was measured."""
    if not measured:
        return ""
    strips = charts.strips(pictures, ROWS, enlarged=4)
    rows = "".join(
        f'<tr{" class=ours" if not prefix else ""}><th scope="row">{escape(label)}</th>'
        f"<td>{measured[f'{prefix}iou_occupied']:.3g}</td><td>{measured[f'{prefix}iou_empty']:.3g}</td></tr>"
        for prefix, label in OCCUPANCY.items()
    )
    rows += f'<tr><th scope="row">all full</th><td>{measured["occupied_share"]:.3g}</td><td>0</td></tr>'
    rows += (
        f'<tr><th scope="row">channels of the latents in use (untrained)</th><td>{measured["channels_in_use"]:.0%}</td>'
        f"<td>({measured['untrained_channels_in_use']:.0%})</td></tr>"
    )
    shares = [name.removeprefix("miou_") for name in measured if name.startswith("miou_")]
    probes = "".join(
        f'<tr><th scope="row">{float(share):.0%} of the scans labelled</th><td>{measured[f"miou_{share}"]:.3g}</td>'
        f"<td>{measured[f'untrained_miou_{share}']:.3g}</td></tr>"
        for share in shares
    )
    if "ap" in measured:
        probes += (
            '<tr><th scope="row">average precision of cars, fine-tuned and from scratch (BEV IoU 0.5)</th>'
            f"<td>{measured['ap']:.3g}</td><td>{measured['untrained_ap']:.3g}</td></tr>"
        )
    return section(
        "What is where",
        "Cells of the bird's-eye view on held-out streets. Intersection over union of the hidden cells with points, "
        "and of those without; then of what stands in a cell (free, other, car), by a linear probe of frozen latents.",
        f'<div class="rollout">{strips}</div>'
        '<div class="wide"><table><tr><th></th><th>with points</th><th>without</th></tr>'
        f"{rows}</table></div>"
        '<div class="wide"><table><tr><th></th><th>this model</th><th>untrained</th></tr>'
        f"{probes}</table></div>",
    ) + _folder_section(measured, pictures)


def _folder_section(measured: dict[str, float], pictures: dict[str, np.ndarray]) -> str:
    """Of clouds of the user's own; empty where there were none."""
    if "folder_voxels" not in measured:
        return ""
    strips = charts.strips(pictures, {f"folder_{name}": label for name, label in ROWS.items()}, enlarged=4)
    return section(
        "Clouds from elsewhere",
        "Files that the model has never learned from, of another sensor and another world: what it says of hidden "
        f"cells there (IoU {measured['folder_iou_occupied']:.3g} with points and {measured['folder_iou_empty']:.3g} "
        f"without; filling from neighbours {measured['folder_neighbour_iou_occupied']:.3g} and "
        f"{measured['folder_neighbour_iou_empty']:.3g}; {measured['folder_occupied_share']:.0%} of them have points). "
        f"{measured['folder_voxels']:,.0f} voxels in a cloud on average.",
        f'<div class="rollout">{strips}</div>',
    )
