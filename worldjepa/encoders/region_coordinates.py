"""Where a token of a brain region is: among the regions by their connections, and in time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldjepa.layers import sincos_embedding


class RegionCoordinates(nn.Module):
    """Coordinates (region, piece of time) -> (...,D): Brain-JEPA's brain gradient positioning (arXiv:2409.19407).

    The first half are sines and cosines of the time; the second is a learned linear map of the region's row of a fixed
    table, all regions' scaled together to [-1, 1] as in the public code.

    Args:
        width: D, even.
        table: float32 (R,k), R and k > 1: the regions' coordinates, such as diffusion-map gradients of their
            connectivity; see :func:`worldjepa.datasets.brain_rois.gradient_table`. The weights keep it.

    Raises:
        ValueError: an odd width, or another table.
    """

    def __init__(self, width: int, table: Tensor):
        super().__init__()
        if width % 4:
            raise ValueError(f"width must be a multiple of 4: half for time, in sines and cosines, got {width}")
        if table.dim() != 2 or min(table.shape) < 2 or not torch.isfinite(table).all():
            raise ValueError(f"table must be finite, (regions, gradients), 2 or more each, got {tuple(table.shape)}")
        self.width = width
        self.register_buffer("table", table.float())
        self.map = nn.Linear(table.shape[1], width // 2)

    def forward(self, coords: Tensor) -> Tensor:
        """(...,2) -> (...,D); pinned tokens, at region -1, get zeros for a region."""
        places = self.map(self.table)
        low, high = places.min(), places.max()
        places = 2 * (places - low) / (high - low) - 1
        region = coords[..., 0].long()
        if int(region.max()) >= len(self.table):
            raise ValueError(f"the table has {len(self.table)} regions, got region {int(region.max())} (from 0)")
        place = places[region.clamp_min(0)] * (region >= 0)[..., None]
        return torch.cat([sincos_embedding(coords[..., 1:], self.width // 2), place], -1)
