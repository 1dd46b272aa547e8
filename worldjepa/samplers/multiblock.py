"""Several rectangles are predicted from one large rectangle without them."""

from __future__ import annotations

import torch
from torch import Tensor

from worldjepa.samplers.masks import Masks, Range, check_counts, share_range
from worldjepa.targets import Target
from worldjepa.types import TokenSet


class MultiBlock:
    """I-JEPA's masks (arXiv:2301.08243, section 3), drawn for every sample on its own.

    Deviation: the reference draws one block size per batch and cuts all masks to the smallest; here sizes differ
    within a batch and short masks are padded.

    Args:
        num_targets: M.
        target_scale: range of a target's area over the picture's.
        target_aspect: range of a target's height over its width.
        context_scale: range of the context's area (a square) over the picture's, before targets are cut out.
        min_keep: fewest tokens of a context; masks with fewer are drawn again.

    Raises:
        ValueError: a number below 1, or no such range.
    """

    max_draws = 100

    def __init__(
        self,
        num_targets: int = 4,
        target_scale: Range = (0.15, 0.2),
        target_aspect: Range = (0.75, 1.5),
        context_scale: Range = (0.85, 1.0),
        min_keep: int = 10,
    ):
        check_counts(num_targets=num_targets, min_keep=min_keep)
        self.num_targets = num_targets
        self.target_scale = share_range("target_scale", target_scale)
        self.target_aspect = tuple(target_aspect)
        self.context_scale = share_range("context_scale", context_scale)
        self.min_keep = min_keep

    def __call__(
        self, tokens: TokenSet, generator: torch.Generator, progress: float = 0.0, target: Target | None = None
    ) -> Masks:
        """Draws for tokens with shared coordinates (P,2) = (row, column) from 0.

        Raises:
            ValueError: when 100 draws leave some sample with fewer than ``min_keep`` context tokens.
        """
        if tokens.coords.dim() != 2 or tokens.coords.shape[1] != 2:
            raise ValueError(
                f"MultiBlock needs shared coords (P,2) of rows and columns, got {tuple(tokens.coords.shape)}"
            )
        place, free, valid = tokens.coords.cpu(), ~tokens.pinned.cpu(), tokens.valid.cpu()
        context = torch.empty_like(valid)
        targets = valid.new_empty(len(valid), self.num_targets, valid.shape[1])
        short = torch.ones(len(valid), dtype=torch.bool)
        for _ in range(self.max_draws):
            num_short = int(short.sum())
            new = rectangles(
                place, free, (num_short, self.num_targets), self.target_scale, self.target_aspect, generator
            )
            new = new & valid[short][:, None]
            large = rectangles(place, free, (num_short,), self.context_scale, (1.0, 1.0), generator)
            context[short] = large & valid[short] & ~new.any(1)
            targets[short] = new
            short = context.sum(-1) < self.min_keep
            if not short.any():
                break
        else:
            raise ValueError(
                f"no context of >= min_keep ({self.min_keep}) tokens in {self.max_draws} draws of "
                f"{self.num_targets} targets from {int(free.sum())} tokens; lower min_keep, num_targets or target_scale"
            )
        device = tokens.values.device
        return Masks((context | tokens.pinned.cpu()).to(device), targets.to(device))


def rectangles(
    place: Tensor, free: Tensor, shape: tuple[int, ...], scale: Range, aspect: Range, generator: torch.Generator
) -> Tensor:
    """Random rectangles of tokens, always at least one of them.

    Args:
        place: (P,2) rows and columns from 0; ``free``: bool (P,), False for tokens that belong to no rectangle.
        shape: of the rectangles.
        scale: range of a rectangle's area over the whole; ``aspect``: of its height over its width.

    Returns:
        bool (*shape,P).
    """
    height, width = (place[free].amax(0) + 1).tolist()

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device).cpu()

    area, ratio = uniform(*scale) * height * width, uniform(*aspect)
    rows = (area * ratio).sqrt().round().clamp(1, height)
    columns = (area / ratio).sqrt().round().clamp(1, width)
    top = (uniform(0, 1) * (height - rows + 1)).floor()
    left = (uniform(0, 1) * (width - columns + 1)).floor()
    first = torch.stack([top, left], -1)[..., None, :]
    last = torch.stack([top + rows, left + columns], -1)[..., None, :]
    return ((place >= first) & (place < last)).all(-1) & free
