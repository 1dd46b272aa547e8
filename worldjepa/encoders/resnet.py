"""ResNet-18, pooled to one global latent: seq-JEPA's own encoder at its own size."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from worldjepa.normalizer import PixelNormalizer
from worldjepa.types import Observation


class ResNetEncoder(nn.Module):
    """torchvision's ResNet-18 (arXiv:1512.03385) from scratch -> one global latent per frame (P = 1).

    Args:
        image_size: height = width. Up to 40 px the stem is a 3x3 convolution of stride 1 without pooling, as usual.
        latent_dim: D; 512 are the pooled features themselves, otherwise a linear map follows.
    """

    num_tokens = 1

    def __init__(self, image_size: int = 128, latent_dim: int = 512):
        super().__init__()
        from torchvision.models import resnet18

        self.latent_dim = latent_dim
        self.normalizer = PixelNormalizer(image_size)
        self.trunk = resnet18(weights=None)
        if image_size <= 40:
            self.trunk.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
            self.trunk.maxpool = nn.Identity()
        self.trunk.fc = nn.Identity() if latent_dim == 512 else nn.Linear(512, latent_dim)

    def forward(self, obs: Observation) -> Tensor:
        """``obs["pixels"]`` uint8 (B,T,3,height,width) -> (B,T,1,D)."""
        pixels = obs["pixels"]
        return rearrange(self.trunk(self.normalizer(pixels)), "(b t) d -> b t 1 d", b=len(pixels))
