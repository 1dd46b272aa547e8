"""What is hidden is hidden at all times: blocks of a picture, the same in every frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from worldjepa.samplers.masks import Masks, Range, check_counts
from worldjepa.samplers.multiblock import rectangles
from worldjepa.targets import Target
from worldjepa.types import TokenSet


class Tubes:
    """V-JEPA's multi-block masks (arXiv:2404.08471, section 3.2 and appendix), drawn for every sample on its own.

    Every group of blocks is hidden and predicted from all the rest, apart from the other groups: the rows of a sample
    in :class:`worldjepa.samplers.masks.Masks` are its groups, each with one target, the union of its blocks.

    Deviations: the reference draws one block size per batch and group and cuts all masks to the smallest; here every
    block has a size of its own, and short masks are padded. It gives groups the same weight in the loss; here every
    hidden token has it.

    Args:
        groups: number of blocks and area of each over the picture's; the paper has 8 short-range and 2 long-range
            blocks.
        aspect: range of a block's height over its width.
        min_keep: fewest tokens of a context; groups that leave fewer are drawn again.

    Raises:
        ValueError: a group without blocks, an area outside of (0, 1), or a context of none.
    """

    max_draws = 100

    def __init__(
        self,
        groups: Sequence[tuple[int, float]] = ((8, 0.15), (2, 0.7)),
        aspect: Range = (0.75, 1.5),
        min_keep: int = 1,
    ):
        self.groups = tuple((int(number), float(scale)) for number, scale in groups)
        if not self.groups or not all(number >= 1 and 0 < scale < 1 for number, scale in self.groups):
            raise ValueError(f"groups must be pairs of a number >= 1 and an area in (0, 1), got {self.groups}")
        check_counts(min_keep=min_keep)
        self.aspect = tuple(aspect)
        self.min_keep = min_keep

    def __call__(
        self, tokens: TokenSet, generator: torch.Generator, progress: float = 0.0, target: Target | None = None
    ) -> Masks:
        """Draws for tokens with shared coordinates (P,3): time, and row and column from 0.

        Raises:
            ValueError: other coordinates; 100 draws that leave some sample with fewer than ``min_keep`` context tokens.
        """
        if tokens.coords.dim() != 2 or tokens.coords.shape[1] != 3:
            raise ValueError(
                f"Tubes needs shared coords (P,3) of time, row and column, got {tuple(tokens.coords.shape)}"
            )
        place, pinned, valid = tokens.coords[:, 1:].cpu(), tokens.pinned.cpu(), tokens.valid.cpu()
        hidden = torch.stack([self._group(place, ~pinned, valid, *group, generator) for group in self.groups], 1)
        context = valid[:, None] & ~hidden | pinned
        device = tokens.values.device
        return Masks(context.flatten(0, 1).to(device), hidden.flatten(0, 1)[:, None].to(device))

    def _group(
        self, place: Tensor, free: Tensor, valid: Tensor, number: int, scale: float, generator: torch.Generator
    ) -> Tensor:
        """bool (B,P): the union of ``number`` blocks."""
        hidden = torch.zeros_like(valid)
        again = torch.ones(len(valid), dtype=torch.bool)
        for _ in range(self.max_draws):
            shape = (int(again.sum()), number)
            blocks = rectangles(place, free, shape, (scale, scale), self.aspect, generator)
            hidden[again] = blocks.any(1) & valid[again]
            again = ((valid & free & ~hidden).sum(-1) < self.min_keep) | ~hidden.any(-1)
            if not again.any():
                return hidden
        raise ValueError(
            f"no context of >= min_keep ({self.min_keep}) tokens in {self.max_draws} draws of {number} blocks of "
            f"{scale:g} of the picture, {int(free.sum())} tokens; lower min_keep or the group's number or area"
        )
