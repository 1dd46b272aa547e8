"""AD-L-JEPA's predictor: hidden cells of a bird's-eye view from the ones around them."""

from __future__ import annotations

from torch import Tensor, nn


class BevPredictor(nn.Sequential):
    """Three times a 3 x 3 convolution, BatchNorm and ReLU, as published; the last gives latents.

    Args:
        latent_dim: D.
        depth: how many times.
    """

    def __init__(self, latent_dim: int, depth: int = 3):
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [
                nn.Conv2d(latent_dim, latent_dim, 3, padding=1, bias=False),
                nn.BatchNorm2d(latent_dim),
                nn.ReLU(),
            ]
        super().__init__(*layers)

    def forward(self, bev: Tensor) -> Tensor:
        """(B,D,Y,X) -> (B,D,Y,X)."""
        return super().forward(bev)
