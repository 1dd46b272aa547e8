"""What latents of a LiDAR's bird's-eye view know (AD-L-JEPA): where hidden things are, and what stands in a cell.

Everything is measured on held-out episodes, with the model frozen and in eval mode. Cells are labelled by what their
points have hit, which the world knows (:class:`ScanWorld`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from worldjepa.samplers.cells import CellMask
from worldjepa.systems.ad_l_jepa import EMPTY, BevModel
from worldjepa.types import Segment
from worldjepa.voxels import VoxelGrid, bev_occupied, bev_shape, voxelize

SCANS_FILE, SCANS_FIGURES = "scans.json", "scan_figures.npz"
CLASSES = ("free", "other", "car")
"""Of cells with points: only ground, something that stands on it, a car (which wins where both are)."""
Colour = tuple[int, int, int]
RIGHT, WRONG, MISSED = (70, 190, 90), (220, 60, 50), (60, 110, 230)
"""What was rightly said to be there, what was wrongly, and what was not said."""
NUM_FITTED_CELLS = 30_000
"""Cells that a probe is fitted on, at most; more of them change little."""
MOST_DRAWS = 10
"""Of the sweeps that have labels, where these are few; what probes of them score is averaged."""
IN_USE = 0.1
"""A channel that varies by less than this, in units of 1/sqrt(D), says nothing."""


class ScanWorld(Protocol):
    """What an environment with a LiDAR tells, beside :class:`worldjepa.types.GoalEnv`."""

    class_names: tuple[str, ...]  # of what rays meet, the ground first

    def hits(self, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """State (S,) -> int (beams,azimuths) what each ray meets, -1 for the ground and for nothing; and its class."""


@torch.no_grad()
def measure_occupancy(
    model: BevModel, segment: Segment, sampler: CellMask | None = None, seed: int = 0, batch_size: int = 8
) -> dict[str, float]:
    """How well it is known which hidden cells hold points: IoU of those that do, and of those that do not.

    Returns:
        ``iou_occupied`` and ``iou_empty`` of the model; ``neighbour_iou_occupied`` and ``neighbour_iou_empty`` of a
        cell taken for full where more than a share of its visible neighbours are (of nine shares the best for it is
        taken, on these very cells); ``occupied_share`` of the hidden cells, which is the IoU of calling all of them
        full; ``spread``: standard deviation of the latents over cells with points, in units of 1/sqrt(D), 0..1, 0 where
        no cell has any; and ``channels_in_use``: the share of channels that vary by more than ``IN_USE``.
    """
    generator, sampler = torch.Generator().manual_seed(seed), sampler or CellMask()
    ours, truths, shares, seen = [], [], [], []
    for some in _batches(segment, batch_size):
        voxels = model.voxels(some.observation)
        occupied = bev_occupied(voxels, model.encoder.stride)
        hidden = sampler(occupied, generator)
        context, prediction = model.predict(voxels, hidden)
        ours.append((model.emptiness(prediction) <= EMPTY)[hidden].cpu())
        truths.append(occupied[hidden].cpu())
        shares.append(neighbour_share(occupied, hidden)[hidden].cpu())
        seen.append(context.movedim(1, -1)[occupied & ~hidden].cpu())
    latents = torch.cat(seen)
    spread = latents.std(0, correction=0) * latents.shape[1] ** 0.5 if len(latents) else torch.zeros(1)
    said, truth, share = (torch.cat(parts) for parts in (ours, truths, shares))
    fills = [share > threshold / 10 for threshold in range(1, 10)]
    best = max(fills, key=lambda fill: iou(fill, truth))
    return {
        "iou_occupied": iou(said, truth),
        "iou_empty": iou(~said, ~truth),
        "neighbour_iou_occupied": iou(best, truth),
        "neighbour_iou_empty": iou(~best, ~truth),
        "occupied_share": float(truth.float().mean()),
        "spread": float(spread.square().mean().sqrt()),
        "channels_in_use": float((spread > IN_USE).float().mean()),
    }


def neighbour_share(occupied: Tensor, hidden: Tensor) -> Tensor:
    """(B,Y,X): of the visible cells among the 8 around each cell, the share with points; 0 where none is visible."""
    around = torch.ones(1, 1, 3, 3, device=occupied.device)
    around[..., 1, 1] = 0
    visible, full = ((x[:, None]).float() for x in (~hidden, occupied & ~hidden))
    counts = F.conv2d(visible, around, padding=1)
    return (F.conv2d(full, around, padding=1) / counts.clamp_min(1))[:, 0]


def iou(said: Tensor, truth: Tensor) -> float:
    """Intersection over union of two sets, given as bool tensors of one shape; 1 if both are empty."""
    union = (said | truth).sum()
    return float((said & truth).sum() / union) if union else 1.0


def cell_labels(points: Tensor, classes: Tensor, grid: VoxelGrid, stride: int) -> Tensor:
    """int64 (Y,X) index into ``CLASSES`` of one cloud's cells, -1 where there are no points.

    Args:
        points: (N,4).
        classes: int64 (N,) index into ``CLASSES`` of each point.
    """
    height, width = bev_shape(grid.shape, stride)
    place = ((points[:, :3].double() - points.new_tensor(grid.low).double()) / points.new_tensor(grid.size)).floor()
    x, y, z = place.long().unbind(1)
    inside = (
        (x >= 0) & (x < grid.shape[2]) & (y >= 0) & (y < grid.shape[1]) & (z >= 0) & (z < grid.shape[0])
    )  # the cells that the encoder sees full
    cell = (y // stride * width + x // stride)[inside]
    labels = torch.full((height * width,), -1).scatter_reduce(0, cell, classes[inside], "amax")
    return labels.view(height, width)


@torch.no_grad()
def labelled_cells(
    model: BevModel, world: ScanWorld, segment: Segment, batch_size: int = 8
) -> tuple[Tensor, Tensor, Tensor]:
    """Latents of all cells with points: float32 (M,D), their labels int64 (M,), and each one's sweep int64 (M,)."""
    latents, labels, sweeps = [], [], []
    done, car = 0, world.class_names.index("car")
    for some in _batches(segment, batch_size):
        bev = model.encode(some.observation).flatten(0, 1).movedim(1, -1).cpu()
        states = some.state.flatten(0, 1).double().numpy()
        sweep = some.observation["sweep"].flatten(0, 1)
        for latent, state, one in zip(bev, states, sweep, strict=True):
            classes = torch.from_numpy(world.hits(state)[1])[one[..., 0] > 0]
            classes = torch.where(classes == car, 2, (classes > 0).long())
            label = cell_labels(model.sensor.points(one), classes, model.encoder.grid, model.encoder.stride)
            latents.append(latent[label >= 0])
            labels.append(label[label >= 0])
            sweeps.append(torch.full((len(labels[-1]),), done))
            done += 1
    return torch.cat(latents), torch.cat(labels), torch.cat(sweeps)


