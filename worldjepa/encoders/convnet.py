"""A plain strided convnet: the baseline every other encoder is compared with."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from worldjepa.layers import batchnorm_mlp
from worldjepa.normalizer import PixelNormalizer
from worldjepa.types import Observation


def strided_trunk(widths: tuple[int, ...], stem_stride: int = 2) -> nn.Sequential:
    """Convolution, BatchNorm and ReLU per width: the first with ``stem_stride``, the others with stride 2.

    Kernels are twice the stride wide, so that windows overlap by half. A stem of stride 4 costs less than half of two
    convolutions of stride 2, whose large first maps are most of the work.
    """
    layers: list[nn.Module] = []
    channels, stride = 3, stem_stride
    for width in widths:
        layers += [
            nn.Conv2d(channels, width, 2 * stride, stride, stride // 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        channels, stride = width, 2
    return nn.Sequential(*layers)


class ConvEncoder(nn.Module):
    """Pictures -> one global latent per frame (P = 1).

    Args:
        image_size: height = width, divisible by the trunk's stride, ``stem_stride * 2 ** (len(widths) - 1)``.
        latent_dim: D.
        widths, stem_stride: of the convolutions, see :func:`strided_trunk`.
        hidden: width of the head's hidden layer.
    """

    num_tokens = 1

    def __init__(
        self,
        image_size: int = 64,
        latent_dim: int = 32,
        widths: tuple[int, ...] = (24, 64, 128, 128),
        hidden: int = 512,
        stem_stride: int = 2,
    ):
        super().__init__()
        stride = stem_stride * 2 ** (len(widths) - 1)
        if image_size % stride:
            raise ValueError(f"image_size must be divisible by {stride}, got {image_size}; change encoder.widths")
        self.latent_dim = latent_dim
        self.normalizer = PixelNormalizer(image_size)
        self.trunk = strided_trunk(tuple(widths), stem_stride)
        cells = (image_size // stride) ** 2
        self.head = nn.Sequential(nn.Flatten(), *batchnorm_mlp(widths[-1] * cells, (hidden, latent_dim)))

    def forward(self, obs: Observation) -> Tensor:
        """``obs["pixels"]`` uint8 (B,T,3,height,width) -> (B,T,1,D)."""
        pixels = obs["pixels"]
        latent = self.head(self.trunk(self.normalizer(pixels)))
        return rearrange(latent, "(b t) d -> b t 1 d", b=pixels.shape[0])
