"""Training terms of AD-L-JEPA over the cells of a bird's-eye view; latents there have length 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldjepa.types import BevPrediction


class CellPrediction(nn.Module):
    """1 - cosine between prediction and target at hidden cells: share of those with points, the rest of those without.

    Args:
        occupied_share: 0.75 as published; the mean over each kind of cell is taken first.

    Raises:
        ValueError: no such share.
    """

    def __init__(self, occupied_share: float = 0.75):
        super().__init__()
        if not 0 <= occupied_share <= 1:
            raise ValueError(f"occupied_share must be in [0, 1], got {occupied_share}")
        self.occupied_share = occupied_share

    def forward(self, bev: BevPrediction, generator: torch.Generator | None = None) -> Tensor:
        apart = 1 - (bev.prediction * bev.target).sum(1)
        occupied, empty = (_mean(apart, bev.hidden & kind) for kind in (bev.occupied, ~bev.occupied))
        return self.occupied_share * occupied + (1 - self.occupied_share) * empty


class CellSpread(nn.Module):
    """Hinges on how much a channel varies from cell to cell of one sweep: of visible latents, and of predictions.

    mean_c max(0, 1/sqrt(D) - sqrt(var_c + 1e-4)) over cells with points; 1/sqrt(D) is the spread of vectors of length 1
    that point everywhere alike.
    """

    def forward(self, bev: BevPrediction, generator: torch.Generator | None = None) -> Tensor:
        return _hinge(bev.context, bev.occupied & ~bev.hidden) + _hinge(bev.prediction, bev.occupied & bev.hidden)


def _mean(x: Tensor, where: Tensor) -> Tensor:
    """Of ``x`` (B,Y,X) at the cells ``where``; 0 if there are none."""
    return (x * where).sum() / where.sum().clamp_min(1)


def _hinge(latent: Tensor, where: Tensor) -> Tensor:
    """Of (B,D,Y,X) over the cells ``where`` (B,Y,X) of each sample; those with fewer than two have no spread to ask."""
    count = where.sum((1, 2)).clamp_min(1)[:, None]
    kept = where[:, None]
    mean = (latent * kept).sum((2, 3)) / count
    square = ((latent - mean[..., None, None]).square() * kept).sum((2, 3))
    spread = (square / (count - 1).clamp_min(1) + 1e-4).sqrt()
    asked = where.sum((1, 2)) > 1
    hinge = (latent.shape[1] ** -0.5 - spread).clamp_min(0).mean(1)
    return (hinge * asked).sum() / asked.sum().clamp_min(1)
