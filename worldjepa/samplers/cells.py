"""Which cells of a bird's-eye view are hidden."""

from __future__ import annotations

import torch
from torch import Tensor

from worldjepa.tokens import some_of


class CellMask:
    """AD-L-JEPA's masks: of every sample, a share of its cells with points and a share of those without are hidden.

    Each kind on its own and each sample on its own, so that a sparse sweep hides as much of itself as a dense one.

    Args:
        occupied_share, empty_share: of the cells of each kind, in (0, 1).

    Raises:
        ValueError: no such share.
    """

    def __init__(self, occupied_share: float = 0.5, empty_share: float = 0.5):
        for name, share in {"occupied_share": occupied_share, "empty_share": empty_share}.items():
            if not 0 < share < 1:
                raise ValueError(f"{name} must be a share of the cells in (0, 1), got {share}")
        self.occupied_share, self.empty_share = occupied_share, empty_share

    def __call__(self, occupied: Tensor, generator: torch.Generator) -> Tensor:
        """bool (B,Y,X) of cells with points -> bool (B,Y,X) of hidden ones; shares are rounded to whole cells."""
        flat = occupied.flatten(1)
        chance = torch.rand(flat.shape, generator=generator).to(flat.device)
        hidden = torch.zeros_like(flat)
        for kind, share in ((flat, self.occupied_share), (~flat, self.empty_share)):
            hidden |= some_of(kind, (share * kind.sum(1)).round(), chance)
        return hidden.view_as(occupied)
