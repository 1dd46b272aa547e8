"""What every sampler returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from worldjepa.types import TokenSet


@dataclass(frozen=True)
class Masks:
    """One context and M targets per sample.

    Attributes:
        context: bool (B,P) tokens the prediction may use: all pinned ones, no padding, no token of a target.
        targets: bool (B,M,P) tokens to predict, M sets of them; sets may overlap each other.
    """

    context: Tensor
    targets: Tensor


class Sampler(Protocol):
    """Draws masks; ``progress`` in [0, 1] is the share of training done, for curricula."""

    def __call__(self, tokens: TokenSet, generator: torch.Generator, progress: float) -> Masks: ...
