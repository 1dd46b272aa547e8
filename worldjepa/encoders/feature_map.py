"""Pictures -> one token per cell of a convolutional feature map, for models that attend to places."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from worldjepa.encoders.convnet import strided_trunk
from worldjepa.normalizer import PixelNormalizer
from worldjepa.types import Observation


class FeatureMapEncoder(nn.Module):
    """A trunk's feature map, mapped to latents by a 1x1 convolution.

    Args:
        trunk: (N,3,height,width) -> (N,channels,height / stride,width / stride), rounded up.
        image_size: height = width of the pictures.
        channels, stride: of the trunk.
        latent_dim: D.

    Attributes:
        coords: (P,2) row and column of each token's cell.
    """

    def __init__(self, trunk: nn.Module, image_size: int, channels: int, stride: int, latent_dim: int):
        super().__init__()
        cells = torch.arange(-(-image_size // stride))
        self.num_tokens, self.latent_dim = len(cells) ** 2, latent_dim
        self.normalizer = PixelNormalizer(image_size)
        self.trunk = trunk
        self.project = nn.Conv2d(channels, latent_dim, 1)
        self.register_buffer("coords", torch.cartesian_prod(cells, cells).float(), persistent=False)

    def forward(self, obs: Observation) -> Tensor:
        """``obs["pixels"]`` uint8 (B,T,3,height,width) -> (B,T,P,D)."""
        pixels = obs["pixels"]
        cells = self.project(self.trunk(self.normalizer(pixels)))
        return rearrange(cells, "(b t) d h w -> b t (h w) d", b=len(pixels))


class ConvTokens(FeatureMapEncoder):
    """Strided convolutions, see :func:`worldjepa.encoders.convnet.strided_trunk`.

    Args:
        image_size, latent_dim: see :class:`FeatureMapEncoder`.
        widths, stem_stride: of the trunk; its stride is ``stem_stride * 2 ** (len(widths) - 1)``.
    """

    def __init__(
        self,
        image_size: int = 96,
        latent_dim: int = 128,
        widths: tuple[int, ...] = (32, 64, 128, 128),
        stem_stride: int = 2,
    ):
        stride = stem_stride * 2 ** (len(widths) - 1)
        if image_size % stride:
            raise ValueError(f"image_size must be divisible by {stride}, got {image_size}; change encoder.widths")
        super().__init__(strided_trunk(tuple(widths), stem_stride), image_size, widths[-1], stride, latent_dim)


class ResNetTokens(FeatureMapEncoder):
    """torchvision's ResNet-18 (arXiv:1512.03385) from scratch, as in ACT (arXiv:2304.13705).

    Args:
        image_size, latent_dim: see :class:`FeatureMapEncoder`.
    """

    def __init__(self, image_size: int = 96, latent_dim: int = 512):
        from torchvision.models import resnet18

        trunk = nn.Sequential(*list(resnet18(weights=None).children())[:-2])
        super().__init__(trunk, image_size, channels=512, stride=32, latent_dim=latent_dim)
