"""What is hidden is hidden in whole pictures: at some times, everywhere."""

from __future__ import annotations

import torch

from worldjepa.samplers.masks import Masks
from worldjepa.targets import Target
from worldjepa.types import TokenSet


class Temporal:
    """UI-JEPA's temporal masks (arXiv:2409.04081, section 3.3): whole times are predicted from those that are left.

    Used beside V-JEPA's blocks, see :class:`worldjepa.samplers.joined.Joined`. The paper's code is not public; how many
    times it hides, and that they need not follow each other, is known to us from a second-hand account.

    Args:
        share: of the times that are hidden, rounded, at least one and not all; the paper hides 6 of 8.
        contiguous: the hidden times follow each other; otherwise they lie anywhere, which the paper prefers.

    Raises:
        ValueError: a share outside of (0, 1).
    """

    def __init__(self, share: float = 0.75, contiguous: bool = False):
        if not 0 < share < 1:
            raise ValueError(f"share must be between 0 and 1, got {share}")
        self.share = share
        self.contiguous = contiguous

    def __call__(
        self, tokens: TokenSet, generator: torch.Generator, progress: float = 0.0, target: Target | None = None
    ) -> Masks:
        """Draws for tokens with shared coordinates (P,C), of which the first is the time.

        Raises:
            ValueError: coordinates that are not shared; a sample with fewer than two times.
        """
        if tokens.coords.dim() != 2:
            raise ValueError(
                f"Temporal needs shared coords (P,C) that begin with the time, got {tuple(tokens.coords.shape)}"
            )
        free, valid = ~tokens.pinned.cpu(), tokens.valid.cpu()
        _, time = tokens.coords[:, 0].cpu()[free].unique(return_inverse=True)
        there = torch.zeros(len(valid), int(time.max()) + 1).index_add_(1, time, valid[:, free].float()) > 0
        count = there.sum(1, keepdim=True)
        if (count < 2).any():
            raise ValueError(f"Temporal needs >= 2 times with tokens in every sample, got {int(count.min())}")
        num_hidden = (self.share * count).round().clamp(min=1).minimum(count - 1)
        drawn = torch.rand(there.shape, generator=generator, device=generator.device).cpu()
        if self.contiguous:
            first = (drawn[:, :1] * (count - num_hidden + 1)).floor()
            rank = there.cumsum(1) - 1 - first
        else:
            rank = drawn.masked_fill(~there, torch.inf).argsort(1).argsort(1)
        hidden = torch.zeros_like(valid)
        hidden[:, free] = (there & (rank >= 0) & (rank < num_hidden))[:, time] & valid[:, free]
        context = valid & ~hidden | ~free
        device = tokens.values.device
        return Masks(context.to(device), hidden[:, None].to(device))
