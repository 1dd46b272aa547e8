"""What becomes of a scene seen from above, by those who move in it; our own motion is left to geometry."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SceneMotion(nn.Module):
    """The next latents of all cells from those now and a step before, everything seen from one place.

    It begins as "nothing moves": the last convolution is zero.

    Args:
        latent_dim: D; latents are not negative.
        width: channels of the convolutions between.
        depth: how many of them; each looks a cell farther.
    """

    def __init__(self, latent_dim: int, width: int = 64, depth: int = 3):
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(depth):
            before = width if index else 2 * latent_dim
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.GroupNorm(8, width), nn.ReLU()]
        last = nn.Conv2d(width, latent_dim, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(*layers, last)

    def forward(self, before: Tensor, now: Tensor) -> Tensor:
        """(B,D,Y,X), (B,D,Y,X) -> (B,D,Y,X)."""
        return F.relu(now + self.net(torch.cat([before, now], 1)))

    def rollout(self, before: Tensor, now: Tensor, steps: int) -> Tensor:
        """The next ``steps`` of them, (B,K,D,Y,X), each from the two before it."""
        found = []
        for _ in range(steps):
            before, now = now, self(before, now)
            found.append(now)
        return torch.stack(found, 1)
