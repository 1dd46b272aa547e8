"""Several neighbourhoods are predicted from one large neighbourhood without them: blocks where there is no grid."""

from __future__ import annotations

import torch
from torch import Tensor

from worldjepa.samplers.masks import Masks, Range, check_counts, share_range
from worldjepa.targets import Target
from worldjepa.tokens import batched_coords
from worldjepa.types import TokenSet


class Neighbourhoods:
    """3D-JEPA's multi-block masks of points (arXiv:2409.15803), drawn for every sample on its own.

    A block is a random token and those nearest to it. The paper was read in summaries only: the shares are those of
    I-JEPA (arXiv:2301.08243, section 3).

    Args:
        num_targets: M; targets may overlap.
        target_scale: range of a target's share of the tokens, whole tokens and at least one.
        context_scale: range of the context's share, before targets are cut out.
        min_keep: fewest tokens of a context; masks with fewer are drawn again.
    """

    max_draws = 100

    def __init__(
        self,
        num_targets: int = 4,
        target_scale: Range = (0.15, 0.2),
        context_scale: Range = (0.85, 1.0),
        min_keep: int = 10,
    ):
        check_counts(num_targets=num_targets, min_keep=min_keep)
        self.num_targets = num_targets
        self.target_scale = share_range("target_scale", target_scale)
        self.context_scale = share_range("context_scale", context_scale)
        self.min_keep = min_keep

    def __call__(
        self, tokens: TokenSet, generator: torch.Generator, progress: float = 0.0, target: Target | None = None
    ) -> Masks:
        """Draws for tokens with coordinates in which neighbours are near.

        Raises:
            ValueError: when 100 draws leave some sample with fewer than ``min_keep`` context tokens.
        """
        coords, free = batched_coords(tokens).cpu(), (tokens.valid & ~tokens.pinned).cpu()
        # No matrix products, as their rounding would change who is near.
        distance = torch.cdist(coords, coords, compute_mode="donot_use_mm_for_euclid_dist")
        # rank[b, i, j]: how many tokens are nearer to token i than token j is
        rank = distance.masked_fill(~free[:, None], torch.inf).argsort(dim=-1, stable=True).argsort(dim=-1)
        context = torch.zeros_like(free)
        targets = free.new_zeros(len(free), self.num_targets, free.shape[1])
        for _ in range(self.max_draws):
            short = context.sum(-1) < self.min_keep
            if not short.any():
                break
            new = self._blocks(rank[short], free[short], self.num_targets, self.target_scale, generator)
            large = self._blocks(rank[short], free[short], 1, self.context_scale, generator)[:, 0]
            targets[short], context[short] = new, large & ~new.any(1)
        else:
            raise ValueError(
                f"no context of >= min_keep ({self.min_keep}) tokens in {self.max_draws} draws of "
                f"{self.num_targets} targets from {int(free.sum(1).min())} tokens; lower min_keep, num_targets or "
                "target_scale"
            )
        device = tokens.values.device
        return Masks((context | tokens.pinned.cpu()).to(device), targets.to(device))

    @staticmethod
    def _blocks(rank: Tensor, free: Tensor, number: int, scale: Range, generator: torch.Generator) -> Tensor:
        """bool (B,number,P): the tokens nearest to random ones, from ``rank`` (B,P,P)."""
        count = free.sum(1, keepdim=True)
        draws = torch.rand(
            (2, len(free), number), generator=generator, device=generator.device, dtype=torch.float64
        ).cpu()
        which = (draws[0] * count).floor().long()  # of the free tokens, which are brought to the front
        centre = free.int().argsort(dim=-1, descending=True, stable=True).gather(1, which)
        size = (count * (scale[0] + (scale[1] - scale[0]) * draws[1])).round().clamp_min(1)
        return rank[torch.arange(len(rank))[:, None], centre] < size[..., None]
