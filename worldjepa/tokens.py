"""Subsets of tokens that differ from sample to sample, padded to one length."""

from __future__ import annotations

import torch
from torch import Tensor

from worldjepa.types import TokenSet


def positions(keep: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the True entries in order, padded to the longest row.

    Args:
        keep: bool (...,P).

    Returns:
        index: int64 (...,K), K the largest count of a row; padding points at tokens that are not kept.
        valid: bool (...,K), False marks padding.
    """
    count = keep.sum(-1, keepdim=True)
    longest = int(count.max())
    index = keep.int().argsort(dim=-1, descending=True, stable=True)[..., :longest]
    return index, torch.arange(longest, device=keep.device) < count


def some_of(allowed: Tensor, number: Tensor, chance: Tensor) -> Tensor:
    """bool (...,P): ``number`` (...) of the ``allowed`` ones, those of the least ``chance`` (...,P) in [0, 1)."""
    rank = chance.masked_fill(~allowed, 2.0).argsort(-1).argsort(-1)
    return (rank < number[..., None]) & allowed


def take(x: Tensor, index: Tensor) -> Tensor:
    """Rows of ``x`` (B,P,D) at ``index`` (B,...,K): (B,...,K,D)."""
    batch = torch.arange(len(x), device=x.device).view(-1, *[1] * (index.dim() - 1))
    return x[batch, index]


def mean_where(values: Tensor, counts: Tensor) -> Tensor:
    """(B,P,D), counts bool (B,P) -> (B,D), the mean of the tokens that count; 0 where none does."""
    counts = counts[..., None]
    return (values * counts).sum(1) / counts.sum(1).clamp_min(1)


def batched_coords(tokens: TokenSet) -> Tensor:
    """Coordinates as (B,P,C), also where all samples share one (P,C)."""
    return tokens.coords if tokens.coords.dim() == 3 else tokens.coords.expand(len(tokens.values), -1, -1)


def select(tokens: TokenSet, keep: Tensor) -> TokenSet:
    """The kept tokens of every sample, in their order, padded with zeros to the longest.

    Nothing of the other tokens is left in the result. Pinned tokens come first in a token set, so they stay first
    as long as every sample keeps them.

    Args:
        tokens: P tokens per sample.
        keep: bool (B,P); padding is dropped even if it is kept.
    """
    index, valid = positions(keep & tokens.valid)
    values = take(tokens.values, index).masked_fill(~valid[..., None], 0.0)
    coords = take(batched_coords(tokens), index).masked_fill(~valid[..., None], 0.0)
    return TokenSet(values, coords, valid, pinned=(tokens.pinned[index] & valid).all(0))
