"""From blocks of a spectrogram to whole bands of it: A-JEPA's masks get harder while it learns."""

from __future__ import annotations

import torch
from torch import Tensor

from worldjepa.samplers.masks import Masks, Range, Sampler, check_counts, share_range
from worldjepa.targets import Target
from worldjepa.types import TokenSet


class Bands:
    """Bands of frequencies and stretches of time are predicted from all the rest (A-JEPA, arXiv:2311.15830).

    Each target is by chance a band over all times or a stretch of time over all frequencies, so that no visible token
    has its frequency, or its time. They may overlap.

    Published are the number and the area of these targets; of their shape we know only that it is aware of time and
    frequency (there is no public code). Whole bands are our reading, after the structured masks of Audio-MAE
    (arXiv:2207.06405, section 3), from which A-JEPA takes its reasons. A band is at least one row or column of
    patches, which is more than the published area on a small grid; the context is all the rest, not a block of it.

    Args:
        num_targets: M.
        target_scale: range of a target's area over the spectrogram's.
        min_keep: fewest tokens of a context; masks with fewer are drawn again.

    Raises:
        ValueError: a number below 1, or no such range.
    """

    max_draws = 100

    def __init__(self, num_targets: int = 3, target_scale: Range = (0.05, 0.075), min_keep: int = 10):
        check_counts(num_targets=num_targets, min_keep=min_keep)
        self.num_targets, self.min_keep = num_targets, min_keep
        self.target_scale = share_range("target_scale", target_scale)

    def __call__(
        self, tokens: TokenSet, generator: torch.Generator, progress: float = 0.0, target: Target | None = None
    ) -> Masks:
        """Draws for tokens with shared coordinates (P,2), which fill a grid of rows and columns from 0.

        Raises:
            ValueError: when 100 draws leave some sample with fewer than ``min_keep`` context tokens.
        """
        place, free = tokens.coords.cpu(), ~tokens.pinned.cpu()
        targets = torch.zeros(len(tokens.values), self.num_targets, len(place), dtype=torch.bool)
        short = torch.ones(len(targets), dtype=torch.bool)
        for _ in range(self.max_draws):
            targets[short] = self._draw(place, free, int(short.sum()), generator)
            context = free & ~targets.any(1)
            short = context.sum(-1) < self.min_keep
            if not short.any():
                break
        else:
            raise ValueError(
                f"no context of >= min_keep ({self.min_keep}) tokens in {self.max_draws} draws of {self.num_targets} "
                f"bands from {int(free.sum())} tokens; lower min_keep or num_targets, or leave out so short sounds"
            )
        device = tokens.values.device
        return Masks((context | ~free).to(device), targets.to(device))

    def _draw(self, place: Tensor, free: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """bool (count,M,P)."""
        size = place[free].amax(0) + 1
        area, start, axis = torch.rand(
            3, count, self.num_targets, 1, generator=generator, device=generator.device
        ).cpu()
        low, high = self.target_scale
        axis = (axis < 0.5).long()  # 0 is frequency
        # A share of the area is the same share of the axis, as the band has all of the other one.
        wide = ((low + (high - low) * area) * size[axis]).round().clamp_min(1)
        first = (start * (size[axis] - wide + 1)).floor()
        along = place.T[axis[..., 0]]
        return (along >= first) & (along < first + wide) & free


class Curriculum:
    """Easy masks at first, hard ones more and more often (A-JEPA, arXiv:2311.15830, Algorithm 1).

    A step has hard masks with the probability min(1, sqrt(s (1 - c0^2) / S + c0^2)), s / S the progress: the root
    schedule of arXiv:1903.09848. All samples of a step have masks of one kind, as the published kinds differ in their
    number of targets.

    Samples of one length are drawn together on a grid of their own, so that shares are shares of the recording, and no
    target is padding.

    Args:
        easy, hard: samplers that look at the places of tokens alone and give one row per sample.
        start: c0, the probability at progress 0.

    Raises:
        ValueError: no probability.
    """

    def __init__(self, easy: Sampler, hard: Sampler, start: float = 0.01):
        if not 0 <= start <= 1:
            raise ValueError(f"start must be a probability in [0, 1], got {start}")
        self.easy, self.hard, self.start = easy, hard, start

    def hard_share(self, progress: float) -> float:
        """Probability of hard masks."""
        return min(1.0, (progress * (1 - self.start**2) + self.start**2) ** 0.5)

    def __call__(
        self, tokens: TokenSet, generator: torch.Generator, progress: float = 0.0, target: Target | None = None
    ) -> Masks:
        """Draws for tokens with shared coordinates (P,2) = (row, column) from 0; see the samplers for what they raise.

        Raises:
            ValueError: coordinates that differ from sample to sample.
        """
        if tokens.coords.dim() != 2 or tokens.coords.shape[1] != 2:
            raise ValueError(
                f"Curriculum needs shared coords (P,2) of rows and columns, got {tuple(tokens.coords.shape)}"
            )
        chance = float(torch.rand((), generator=generator, device=generator.device))
        sampler = self.hard if chance < self.hard_share(progress) else self.easy
        valid, coords, pinned = tokens.valid.cpu(), tokens.coords.cpu(), tokens.pinned.cpu()
        kinds, kind_of = valid.unique(dim=0, return_inverse=True)
        context, targets = torch.zeros_like(valid), None
        for kind, keep in enumerate(kinds):
            rows, index = (kind_of == kind).nonzero(), keep.nonzero()[:, 0]
            places = torch.zeros(len(rows), len(index), 0)  # nothing but places is to be looked at
            part = TokenSet(places, coords[index], valid[rows, index], pinned[index])
            masks = sampler(part, generator, progress, target)
            if targets is None:
                targets = valid.new_zeros(len(valid), masks.targets.shape[1], valid.shape[1])
            context[rows, index] = masks.context
            targets[rows[..., None], torch.arange(targets.shape[1])[:, None], index] = masks.targets
        device = tokens.values.device
        return Masks(context.to(device), targets.to(device))
