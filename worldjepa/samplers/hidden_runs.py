"""Long runs of a sequence are predicted from the little that is left between them."""

from __future__ import annotations

import torch
from torch import Tensor

from worldjepa.samplers.masks import Masks, Range, share_range
from worldjepa.targets import Target
from worldjepa.types import TokenSet


class HiddenRuns:
    """ECG-JEPA's masks (arXiv:2410.13867 and its code): most of a sequence is hidden, in blocks of at least 10 tokens.

    The share to keep is drawn evenly, and blocks are drawn until the rest is hidden: each of any size from the shortest
    to all that is left to hide, the last with what is too little for one more. What lies between them is seen, in runs
    of any length; so a few long gaps must be bridged, not many short ones filled in.

    Deviations: every sample draws a share of its own, where the reference draws one per batch. Blocks are put into the
    sequence at random places among the tokens kept, all at once; the reference places one after the other, in a
    part of the sequence that is drawn by its length.

    Args:
        keep: range of the share of tokens that are seen; counts are rounded up.
        shortest: fewest tokens in a row that are hidden; neighbouring blocks make longer ones.

    Raises:
        ValueError: no such shares, or a size below 1.
    """

    def __init__(self, keep: Range = (0.15, 0.25), shortest: int = 10):
        if shortest < 1:
            raise ValueError(f"shortest must be >= 1, got {shortest}")
        self.keep, self.shortest = share_range("keep", keep, whole=False), shortest

    def __call__(
        self, tokens: TokenSet, generator: torch.Generator, progress: float = 0.0, target: Target | None = None
    ) -> Masks:
        """Draws for tokens that are in their order, coordinates (P,1) or (B,P,1); padding is passed over.

        Raises:
            ValueError: tokens that are no sequence, or too few to hide ``shortest`` of them.
        """
        if tokens.coords.shape[-1] != 1:
            raise ValueError(f"HiddenRuns needs tokens of one coordinate, got {tokens.coords.shape[-1]} of them")
        free = tokens.valid.cpu() & ~tokens.pinned.cpu()
        total = free.sum(1)
        low, high = self.keep
        share = low + (high - low) * torch.rand(len(free), generator=generator)
        num_kept = (share * total).ceil().long()
        fewest = int((total - (high * total).ceil()).min())
        if fewest < self.shortest:
            raise ValueError(
                f"of {int(total.min())} tokens only {fewest} are surely hidden, fewer than shortest ({self.shortest}); "
                "take longer recordings or shorter windows, or lower shortest or keep"
            )
        seen = self._seen(num_kept, total - num_kept, generator)
        # The sequence is that of the sample's own tokens; pinned ones and padding have no place in it.
        rank = (free.cumsum(1) - 1).clamp(0, seen.shape[1] - 1)
        context = seen.gather(1, rank) & free
        device = tokens.values.device
        return Masks((context | tokens.pinned.cpu()).to(device), (free & ~context)[:, None].to(device))

    def _seen(self, num_kept: Tensor, num_hidden: Tensor, generator: torch.Generator) -> Tensor:
        """bool (B,N): of sequences of kept + hidden tokens, which are kept."""
        batch = len(num_kept)
        number = torch.arange(int(num_kept.max()))[None]  # of the tokens kept
        place = number.repeat(batch, 1)
        left = num_hidden.clone()
        while left.any():
            drawn = torch.rand(batch, 2, generator=generator)
            # Blocks of shortest .. left; where then less than one more block is left, it comes with this one.
            size = self.shortest + (drawn[:, 0] * (left - self.shortest + 1).clamp_min(1)).long()
            size = torch.where(left - size < self.shortest, left, size)
            before = (drawn[:, 1] * (num_kept + 1)).long()  # tokens kept that lie before this block
            place += size[:, None] * (number >= before[:, None])
            left -= size
        seen = torch.zeros(batch, int((num_kept + num_hidden).max()) + 1, dtype=torch.bool)
        seen.scatter_(1, place.where(number < num_kept[:, None], torch.tensor(seen.shape[1] - 1)), True)
        return seen[:, :-1]
