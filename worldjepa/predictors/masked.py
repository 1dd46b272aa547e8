"""Latents of hidden tokens from the latents of visible ones."""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from worldjepa.layers import SinCosCoordinates, Transformer, padding_mask
from worldjepa.types import TokenSet


class MaskedPredictor(nn.Module):
    """Narrow transformer over context latents and mask tokens (I-JEPA, arXiv:2301.08243, section 3).

    The M target sets of a sample are predicted apart: mask tokens of one set never see another's.

    Args:
        latent_dim: D of the context's latents.
        width, depth, heads, mlp_ratio, dropout: of the transformer.
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
        self.transformer = Transformer(width, depth, heads, mlp_ratio, dropout)
        self.out = nn.Linear(width, out_dim or latent_dim)

    def forward(self, context: TokenSet, coords: Tensor, valid: Tensor) -> Tensor:
        """Predicts what is at ``coords``.

        Args:
            context: values (B,K,D), coords (B,K,C).
            coords: (B,M,Q,C) places of the tokens to predict.
            valid: bool (B,M,Q), False marks padding.

        Returns:
            (B,M,Q,D), or (B,M,Q,out_dim); rows of padding mean nothing.
        """
        num_targets, num_queries = valid.shape[1:]
        seen = self.embedding(context.values) + self.coordinates(context.coords)
        asked = self.mask_token + self.coordinates(coords)
        x = torch.cat([repeat(seen, "b k d -> (b m) k d", m=num_targets), asked.flatten(0, 1)], dim=1)
        seen_valid = repeat(context.valid, "b k -> (b m) k", m=num_targets)
        mask = padding_mask(torch.cat([seen_valid, valid.flatten(0, 1)], dim=1))
        latent = self.out(self.transformer(x, mask=mask)[:, -num_queries:])
        return rearrange(latent, "(b m) q d -> b m q d", m=num_targets)
