"""The next salient region is predicted from all more salient ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from worldjepa.samplers.masks import Masks, check_counts
from worldjepa.samplers.multiblock import MultiBlock
from worldjepa.targets import Target
from worldjepa.types import TokenSet


class SalientRegions:
    """DSeq-JEPA's masks (arXiv:2511.17354, eq. 1 to 3), drawn for every sample on its own.

    What the teacher's first pinned token (CLS) looks at in its last block is cut at Otsu's threshold; the connected
    parts that are large enough, ordered by their mean saliency, and the background after them are the regions R1 to RN.
    A sample is then N - 1 pairs: R1 to Ri are the context, R(i+1) is the one target. With a probability that grows
    linearly with progress, from 0 to 1, a sample has such pairs, else those of ``blocks``: each of its targets with its
    context. Samples without a salient part are left to ``blocks`` too.

    In a batch with pairs of both kinds every sample has as many rows, each with one target, as the longest list of
    pairs is long; shorter lists are gone through again from their start, so all samples weigh about the same. Where
    nothing sequential was drawn, the masks are those of ``blocks`` themselves.

    Deviations: the public code draws once for a whole batch, measures saliency by the likeness of the CLS parameter to
    the patches of block 10 of 12, leaves targets empty where regions are few, and repeats R1 as the second context.

    Args:
        blocks: I-JEPA's masks.
        num_regions: of the salient ones, at most; the background is one more.
        min_area: of a salient region over the picture's.
    """

    def __init__(self, blocks: MultiBlock, num_regions: int = 4, min_area: float = 0.15):
        check_counts(num_regions=num_regions)
        if not 0 < min_area < 1:
            raise ValueError(f"min_area must be a share of the picture, 0 < min_area < 1, got {min_area}")
        self.blocks, self.num_regions, self.min_area = blocks, num_regions, min_area

    def __call__(
        self, tokens: TokenSet, generator: torch.Generator, progress: float = 0.0, target: Target | None = None
    ) -> Masks:
        """Draws for tokens with shared coordinates (P,2) = (row, column) from 0.

        Raises:
            ValueError: ``target`` is no teacher with a pinned token, and what ``blocks`` raises.
        """
        masks = self.blocks(tokens, generator, progress, target)
        drawn = torch.rand(len(tokens.values), generator=generator, device=generator.device).cpu() < progress
        if not drawn.any():
            return masks
        saliency, place = self._saliency(tokens, target).cpu(), tokens.coords.cpu()
        valid, pinned = tokens.valid.cpu(), tokens.pinned.cpu()
        pairs = []
        for b in range(len(saliency)):
            regions = None
            if drawn[b]:
                regions = salient_regions(saliency[b], place, valid[b] & ~pinned, self.num_regions, self.min_area)
            if regions is None:
                targets = masks.targets[b].cpu()
                pairs.append((masks.context[b].cpu().expand_as(targets), targets))
            else:
                pairs.append(((regions.cumsum(0) > 0)[:-1] | pinned, regions[1:]))
        rows = torch.arange(max(len(targets) for _, targets in pairs))
        contexts, targets = zip(*pairs, strict=True)
        context, targets = (torch.cat([part[rows % len(part)] for part in parts]) for parts in (contexts, targets))
        device = tokens.values.device
        return Masks(context.to(device), targets[:, None].to(device))

    @staticmethod
    @torch.no_grad()
    def _saliency(tokens: TokenSet, target: Target | None) -> Tensor:
        """(B,P), the teacher's."""
        teacher = getattr(target, "module", None)
        if not hasattr(teacher, "pinned_attention"):
            raise ValueError(
                f"SalientRegions asks a teacher what it looks at: target must be Ema or Frozen of a Vit, got "
                f"{type(target).__name__}; set system.target"
            )
        return teacher.pinned_attention(tokens)


def salient_regions(saliency: Tensor, place: Tensor, free: Tensor, num_regions: int, min_area: float) -> Tensor | None:
    """The regions of one picture, the most salient first and the background last.

    Parts are connected over sides and corners, as in the public code.

    Args:
        saliency: (P,), of any scale.
        place: (P,2) rows and columns from 0.
        free: bool (P,) tokens that may belong to a region.
        num_regions: of the salient ones, at most.
        min_area: of a salient region over that of all free tokens.

    Returns:
        bool (N,P), N from 2 to ``num_regions`` + 1, each free token in one of them; None where nothing is
        salient enough.
    """
    from skimage.filters import threshold_otsu
    from skimage.measure import label

    values, (rows, columns) = saliency[free].double().numpy(), place[free].long().numpy().T
    picture = np.zeros((rows.max() + 1, columns.max() + 1), dtype=bool)
    picture[rows, columns] = values > threshold_otsu(values)
    parts = label(picture, connectivity=2)[rows, columns]
    sizes = np.bincount(parts)
    means = np.bincount(parts, values) / np.maximum(sizes, 1)
    large = [part for part in range(1, len(sizes)) if sizes[part] >= min_area * len(values) - 1e-9]
    if not large:
        return None
    chosen = sorted(large, key=lambda part: -means[part])[:num_regions]
    regions = torch.zeros(len(chosen) + 1, len(free), dtype=torch.bool)
    for region, part in zip(regions, chosen, strict=False):
        region[free] = torch.from_numpy(parts == part)
    regions[-1] = free & ~regions.any(0)
    return regions
