"""Tokens are strung into one sequence of near neighbours, of which stretches are hidden."""

from __future__ import annotations

import torch
from torch import Tensor

from worldjepa.samplers.masks import Masks, Range, check_counts, share_range
from worldjepa.targets import Target
from worldjepa.tokens import batched_coords
from worldjepa.types import TokenSet


class Sequencer:
    """Point-JEPA's masks (arXiv:2404.16432, section 3.2), drawn for every sample on its own.

    Targets are stretches of :func:`nearest_sequence` and may overlap. The context is a stretch of what they leave; it
    goes on after a target that lies within.

    Deviation: the reference draws one length for all targets, and one context, per batch; here every target and sample
    has its own, and short masks are padded.

    Args:
        num_targets: M.
        target_share: range of a target's length over all tokens; lengths are whole tokens, at least one.
        context_share: range of the context's length over the tokens that no target has.
    """

    max_draws = 100

    def __init__(self, num_targets: int = 4, target_share: Range = (0.15, 0.2), context_share: Range = (0.4, 0.75)):
        check_counts(num_targets=num_targets)
        self.num_targets = num_targets
        self.target_share = share_range("target_share", target_share)
        self.context_share = share_range("context_share", context_share)

    def __call__(
        self, tokens: TokenSet, generator: torch.Generator, progress: float = 0.0, target: Target | None = None
    ) -> Masks:
        """Draws for tokens with coordinates in which neighbours are near.

        Raises:
            ValueError: when 100 draws leave some sample without a context.
        """
        free = tokens.valid & ~tokens.pinned
        order = nearest_sequence(batched_coords(tokens), free)
        count = free.sum(1).cpu()
        place = torch.arange(order.shape[1])
        targets = torch.zeros(len(count), self.num_targets, len(place), dtype=torch.bool)
        rest = torch.zeros(len(count), len(place), dtype=torch.bool)
        for _ in range(self.max_draws):
            empty = ~rest.any(1)
            if not empty.any():
                break
            some = count[empty, None].expand(-1, self.num_targets)
            targets[empty] = self._stretches(place, some, self.target_share, generator)
            rest = (place < count[:, None]) & ~targets.any(1)
        else:
            raise ValueError(
                f"no token is left for the context in {self.max_draws} draws of {self.num_targets} targets from "
                f"{int(count.min())} tokens; lower num_targets or target_share"
            )
        context = rest & self._stretches(rest.cumsum(1) - 1, rest.sum(1), self.context_share, generator)
        in_order = torch.cat([context[:, None], targets], 1).to(order.device)
        masks = torch.zeros_like(in_order).scatter(2, order[:, None].expand_as(in_order), in_order)
        return Masks(masks[:, 0] | tokens.pinned, masks[:, 1:])

    @staticmethod
    def _stretches(place: Tensor, count: Tensor, share: Range, generator: torch.Generator) -> Tensor:
        """bool (...,P): a random stretch of a random share of ``count`` (...) places; ``place`` is (P,) or (B,P)."""
        low, high = share
        draws = torch.rand((2, *count.shape), generator=generator, device=generator.device, dtype=torch.float64).cpu()
        length = (count * (low + (high - low) * draws[0])).round().clamp_min(1)
        first = (draws[1] * (count - length + 1)).floor()
        return (place >= first[..., None]) & (place < (first + length)[..., None])


def nearest_sequence(coords: Tensor, free: Tensor) -> Tensor:
    """From the token with the least sum of coordinates always to the nearest that was not visited yet.

    Args:
        coords: (B,P,C).
        free: bool (B,P); the others (padding, pinned tokens) come last.

    Returns:
        int64 (B,P), every sample's tokens in their sequence.
    """
    rows = torch.arange(len(coords), device=coords.device)
    # No matrix products, as their rounding would change who is near.
    distance = torch.cdist(coords, coords, compute_mode="donot_use_mm_for_euclid_dist")
    distance = distance.masked_fill(~free[:, None], torch.finfo(distance.dtype).max)
    here = coords.sum(-1).masked_fill(~free, torch.inf).argmin(1)
    visited, order = torch.zeros_like(free), [here]
    for _ in range(coords.shape[1] - 1):
        visited[rows, here] = True
        here = distance[rows, here].masked_fill(visited, torch.inf).argmin(1)
        order.append(here)
    return torch.stack(order, 1)
