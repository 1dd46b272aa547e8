"""Random subsets of tokens without any order among them, such as columns of a table."""

from __future__ import annotations

import torch
from torch import Tensor

from worldjepa.samplers.masks import Masks, Range, check_counts, share_range
from worldjepa.targets import Target
from worldjepa.tokens import some_of
from worldjepa.types import TokenSet


class Subsets:
    """T-JEPA's masks (arXiv:2410.05016): one random context, M random targets of what is left.

    Numbers of tokens are shares of a sample's valid ones, rounded, at least 1; the default ranges are those of the
    public launch script. Every target is drawn on its own: targets of a sample may overlap.

    Deviations: the public code draws one size of contexts and one of targets per batch; here every set has its own. It
    fills its four targets from one shuffled buffer, so that they are one set, and counts the REG token among the
    tokens to hide, both of which we take for mistakes.

    Args:
        num_targets: M.
        context_share: range of the context's share.
        target_share: range of a target's share; where the context leaves fewer tokens, a target is all of those.

    Raises:
        ValueError: a share that cannot be, or that leaves nothing to predict.
    """

    def __init__(self, num_targets: int = 4, context_share: Range = (0.14, 0.37), target_share: Range = (0.16, 0.62)):
        check_counts(num_targets=num_targets)
        self.num_targets = num_targets
        self.context_share = share_range("context_share", context_share, whole=False)
        self.target_share = share_range("target_share", target_share, whole=False)

    def __call__(
        self, tokens: TokenSet, generator: torch.Generator, progress: float = 0.0, target: Target | None = None
    ) -> Masks:
        """Draws for each sample on its own, whatever the coordinates.

        Raises:
            ValueError: a sample with fewer than two valid tokens beside the pinned ones.
        """
        pinned = tokens.pinned.cpu()
        free = tokens.valid.cpu() & ~pinned
        count = free.sum(1)
        if int(count.min()) < 2:
            raise ValueError(
                f"sample {int(count.argmin())} of a batch has {int(count.min())} valid tokens, expected 2 or more: one "
                "to predict from and one to predict; leave such samples out"
            )

        def chance(*shape: int) -> Tensor:
            return torch.rand(len(free), *shape, generator=generator, device=generator.device).cpu()

        low, high = self.context_share
        number = ((low + (high - low) * chance()) * count).round().clamp_min(1)
        context = some_of(free, number.minimum(count - 1), chance(free.shape[1]))
        rest = (free & ~context)[:, None].expand(-1, self.num_targets, -1)
        low, high = self.target_share
        number = ((low + (high - low) * chance(self.num_targets)) * count[:, None]).round().clamp_min(1)
        targets = some_of(rest, number.minimum(rest.sum(-1)), chance(self.num_targets, free.shape[1]))
        device = tokens.values.device
        return Masks((context | pinned).to(device), targets.to(device))
