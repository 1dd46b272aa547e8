"""The short training of a head or a decoder from labels, which only a judgement needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn


def fit(
    weights: Iterable[nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    num_samples: int,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    weight_decay: float = 0.01,
    gradient_clip: float = 1.0,
) -> None:
    """Trains ``weights`` in place by AdamW, whose rate falls to 0 by a cosine.

    Args:
        loss: numbers of a batch's samples int64 (batch_size,), on the CPU -> scalar.
        num_samples: that batches are drawn from, with replacement.
        seed: of the batches.
    """
    weights = list(weights)
    optimizer = torch.optim.AdamW(weights, learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        error = loss(torch.from_numpy(rng.integers(num_samples, size=batch_size)))
        optimizer.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(weights, gradient_clip)
        optimizer.step()
        schedule.step()
