"""Distances between a prediction and its target: (...,D), (...,D) -> scalar, the mean over everything.

distance = make_distance("smooth_l1")
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]


def smooth_l1(prediction: Tensor, target: Tensor, beta: float = 1.0) -> Tensor:
    """Quadratic (x^2 / (2 beta)) for differences below ``beta``, then linear (|x| - beta / 2)."""
    return F.smooth_l1_loss(prediction, target, beta=beta)


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference."""
    return F.l1_loss(prediction, target)


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference."""
    return F.mse_loss(prediction, target)


def cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - cosine of the angle over the last axis: 0 for parallel, 2 for opposite vectors."""
    return (1 - F.cosine_similarity(prediction, target, dim=-1)).mean()


DISTANCES: dict[str, Distance] = {"smooth_l1": smooth_l1, "l1": l1, "mse": mse, "l2": mse, "cosine": cosine}


def make_distance(name: str, beta: float | None = None) -> Distance:
    """The distance called ``name``; ``beta`` belongs to ``smooth_l1`` alone."""
    if name not in DISTANCES:
        near = difflib.get_close_matches(name, DISTANCES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"distance must be one of {', '.join(DISTANCES)}, got {name!r}.{hint}")
    if beta is None:
        return DISTANCES[name]
    if name != "smooth_l1":
        raise ValueError(f"beta belongs to smooth_l1, got beta={beta} with {name!r}; remove it")
    return partial(smooth_l1, beta=beta)