Cells = tuple[Tensor, Tensor, Tensor]
"""See :func:`labelled_cells`."""


def probe_cells(train: Cells, held_out: Cells, share: float, seed: int = 0) -> float:
    """Mean IoU over ``CLASSES`` of a linear probe fitted on the cells of a share of the sweeps.

    Logistic regression with balanced classes on standardised latents.

    Args:
        share: of the sweeps that are labelled, 0..1; at least one is.
        seed: of the choice of them.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    latents, labels, sweeps = train
    rng = np.random.default_rng(seed)
    every = np.unique(sweeps.numpy())
    chosen = rng.choice(every, max(1, round(share * len(every))), replace=False)
    used = np.flatnonzero(np.isin(sweeps.numpy(), chosen))
    if len(used) > NUM_FITTED_CELLS:
        used = rng.choice(used, NUM_FITTED_CELLS, replace=False)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, class_weight="balanced"))
    probe.fit(latents[used].numpy(), labels[used].numpy())
    said = torch.from_numpy(probe.predict(held_out[0].numpy()))
    return float(np.mean([iou(said == kind, held_out[1] == kind) for kind in range(len(CLASSES))]))


@torch.no_grad()
def measure_cells(
    model: BevModel, world: ScanWorld, train: Segment, held_out: Segment, shares: Sequence[float], seed: int = 0
) -> dict[str, float]:
    """``miou_<share>``: what a linear probe of the frozen latents knows of cells, see :func:`probe_cells`.

    Where few sweeps are labelled, it is the mean over some draws of them: one such choice is better than another.
    """
    cells = labelled_cells(model, world, train), labelled_cells(model, world, held_out)
    return {
        f"miou_{share:g}": float(
            np.mean([probe_cells(*cells, share, 1000 * seed + draw) for draw in range(num_draws(share))])
        )
        for share in shares
    }


def num_draws(share: float) -> int:
    """How many times sweeps with labels are drawn: 10 for 1 % of them, 3 for 10 %, 1 for all."""
    return min(MOST_DRAWS, max(1, round(0.3 / share)))


@torch.no_grad()
def warm_norms(model: BevModel, segment: Segment, batch_size: int = 2) -> None:
    """Shows a new model's BatchNorms what sweeps look like, nothing else is changed; leaves it in eval mode."""
    model.train()
    generator = torch.Generator().manual_seed(0)
    for some in _batches(segment, batch_size):
        voxels = model.voxels(some.observation)
        model.encoder(voxels)
        model.predict(voxels, CellMask()(bev_occupied(voxels, model.encoder.stride), generator))
    model.eval()


