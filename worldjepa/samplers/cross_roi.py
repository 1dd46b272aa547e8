"""A brain seen in some regions for some time; predicted are other regions, other times, and both at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from worldjepa.samplers.masks import Masks, Range, check_counts
from worldjepa.targets import Target
from worldjepa.tokens import some_of
from worldjepa.types import TokenSet


@dataclass(frozen=True)
class Blocks:
    """What :class:`CrossRoi` draws, each bool (B,R,n) for n pieces of time.

    Attributes:
        observation: without what the others take from it.
        cross_roi: other regions, within the observation's time (the paper's alpha).
        cross_time: observed regions, at times near either end that the observation loses (beta).
        both: other regions at those times (gamma).
    """

    observation: Tensor
    cross_roi: Tensor
    cross_time: Tensor
    both: Tensor


class CrossRoi:
    """Brain-JEPA's spatiotemporal masks (arXiv:2409.19407), drawn for every sample on its own.

    The observation is a random set of regions during one window. Regions of alpha are drawn from all, its window lies
    within the observation's, and the observation loses its regions. On each side in time, some of the outermost pieces
    are drawn; beta and gamma are some of the observed and some of the other regions there, and the observation loses
    these pieces. All targets are one set, as in the public code: their mask tokens see each other.

    Shares are of all regions and pieces, but beta's and gamma's of regions are of the observed and of the others;
    numbers are rounded down, alpha's to 1 at least.

    Deviations: the public code draws the sizes of observation and alpha once per batch and cuts all masks to the
    shortest, says "observed" of alpha's regions where it draws beta and gamma (so that its beta has none), and knows
    10 pieces of time alone, of which 3 are outermost on a side; here as many are as the share can ask for.

    Args:
        observed_share: of regions, and of time.
        alpha_regions, alpha_time: shares.
        beyond_regions, beyond_time: shares of beta and gamma; their time on each side.
        min_keep: fewest tokens of a context; masks with fewer are drawn again.

    Raises:
        ValueError: shares that cannot be, or that leave no time to observe.
    """

    max_draws = 100

    def __init__(
        self,
        observed_share: Range = (0.84, 1.0),
        alpha_regions: Range = (0.45, 0.6),
        alpha_time: Range = (0.2, 0.6),
        beyond_regions: Range = (0.15, 0.3),
        beyond_time: Range = (0.0, 0.4),
        min_keep: int = 4,
    ):
        shares = {"observed_share": observed_share, "alpha_regions": alpha_regions, "alpha_time": alpha_time}
        shares |= {"beyond_regions": beyond_regions, "beyond_time": beyond_time}
        for name, (low, high) in shares.items():
            if not 0 <= low <= high <= 1:
                raise ValueError(f"{name} must be 0 <= low <= high <= 1, got ({low}, {high})")
        if beyond_time[1] >= 0.5:
            raise ValueError(f"beyond_time is of each side and must be < 0.5, got {beyond_time[1]}")
        check_counts(min_keep=min_keep)
        self.observed_share = tuple(observed_share)
        self.alpha_regions, self.alpha_time = tuple(alpha_regions), tuple(alpha_time)
        self.beyond_regions, self.beyond_time = tuple(beyond_regions), tuple(beyond_time)
        self.min_keep = min_keep

    def __call__(
        self, tokens: TokenSet, generator: torch.Generator, progress: float = 0.0, target: Target | None = None
    ) -> Masks:
        """Draws for tokens with shared coordinates (P,2) = (region, piece of time) from 0.

        Raises:
            ValueError: when 100 draws leave some sample without a target, or with less context than ``min_keep``.
        """
        if tokens.coords.dim() != 2 or tokens.coords.shape[1] != 2:
            raise ValueError(
                f"CrossRoi needs shared coords (P,2) of regions and time, got {tuple(tokens.coords.shape)}"
            )
        pinned = tokens.pinned.cpu()
        place, free = tokens.coords.cpu().long(), tokens.valid.cpu() & ~pinned
        region, piece = place.clamp_min(0).unbind(-1)
        num_rois, num_pieces = (place.amax(0) + 1).tolist()
        context, targets = torch.zeros_like(free), torch.zeros_like(free)
        short = torch.ones(len(free), dtype=torch.bool)
        for _ in range(self.max_draws):
            blocks = self.blocks(int(short.sum()), num_rois, num_pieces, generator)
            wanted = blocks.cross_roi | blocks.cross_time | blocks.both
            context[short] = blocks.observation[:, region, piece] & free[short]
            targets[short] = wanted[:, region, piece] & free[short]
            short = (context.sum(-1) < self.min_keep) | ~targets.any(-1)
            if not short.any():
                break
        else:
            raise ValueError(
                f"no context of >= min_keep ({self.min_keep}) tokens beside targets in {self.max_draws} draws from "
                f"{num_rois} regions x {num_pieces} pieces of time; lower min_keep, alpha_regions or beyond_time, "
                "raise observed_share, or leave out samples with so much missing"
            )
        device = tokens.values.device
        return Masks((context | pinned).to(device), targets[:, None].to(device))

    def blocks(self, count: int, num_rois: int, num_pieces: int, generator: torch.Generator) -> Blocks:
        """Draws for ``count`` samples; an observation may come out empty where there is little of everything."""

        def chance(*shape: int) -> Tensor:
            return torch.rand(count, *shape, generator=generator, device=generator.device).cpu()

        def number(share: Range, of: Tensor | int) -> Tensor:
            return ((share[0] + (share[1] - share[0]) * chance()) * of).floor().long()

        def some(number: Tensor, of: Tensor) -> Tensor:
            """bool, as ``of`` (B,L): that many of them."""
            return some_of(of, number, chance(of.shape[1]))

        def window(length: Tensor, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """bool (B,n) of ``length`` pieces within [first, last), with its own bounds."""
            start = first + (chance() * (last - first - length + 1)).floor().long()
            piece = torch.arange(num_pieces)
            return (piece >= start[:, None]) & (piece < (start + length)[:, None]), start, start + length

        every = torch.ones(count, num_rois, dtype=torch.bool)
        edge = torch.tensor([0, num_pieces]).expand(count, 2)
        seen = some(number(self.observed_share, num_rois).clamp_min(1), every)
        time, first, last = window(number(self.observed_share, num_pieces).clamp_min(1), *edge.unbind(-1))
        alpha = some(number(self.alpha_regions, num_rois).clamp_min(1), every)
        length = number(self.alpha_time, num_pieces).clamp_min(1)
        alpha_time, _, _ = window(length.minimum(last - first), first, last)
        seen = seen & ~alpha
        # As many pieces on a side are outermost as a share below the largest, rounded down, can ask for.
        outermost = max(math.ceil(round(self.beyond_time[1] * num_pieces, 6)) - 1, 0)
        beta, gamma = every.new_zeros(count, num_rois, num_pieces), every.new_zeros(count, num_rois, num_pieces)
        for side in (torch.arange(num_pieces) < outermost, torch.arange(num_pieces) >= num_pieces - outermost):
            pieces = some(number(self.beyond_time, num_pieces), side.expand(count, -1))
            beta |= some(number(self.beyond_regions, seen.sum(1)), seen)[..., None] & pieces[:, None]
            gamma |= some(number(self.beyond_regions, (~seen).sum(1)), ~seen)[..., None] & pieces[:, None]
            time = time & ~pieces
        return Blocks(seen[..., None] & time[:, None], alpha[..., None] & alpha_time[:, None], beta, gamma)
