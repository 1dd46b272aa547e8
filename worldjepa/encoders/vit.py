"""Vision transformer, over token sets of any modality and over pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from worldjepa.layers import SinCosCoordinates, Transformer, padding_mask
from worldjepa.normalizer import PixelNormalizer
from worldjepa.tokenizers.image import ImageTokenizer
from worldjepa.tokens import select
from worldjepa.types import Observation, TokenSet


class Vit(nn.Module):
    """Transformer over token sets: contents are embedded, coordinates added, padding ignored.

    Args:
        token_dim: width of the tokens' contents.
        width: D of the latents.
        depth, heads, mlp_ratio, dropout: of the transformer.
        num_pinned: number of pinned tokens in front of every token set; each gets a learned vector.
        embedding: contents (B,P,token_dim) -> (B,P,width); a linear map when None.
        coordinates: coords (B,P,C) -> (B,P,width); sines and cosines when None.
    """

    def __init__(
        self,
        token_dim: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        num_pinned: int = 0,
        embedding: nn.Module | None = None,
        coordinates: nn.Module | None = None,
    ):
        super().__init__()
        self.token_dim = token_dim
        self.latent_dim = width
        self.embedding = nn.Linear(token_dim, width) if embedding is None else embedding
        self.coordinates = SinCosCoordinates(width) if coordinates is None else coordinates
        self.pinned = nn.Parameter(0.02 * torch.randn(num_pinned, width))
        self.transformer = Transformer(width, depth, heads, mlp_ratio, dropout)

    def forward(self, tokens: TokenSet, keep: Tensor | None = None) -> TokenSet:
        """Latents of the tokens, or only of those kept: no other token is looked at.

        Args:
            tokens: values (B,P,token_dim).
            keep: bool (B,P) tokens to encode; all when None.

        Returns:
            values (B,K,D), K = P or the largest number kept by a sample, with coords and valid to match.
        """
        if keep is not None:
            tokens = select(tokens, keep)
        return replace(tokens, values=self.transformer(self._embedded(tokens), mask=self.mask(tokens)))

    def mask(self, tokens: TokenSet) -> Tensor:
        """Which tokens look at which others: bool, broadcastable to (B,P,P), queries before keys."""
        return padding_mask(tokens.valid)

    def pinned_attention(self, tokens: TokenSet) -> Tensor:
        """How much the first pinned token (CLS) looks at every token in the last block: (B,P), the mean over heads.

        Rows sum to 1; padding gets 0.

        Raises:
            ValueError: no token is pinned.
        """
        if not len(self.pinned):
            raise ValueError("pinned_attention is a pinned token's, got num_pinned=0; set tokenizer.num_pinned=1")
        x, mask = self._embedded(tokens), self.mask(tokens)
        *earlier, last = self.transformer.blocks
        for block in earlier:
            x = block(x, mask=mask)
        x = last.norm1(x)
        return last.attention.weights(x[:, :1], mask[:, :1], context=x).mean(1)[:, 0]

    def _embedded(self, tokens: TokenSet) -> Tensor:
        """(B,P,D), what the first block is given."""
        if tokens.values.shape[-1] != self.token_dim:
            raise ValueError(f"token_dim is {self.token_dim}, got tokens of {tokens.values.shape[-1]}; set token_dim")
        num_pinned = len(self.pinned)
        if int(tokens.pinned.sum()) != num_pinned:
            raise ValueError(
                f"expected {num_pinned} pinned tokens, got {int(tokens.pinned.sum())}; give the tokenizer and the "
                "encoder one num_pinned, and keep pinned tokens in every context"
            )
        x = self.embedding(tokens.values) + self.coordinates(tokens.coords)
        if num_pinned:
            pinned = self.pinned.to(x.dtype).expand(len(x), -1, -1)
            x = torch.cat([pinned, x[:, num_pinned:]], dim=1)
        return x


class VitEncoder(nn.Module):
    """Pictures -> latents, for the world model.

    Args:
        image_size, patch_size: of the pictures, in pixels.
        width, depth, heads: of the transformer.
        latent_dim: D.
        pool: ``cls`` or ``mean`` give one latent per picture (P = 1), ``tokens`` one per patch.
        dropout: of the transformer.

    Attributes:
        num_tokens: P.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        latent_dim: int,
        pool: Literal["cls", "mean", "tokens"] = "cls",
        dropout: float = 0.0,
    ):
        super().__init__()
        if pool not in ("cls", "mean", "tokens"):
            raise ValueError(f"pool must be 'cls', 'mean' or 'tokens', got {pool!r}")
        num_pinned = int(pool == "cls")
        self.pool = pool
        self.latent_dim = latent_dim
        self.normalizer = PixelNormalizer(image_size)
        self.tokenizer = ImageTokenizer(image_size, patch_size, num_pinned=num_pinned)
        self.num_tokens = self.tokenizer.num_tokens if pool == "tokens" else 1
        self.vit = Vit(self.tokenizer.token_dim, width, depth, heads, dropout=dropout, num_pinned=num_pinned)
        # The transformer ends in a LayerNorm, which forbids a Gaussian latent; BatchNorm does not (arXiv:2603.19312).
        self.projection = nn.Linear(width, latent_dim)
        self.norm = nn.BatchNorm1d(latent_dim)

    def forward(self, observation: Observation) -> Tensor:
        """``pixels`` uint8 (B,T,3,height,width) -> (B,T,P,D)."""
        pixels = observation["pixels"]
        batch = len(pixels)
        x = self.vit(self.tokenizer.cut(self.normalizer(pixels))).values
        if self.pool == "cls":
            x = x[:, :1]
        elif self.pool == "mean":
            x = x.mean(1, keepdim=True)
        latent = self.norm(rearrange(self.projection(x), "n p d -> (n p) d"))
        return rearrange(latent, "(b t p) d -> b t p d", b=batch, p=self.num_tokens)
