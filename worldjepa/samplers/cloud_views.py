"""What may happen to a cloud of points that shall mean the same afterwards."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class TurnAndFlip:
    """Clouds turned about the vertical, mirrored left to right, and scaled a little, each by chance.

    Args:
        turn: greatest angle either way, degrees.
        scale: greatest change of size, as a share.
    """

    def __init__(self, turn: float = 45.0, scale: float = 0.05):
        if not 0 <= turn <= 180 or not 0 <= scale < 1:
            raise ValueError(f"turn must be 0..180 degrees and scale in [0, 1), got {turn} and {scale}")
        self.turn, self.scale = turn, scale

    def __call__(self, clouds: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Points (N_i,4) -> the same number of them."""
        changed = []
        for cloud, chance in zip(clouds, torch.rand(len(clouds), 3, generator=generator).tolist(), strict=True):
            angle = math.radians(self.turn) * (2 * chance[0] - 1)
            size = 1 + self.scale * (2 * chance[1] - 1)
            side = -1 if chance[2] < 0.5 else 1
            cos, sin = size * math.cos(angle), size * math.sin(angle)
            x, y, z, intensity = cloud.unbind(1)
            y = side * y
            changed.append(torch.stack([cos * x - sin * y, sin * x + cos * y, size * z, intensity], 1))
        return changed
