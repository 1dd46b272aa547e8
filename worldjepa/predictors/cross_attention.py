"""Latents of hidden tokens, asked of visible ones again in every layer."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from worldjepa.layers import CrossBlock, SinCosCoordinates, padding_mask
from worldjepa.types import TokenSet


class CrossAttentionPredictor(nn.Module):
    """Mask tokens look at each other and, in every layer, at the context's latents as the encoder gave them.

    3D-JEPA's context-aware decoder (arXiv:2409.15803): as the context is brought in anew everywhere, the decoder's
    layers need not remember it. Called like :class:`worldjepa.predictors.masked.MaskedPredictor`; the M target sets of
    a sample are predicted apart.

    Args:
        latent_dim: D of the context's latents.
        width, depth, heads, mlp_ratio, dropout: of the decoder.
        coordinates: coords (...,C) -> (...,width); sines and cosines when None.
        out_dim: width of what is predicted, where it is no latent of the encoder's; ``latent_dim`` when None.
    """

    def __init__(
        self,
        latent_dim: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        coordinates: nn.Module | None = None,
        out_dim: int | None = None,
    ):
        super().__init__()
        self.coordinates = SinCosCoordinates(width) if coordinates is None else coordinates
        self.embedding = nn.Linear(latent_dim, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.ModuleList(CrossBlock(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.out = nn.Sequential(nn.LayerNorm(width, eps=1e-6), nn.Linear(width, out_dim or latent_dim))

    def forward(self, context: TokenSet, coords: Tensor, valid: Tensor) -> Tensor:
        """Predicts what is at ``coords``.

        Args:
            context: values (B,K,D), coords (B,K,C).
            coords: (B,M,Q,C) places of the tokens to predict.
            valid: bool (B,M,Q), False marks padding; no target set is padding alone.

        Returns:
            (B,M,Q,D), or (B,M,Q,out_dim); rows of padding mean nothing.
        """
        num_targets = valid.shape[1]
        seen = self.embedding(context.values) + self.coordinates(context.coords)
        seen, seen_valid = (part.repeat_interleave(num_targets, 0) for part in (seen, context.valid))
        x = (self.mask_token + self.coordinates(coords)).flatten(0, 1)
        masks = padding_mask(valid.flatten(0, 1)), padding_mask(seen_valid)
        for block in self.blocks:
            x = block(x, seen, *masks)
        return rearrange(self.out(x), "(b m) q d -> b m q d", m=num_targets)