def _batches(segment: Segment, size: int) -> Iterator[Segment]:
    for start in range(0, len(segment.state), size):
        yield segment.map(lambda x, start=start: x[start : start + size])


def bev_pictures(model: BevModel, clouds: Sequence[Tensor], seed: int = 0) -> dict[str, np.ndarray]:
    """Seen from above, each uint8 (B,Y,X,3), x ahead pointing up: what is there, and what was said of hidden cells.

    ``points``: cells by their highest point, brighter is higher. ``hidden``: visible cells white where there are points
    and dark grey where not, hidden ones green where points were rightly said, grey where rightly none, red where they
    were said and are not there, blue where they are and were not said.
    """
    grid, stride = model.encoder.grid, model.encoder.stride
    voxels = voxelize(clouds, grid)
    occupied = bev_occupied(voxels, stride)
    hidden = CellMask()(occupied, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        said = model.emptiness(model.predict(voxels, hidden)[1]) <= EMPTY
    height, width = occupied.shape[1:]
    sample, z, y, x = voxels.coords.unbind(1)
    top = torch.zeros(len(clouds) * height * width).scatter_reduce(
        0, (sample * height + y // stride) * width + x // stride, (z + 1) / grid.shape[0], "amax"
    )
    bright = (top.view(-1, height, width, 1).expand(-1, -1, -1, 3) * 255).to(torch.uint8)
    drawn = painted(
        (
            (~hidden & occupied, (255, 255, 255)),
            (~hidden & ~occupied, (40, 40, 40)),
            (hidden & occupied & said, RIGHT),
            (hidden & ~occupied & ~said, (110, 110, 110)),
            (hidden & ~occupied & said, WRONG),
            (hidden & occupied & ~said, MISSED),
        )
    )
    return {"points": _ahead_up(bright), "hidden": drawn}


def painted(layers: Sequence[tuple[Tensor, Colour]]) -> np.ndarray:
    """Cells, each bool (B,Y,X), in their colours, ahead is up: uint8 (B,X,Y,3); later ones lie over earlier ones."""
    drawn = torch.zeros(*layers[0][0].shape, 3, dtype=torch.uint8)
    for where, colour in layers:
        drawn[where] = torch.tensor(colour, dtype=torch.uint8)
    return _ahead_up(drawn)


def _ahead_up(cells: Tensor) -> np.ndarray:
    """(B,Y,X,3) -> (B,X,Y,3): a picture's rows go down and its columns right; y to the left is left."""
    return cells.transpose(1, 2).flip(1, 2).numpy()


def as_segment(clouds: Sequence[Tensor]) -> Segment:
    """Clouds (N_i,4) by themselves, one a clip, as an observation ``points``."""
    longest = max(map(len, clouds))
    points = torch.stack([F.pad(cloud, (0, 0, 0, longest - len(cloud)), value=torch.nan) for cloud in clouds])
    nothing = torch.zeros(len(clouds), 1, 1)
    return Segment({"points": points[:, None]}, nothing[:, :0], nothing)
