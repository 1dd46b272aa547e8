"""Parts of a picture are predicted from the rest of it and from its caption."""

from __future__ import annotations

from dataclasses import replace

import torch

from worldjepa.samplers.masks import Masks
from worldjepa.samplers.multiblock import MultiBlock
from worldjepa.targets import Target
from worldjepa.tokenizers.image_text import PICTURE
from worldjepa.types import TokenSet


class Captioned:
    """TI-JEPA's masks (arXiv:2503.06380): I-JEPA's blocks of the picture; all words belong to every context.

    Args:
        blocks: drawn of the picture alone.
    """

    def __init__(self, blocks: MultiBlock):
        self.blocks = blocks

    def __call__(
        self, tokens: TokenSet, generator: torch.Generator, progress: float = 0.0, target: Target | None = None
    ) -> Masks:
        """Draws for tokens with shared coordinates (P,3), modality and place, as ``ImageTextTokenizer`` gives them.

        Raises:
            ValueError: other coordinates, and what ``blocks`` raises.
        """
        if tokens.coords.dim() != 2 or tokens.coords.shape[1] != 3:
            raise ValueError(
                f"Captioned needs shared coords (P,3) of modality, row and column, got {tuple(tokens.coords.shape)}"
            )
        patches = tokens.coords[:, 0] == PICTURE
        picture = replace(
            tokens,
            values=tokens.values[:, patches],
            coords=tokens.coords[patches, 1:],
            valid=tokens.valid[:, patches],
            pinned=tokens.pinned[patches],
        )
        drawn = self.blocks(picture, generator, progress, target)
        context = tokens.valid & ~patches
        context[:, patches] = drawn.context
        targets = torch.zeros_like(tokens.valid)[:, None].repeat(1, drawn.targets.shape[1], 1)
        targets[:, :, patches] = drawn.targets
        return Masks(context, targets)
