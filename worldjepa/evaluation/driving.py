"""How well a model of a street foresees what will be seen, beside the guess that nobody moves."""

from __future__ import annotations

from html import escape

import numpy as np
import torch
from torch import Tensor

from worldjepa.evaluation import charts
from worldjepa.evaluation.bev import MISSED, RIGHT, WRONG, iou, painted
from worldjepa.evaluation.page import section
from worldjepa.systems.bev_world import BevWorld, imagine, nobody_moves
from worldjepa.types import Segment

RETURNS_FILE, DRIVE_FIGURES = "returns.json", "drive_figures.npz"
BARE = (30, 30, 30)
SURE = 0.5
"""Chance from which on a cell is said to be taken."""
ROWS = {
    "before": "now, seen from above: what stands on the road",
    "said": "later: green where something was rightly said to be, red wrongly, blue where it was not said",
    "still": "the same, had nobody moved",
}


@torch.no_grad()
def measure_driving(model: BevWorld, segment: Segment, batch_size: int = 8) -> dict[str, float]:
    """Over all cells that were in view before, of clips of T frames of which the last T - 2 are predicted.

    Returns:
        ``latent_ratio``: squared error of predicted latents over that of the last latents seen, moved by our own
        motion alone; ``obstacle_iou`` of the last frame's taken cells, and ``still_obstacle_iou`` of that guess;
        ``moved_iou``: of the cells that this guess does not name; ``speed_error``, m/s, and ``steer_error``, rad, mean,
        of the answer to an action.
    """
    device = next(model.parameters()).device
    ours = still = 0.0
    cells: list[tuple[Tensor, ...]] = []
    answers = []
    for start in range(0, len(segment.state), batch_size):
        some = segment.map(lambda x, start=start: x[start : start + batch_size]).to(device)
        found = imagine(model, some)
        still_latent, still_logits = nobody_moves(model, found)
        known = found.known
        ours += float((found.latent - found.wanted).square().mean(2)[known].sum())
        still += float((still_latent - found.wanted).square().mean(2)[known].sum())
        last = (_said(found.logits), _said(still_logits), found.obstacles[:, -1])
        cells.append(tuple(x[known[:, -1]].cpu() for x in last))
        felt = some.observation["proprioception"].float()
        answers.append((model.response(felt[:, :-1], some.action) - felt[:, 1:]).abs().flatten(0, 1).cpu())
    said, guess, truth = (torch.cat(parts) for parts in zip(*cells, strict=True))
    error = torch.cat(answers).mean(0)
    return {
        "latent_ratio": ours / max(still, 1e-9),
        "obstacle_iou": iou(said, truth),
        "still_obstacle_iou": iou(guess, truth),
        "moved_iou": iou(said & ~guess, truth & ~guess),
        "speed_error": float(error[0]),
        "steer_error": float(error[1]),
    }


def _said(logits: Tensor) -> Tensor:
    """(B,K,Y,X) -> bool (B,Y,X), of the last frame."""
    return logits[:, -1].sigmoid() > SURE


@torch.no_grad()
def drive_pictures(model: BevWorld, segment: Segment) -> dict[str, np.ndarray]:
    """Of each clip uint8 (B,X,Y,3), ahead is up, see ``ROWS``."""
    found = imagine(model, segment)
    now, truth, known = found.standing[:, 1], found.obstacles[:, -1], found.known[:, -1]
    pictures = {"before": painted(((~now, BARE), (now, (235, 235, 235))))}
    for name, logits in (("said", found.logits), ("still", nobody_moves(model, found)[1])):
        said = _said(logits)
        pictures[name] = painted(
            (
                (known & ~said & ~truth, BARE),
                (~known, (70, 70, 70)),
                (known & said & truth, RIGHT),
                (known & said & ~truth, WRONG),
                (known & ~said & truth, MISSED),
            )
        )
    return pictures


def drives_section(table: dict, pictures: dict[str, np.ndarray]) -> str:
    """HTML of the section about ``returns.json``; empty where nothing was judged."""
    if not table:
        return ""
    outcomes = list(next(iter(table["policies"].values()))["outcomes"])
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", "return", *outcomes))
    rows = ""
    for name, row in table["policies"].items():
        cells = "".join(f"<td>{_interval(found)}</td>" for found in (row["return"], *row["outcomes"].values()))
        ours = " class=ours" if name == "planner" else ""
        rows += f'<tr{ours}><th scope="row">{escape(name)}</th>{cells}</tr>'
    strips = charts.strips(pictures, ROWS, enlarged=4)
    return section(
        "How it drives",
        f"{table['n']} streets that nobody learned from, at most {table['steps']} steps each; means with 95 % "
        "intervals. The blind driver follows the route and looks at nothing, the expert sees the true state.",
        f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div><div class="rollout">{strips}</div>',
    )


def _interval(found: dict) -> str:
    low, high = found["ci95"]
    return f"{found['mean']:.3g}" + ("" if low is None else f"<small>{low:.3g} to {high:.3g}</small>")
