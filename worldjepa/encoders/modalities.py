"""Tokens of several modalities, encoded apart."""

from __future__ import annotations

from torch import Tensor

from worldjepa.encoders.vit import Vit
from worldjepa.layers import padding_mask
from worldjepa.tokens import batched_coords
from worldjepa.types import TokenSet


class ModalityVit(Vit):
    """:class:`Vit` whose tokens look only at those of their own modality, which is the first coordinate.

    As with an encoder for each modality, whose blocks share their weights. A picture's latents then hold nothing of its
    caption, so that a caption is not predicted from itself where it helps to predict them. Pinned tokens, at coordinate
    -1, look at each other alone.
    """

    def mask(self, tokens: TokenSet) -> Tensor:
        """bool (B,P,P)."""
        modality = batched_coords(tokens)[..., 0]
        return padding_mask(tokens.valid) & (modality[:, :, None] == modality[:, None, :])
