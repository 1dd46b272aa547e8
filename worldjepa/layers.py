"""The one transformer block of the library, the masks it takes, the embeddings of coordinates, and an MLP.

Shapes here: ``B`` batch, ``L`` tokens of a sequence, ``D`` width, ``C`` width of the condition.
Every module runs under ``torch.autocast``; normalisation and coordinates stay in float32 there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def block_causal_mask(num_steps: int, tokens_per_step: int = 1, device: torch.device | None = None) -> Tensor:
    """bool (L,L), L = num_steps * tokens_per_step: a token may attend to its own step and to all earlier ones."""
    step = torch.arange(num_steps, device=device).repeat_interleave(tokens_per_step)
    return step[:, None] >= step[None, :]


def padding_mask(valid: Tensor) -> Tensor:
    """bool (B,1,L) for :class:`Attention` from ``valid`` bool (B,L): nobody attends to padding."""
    return valid[:, None, :]


def batchnorm_mlp(width: int, dims: Sequence[int]) -> nn.Sequential:
    """(N,width) -> (N,dims[-1]): linear maps with BatchNorm and ReLU between them."""
    layers: list[nn.Module] = []
    for dim in dims[:-1]:
        layers += [nn.Linear(width, dim, bias=False), nn.BatchNorm1d(dim), nn.ReLU()]
        width = dim
    return nn.Sequential(*layers, nn.Linear(width, dims[-1]))


class Attention(nn.Module):
    """Multi-head attention of (B,L,D) within itself, or to a context (B,K,D).

    Args:
        width: D.
        heads: number of heads.
        head_dim: width of a head; D / heads when None.
        dropout: of the attention weights and of the output.
    """

    def __init__(self, width: int, heads: int, head_dim: int | None = None, dropout: float = 0.0):
        super().__init__()
        if head_dim is None and width % heads:
            raise ValueError(f"width must be a multiple of heads ({heads}), got {width}; change it or set head_dim")
        inner = heads * (head_dim or width // heads)
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * inner)
        self.out = nn.Sequential(nn.Linear(inner, width), nn.Dropout(dropout))

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """``x`` (B,L,D) attends within itself, or to ``context`` (B,K,D).

        Args:
            mask: broadcastable to (L,K) or (B,L,K), queries before keys; bool (True may attend) or float, added to
                the logits.
        """
        q, k, v = self._heads(x, context)
        mask = None if mask is None else self._per_head(mask, q)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.out(rearrange(y, "b h l d -> b l (h d)"))

    def weights(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """How much ``x`` attends to what: (B,heads,L,K), every row sums to 1; arguments as in :meth:`forward`."""
        q, k, _ = self._heads(x, context)
        logits = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])
        if mask is not None:
            mask = self._per_head(mask, q)
            logits = logits + mask if mask.is_floating_point() else logits.masked_fill(~mask, -torch.inf)
        return logits.softmax(-1)

    def _heads(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B,heads,L,d), keys and values (B,heads,K,d)."""
        if context is None:
            parts = self.qkv(x).chunk(3, -1)
        else:
            weight, bias, inner = self.qkv.weight, self.qkv.bias, len(self.qkv.weight) // 3
            query = F.linear(x, weight[:inner], bias[:inner])
            parts = query, *F.linear(context, weight[inner:], bias[inner:]).chunk(2, -1)
        q, k, v = (rearrange(part, "b l (h d) -> b h l d", h=self.heads) for part in parts)
        return q, k, v

    @staticmethod
    def _per_head(mask: Tensor, query: Tensor) -> Tensor:
        """As scores (B,heads,L,K) broadcast, in the type of ``query`` where it is added to them."""
        mask = mask[:, None] if mask.dim() == 3 else mask
        return mask.to(query.dtype) if mask.is_floating_point() else mask


