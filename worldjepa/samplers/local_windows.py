"""Most of a small window is predicted from the rest of that window alone."""

from __future__ import annotations

import torch
from einops import rearrange

from worldjepa.samplers.masks import Masks
from worldjepa.targets import Target
from worldjepa.types import TokenSet


class LocalWindows:
    """SAR-JEPA's masks (arXiv:2311.15153, after LoMaR, arXiv:2206.00790): small targets need no far context.

    Deviation: the reference draws one set of windows per batch, no two in the same row or column; here every sample
    has its own, and they may overlap.

    Args:
        num_windows: windows per sample; each is a row of the masks of its own, R = num_windows * B.
        size: side of a window, in tokens.
        hidden_share: of a window's tokens, rounded down.

    Raises:
        ValueError: windows of which all is hidden, or nothing.
    """

    def __init__(self, num_windows: int = 4, size: int = 7, hidden_share: float = 0.8):
        self.num_windows, self.size = num_windows, size
        self.num_hidden = int(hidden_share * size**2)
        if num_windows < 1 or not 0 < self.num_hidden < size**2:
            raise ValueError(
                "expected num_windows >= 1 and a hidden_share that hides some tokens of a window and leaves some, got "
                f"num_windows={num_windows} and hidden_share={hidden_share} of size={size} squared"
            )

    def __call__(
        self, tokens: TokenSet, generator: torch.Generator, progress: float = 0.0, target: Target | None = None
    ) -> Masks:
        """Draws for tokens with shared coordinates (P,2) that fill a grid of rows and columns from 0.

        Returns:
            context (num_windows * B,P), the windows of a sample next to each other, and one target per row.

        Raises:
            ValueError: pictures smaller than a window, or tokens that are no whole grid.
        """
        place, free = tokens.coords.cpu(), ~tokens.pinned.cpu()
        if place.dim() != 2 or place.shape[1] != 2 or not bool(tokens.valid.all()):
            raise ValueError(
                f"LocalWindows needs shared coords (P,2) of rows and columns and no padding, got {tuple(place.shape)}"
            )
        grid = place[free].amax(0) + 1
        if grid.min() < self.size:
            rows, columns = grid.long().tolist()
            raise ValueError(f"windows of size {self.size} do not fit {rows} x {columns} tokens; lower size")
        shape = len(tokens.values), self.num_windows
        first = torch.rand(*shape, 1, 2, generator=generator, device=generator.device).cpu()
        first = (first * (grid - self.size + 1)).floor()
        inside = ((place >= first) & (place < first + self.size)).all(-1) & free
        order = torch.rand(*shape, len(place), generator=generator, device=generator.device, dtype=torch.float64).cpu()
        last = order.masked_fill(~inside, 2.0).kthvalue(self.num_hidden, dim=-1, keepdim=True).values
        hidden = inside & (order <= last)
        context = rearrange(inside & ~hidden | ~free, "b w p -> (b w) p")
        device = tokens.values.device
        return Masks(context.to(device), rearrange(hidden, "b w p -> (b w) 1 p").to(device))
