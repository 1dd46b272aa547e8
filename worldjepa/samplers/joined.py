"""Several ways of hiding, each with a context of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from worldjepa.samplers.masks import Masks, Sampler
from worldjepa.targets import Target
from worldjepa.types import TokenSet


class Joined:
    """The rows of several samplers side by side: each sample is asked by all of them.

    Args:
        samplers: one or more, with the same number of targets per row.
    """

    def __init__(self, samplers: Sequence[Sampler]):
        self.samplers = tuple(samplers)
        if not self.samplers:
            raise ValueError("samplers must name at least one sampler, got none")

    def __call__(
        self, tokens: TokenSet, generator: torch.Generator, progress: float = 0.0, target: Target | None = None
    ) -> Masks:
        """Draws with each in turn.

        Raises:
            ValueError: samplers with different numbers of targets, and what they raise themselves.
        """
        drawn = [sampler(tokens, generator, progress, target) for sampler in self.samplers]
        counts = [masks.targets.shape[1] for masks in drawn]
        if len(set(counts)) > 1:
            raise ValueError(f"samplers must have the same number of targets per row, got {counts}")
        batch = len(tokens.values)
        context, targets = (
            torch.cat([part.unflatten(0, (batch, -1)) for part in parts], 1).flatten(0, 1)
            for parts in ([masks.context for masks in drawn], [masks.targets for masks in drawn])
        )
        return Masks(context, targets)