class Block(nn.Module):
    """Pre-norm transformer block, optionally conditioned by AdaLN-zero (arXiv:2212.09748, section 3.2).

    A conditioned block is the identity at initialisation: its gates start at zero.

    Args:
        width: D.
        heads, head_dim, dropout: see :class:`Attention`.
        mlp_ratio: hidden width of the MLP over D.
        condition_dim: C; None for an unconditioned block.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        condition_dim: int | None = None,
        head_dim: int | None = None,
    ):
        super().__init__()
        affine = condition_dim is None
        hidden = int(width * mlp_ratio)
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=affine)
        self.attention = Attention(width, heads, head_dim, dropout)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=affine)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        self.modulation = None
        if condition_dim is not None:
            self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(condition_dim, 6 * width))
            nn.init.zeros_(self.modulation[1].weight)
            nn.init.zeros_(self.modulation[1].bias)

    def forward(self, x: Tensor, condition: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """(B,L,D) -> (B,L,D), given ``condition`` (B,L,C) or (B,C) and ``mask`` as in :class:`Attention`."""
        if (condition is None) != (self.modulation is None):
            raise ValueError(
                "this block has no condition_dim, so it takes no condition; build it with condition_dim"
                if self.modulation is None
                else "this block was built with condition_dim, so forward needs a condition"
            )
        if self.modulation is None:
            x = x + self.attention(self.norm1(x), mask)
            return x + self.mlp(self.norm2(x))
        if condition.dim() == 2:
            condition = condition[:, None]
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1, mask)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class Transformer(nn.Module):
    """A stack of :class:`Block` and a final LayerNorm; arguments as there."""

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        condition_dim: int | None = None,
        head_dim: int | None = None,
    ):
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio, dropout, condition_dim, head_dim) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, condition: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """(B,L,D) -> (B,L,D); ``condition`` and ``mask`` as in :meth:`Block.forward`."""
        for block in self.blocks:
            x = block(x, condition, mask)
        return self.norm(x)


class CrossBlock(Block):
    """A pre-norm :class:`Block` that looks at a context between its attention and its MLP (arXiv:1706.03762, 3.1).

    Args:
        width: D, of the context too.
        heads, mlp_ratio, dropout: see :class:`Block`.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0, dropout: float = 0.0):
        super().__init__(width, heads, mlp_ratio, dropout)
        self.cross_norm = nn.LayerNorm(width, eps=1e-6)
        self.cross = Attention(width, heads, dropout=dropout)

    def forward(
        self, x: Tensor, context: Tensor, mask: Tensor | None = None, context_mask: Tensor | None = None
    ) -> Tensor:
        """(B,L,D), (B,K,D) -> (B,L,D), given masks as in :class:`Attention`, of ``x`` and of the context."""
        x = x + self.attention(self.norm1(x), mask)
        x = x + self.cross(self.cross_norm(x), context_mask, context)
        return x + self.mlp(self.norm2(x))


def sincos_embedding(coords: Tensor, width: int, max_period: float = 10_000.0) -> Tensor:
    """Fixed sines and cosines of any number of coordinates (arXiv:1706.03762, section 3.5).

    Each of the C coordinates gets width // (2 C) frequencies from 1 down to 1 / max_period radians per unit; columns
    left over are zero.

    Args:
        coords: (...,C), in units where neighbours are about 1 apart (patch rows and columns, steps).
        width: D >= 2 C.

    Returns:
        float32 (...,D).
    """
    num_coords = coords.shape[-1]
    num_frequencies = width // (2 * num_coords)
    if num_frequencies == 0:
        raise ValueError(f"width must be >= 2 per coordinate ({2 * num_coords}), got {width}")
    exponent = torch.arange(num_frequencies, device=coords.device, dtype=torch.float32) / num_frequencies
    angle = coords.float()[..., None] * max_period**-exponent
    waves = torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(-2)
    return F.pad(waves, (0, width - waves.shape[-1]))


class SinCosCoordinates(nn.Module):
    """:func:`sincos_embedding` as a module: (...,C) -> (...,D), nothing learned."""

    def __init__(self, width: int, max_period: float = 10_000.0):
        super().__init__()
        self.width = width
        self.max_period = max_period

    def forward(self, coords: Tensor) -> Tensor:
        return sincos_embedding(coords, self.width, self.max_period)


class LearnedCoordinates(nn.Module):
    """Learned embedding of coordinates (...,C) -> (...,D): linear, or an MLP with one hidden layer.

    Biases start at 0: a constant would be most of the embedding, and hide at first where a token is.

    Args:
        num_coords: C.
        width: D.
        hidden: width of the hidden layer (GELU); None for a linear map.
    """

    def __init__(self, num_coords: int, width: int, hidden: int | None = None):
        super().__init__()
        if hidden is None:
            self.map = nn.Linear(num_coords, width)
        else:
            self.map = nn.Sequential(nn.Linear(num_coords, hidden), nn.GELU(), nn.Linear(hidden, width))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, coords: Tensor) -> Tensor:
        return self.map(coords)
