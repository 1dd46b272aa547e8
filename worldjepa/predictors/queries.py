"""Learned queries that read a context: what follows, asked for step by step."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from worldjepa.layers import CrossBlock


class QueryPredictor(nn.Module):
    """One learned query per output looks at the context (DETR's decoder, arXiv:2005.12872; ACT, arXiv:2304.13705).

    Args:
        context_dim: width of the context's tokens.
        num_queries: Q, outputs.
        out_dim: numbers per output.
        width, depth, heads, mlp_ratio, dropout: of the decoder; narrow ones keep prediction from doing the
            encoder's work.
    """

    def __init__(
        self,
        context_dim: int,
        num_queries: int,
        out_dim: int,
        width: int = 128,
        depth: int = 1,
        heads: int = 4,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.enter = nn.Linear(context_dim, width)
        self.queries = nn.Parameter(0.02 * torch.randn(num_queries, width))
        self.blocks = nn.ModuleList(CrossBlock(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.leave = nn.Sequential(nn.LayerNorm(width, eps=1e-6), nn.Linear(width, out_dim))

    def forward(self, context: Tensor) -> Tensor:
        """(B,K,context_dim) -> (B,Q,out_dim)."""
        context = self.enter(context)
        x = self.queries.to(context.dtype).expand(len(context), -1, -1)
        for block in self.blocks:
            x = block(x, context)
        return self.leave(x)


class MlpPredictor(nn.Module):
    """All outputs at once from the mean of the context's latents.

    Args:
        context_dim, num_queries, out_dim: see :class:`QueryPredictor`.
        width, depth: of the hidden layers.
    """

    def __init__(self, context_dim: int, num_queries: int, out_dim: int, width: int = 512, depth: int = 2):
        super().__init__()
        sizes = [context_dim, *[width] * depth]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.GELU()]
        self.net = nn.Sequential(*layers, nn.Linear(sizes[-1], num_queries * out_dim))
        self.num_queries = num_queries

    def forward(self, context: Tensor) -> Tensor:
        """(B,K,context_dim) -> (B,num_queries,out_dim)."""
        return self.net(context.mean(1)).unflatten(-1, (self.num_queries, -1))
