"""RankMe: how many dimensions an embedding really uses."""

from __future__ import annotations

import torch
from torch import Tensor


def rankme(embedding: Tensor) -> float:
    """Effective rank of ``embedding`` (N,D): the exponential of the entropy of its singular values.

    From 1 (collapsed; of zeros too) to min(N, D). Uncentred, Eq. 1 of arXiv:2210.02885, whose 1e-7 keeps the logarithm
    finite.
    """
    if embedding.dim() != 2:
        raise ValueError(f"embedding must be (N,D), got {tuple(embedding.shape)}; flatten the leading axes")
    sigma = torch.linalg.svdvals(embedding.detach().float())
    if not sigma.any():
        return 1.0
    p = sigma / sigma.sum() + 1e-7
    return float(torch.exp(-(p * p.log()).sum()))
