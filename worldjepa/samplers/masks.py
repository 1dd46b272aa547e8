"""What every sampler returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from worldjepa.targets import Target
from worldjepa.types import TokenSet

Range = tuple[float, float]


def share_range(name: str, share: Range, whole: bool = True) -> Range:
    """A range of shares as a tuple, checked: all of something (1) may be among them, unless ``whole`` is False.

    Raises:
        ValueError: no such range.
    """
    low, high = share
    if not 0 < low <= high <= 1 or (high == 1 and not whole):
        raise ValueError(f"{name} must be 0 < low <= high {'<=' if whole else '<'} 1, got ({low}, {high})")
    return low, high


def check_counts(**counts: int) -> None:
    """
    Raises:
        ValueError: one of them is below 1: without a target or a context there is nothing to predict.
    """
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be >= 1, got {count}")


@dataclass(frozen=True)
class Masks:
    """One context and M targets per row; R rows are B samples, or R / B neighbouring rows are of one sample.

    Attributes:
        context: bool (R,P) tokens the prediction may use: all pinned ones, no padding, no token of a target.
        targets: bool (R,M,P) tokens to predict, M sets of them; sets may overlap each other.
    """

    context: Tensor
    targets: Tensor


class Sampler(Protocol):
    """Draws masks for B samples.

    ``progress`` in [0, 1] is the share of training done, for curricula; ``target`` is the system's target, for samplers
    that ask the teacher what matters. The random numbers of a sample must not depend on the tokens' values.
    """

    def __call__(self, tokens: TokenSet, generator: torch.Generator, progress: float, target: Target) -> Masks: ...
