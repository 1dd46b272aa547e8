"""Optical flow from two pyramids of features, coarse to fine: MC-JEPA's motion half (arXiv:2307.12698).

The design is PWC-Net's (arXiv:1709.02371): at each level the second picture's features are warped by the flow so far,
compared with the first's around every place, and a few convolutions say what is left to move.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from worldjepa.encoders.pyramid import ChannelNorm
from worldjepa.motion import correlation, resize_flow, warp


class FlowPredictor(nn.Module):
    """Features of two pictures -> flow at every level.

    Args:
        widths: channels of the pyramid's levels, finest first.
        radius: of the comparison at each level, px of that level.
        hidden: channels of the convolutions at each level; the last are handed to the next finer level.
        largest: flow is clipped to this share of the picture's longer side.
    """

    def __init__(
        self, widths: Sequence[int], radius: int = 3, hidden: Sequence[int] = (48, 32, 24), largest: float = 0.25
    ):
        super().__init__()
        self.radius, self.largest = radius, largest
        self.levels = nn.ModuleList()
        for level, width in enumerate(widths):
            coarsest = level == len(widths) - 1
            channels = (2 * radius + 1) ** 2 + width + (0 if coarsest else 2 + hidden[-1])
            self.levels.append(LevelFlow(channels, hidden))

    def forward(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
        """Pyramids of two pictures, each (N,C_l,height_l,width_l), finest first -> flows (N,2,height_l,width_l).

        Each in px of its level, float32, finest first.
        """
        flow = carried = None
        flows = []
        for level, x, y in zip(reversed(self.levels), reversed(first), reversed(second), strict=True):
            size = x.shape[-2:]
            x, y = standardised(x), standardised(y)
            if flow is None:
                flow = x.new_zeros(len(x), 2, *size)
                said, carried = level(torch.cat([correlation(x, y, self.radius), x], 1))
            else:
                flow = resize_flow(flow, size)
                carried = nn.functional.interpolate(carried, size=size)
                likeness = correlation(x, warp(y, flow), self.radius)
                said, carried = level(torch.cat([likeness, x, flow, carried], 1))
            limit = self.largest * max(size)
            flow = (flow + said.float()).clamp(-limit, limit)
            flows.append(flow)
        return flows[::-1]


class LevelFlow(nn.Module):
    """One level's convolutions: LayerNorm after each but the last."""

    def __init__(self, channels: int, hidden: Sequence[int]):
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Conv2d(channels, width, 3, 1, 1), ChannelNorm(width), nn.GELU()]
            channels = width
        self.trunk = nn.Sequential(*layers)
        self.say = nn.Conv2d(channels, 2, 3, 1, 1)
        nn.init.normal_(self.say.weight, std=1e-3)
        nn.init.zeros_(self.say.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N,channels,height,width) -> what is left to move (N,2,...) in px, and features (N,hidden[-1],...)."""
        features = self.trunk(x)
        return self.say(features), features


def standardised(x: Tensor) -> Tensor:
    """Features (N,C,height,width) of zero mean and unit spread within each picture: comparisons have one scale."""
    x = x.float()
    spread = x.var((1, 2, 3), keepdim=True)
    return (x - x.mean((1, 2, 3), keepdim=True)) * (spread + 1e-4).rsqrt()
