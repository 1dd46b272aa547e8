"""A pyramid of convolutional features, MC-JEPA's encoder (arXiv:2307.12698); a global latent or tokens on top of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from worldjepa.layers import batchnorm_mlp
from worldjepa.normalizer import ColorNormalizer
from worldjepa.types import Observation


class Pyramid(nn.Module):
    """Pictures of any size -> features at strides 2, 4, 8, ...: ConvNeXt blocks (arXiv:2201.03545) at every level.

    The stem of stride 4 is split into two convolutions of stride 2, as MC-JEPA does, so that flow has a level at 2. The
    blocks are thinner than ConvNeXt's, for CPUs: kernels of 5 instead of 7, MLPs twice as wide instead of four times.

    Args:
        widths: channels of each level, the finest first.
        depths: ConvNeXt blocks of each level; the finest are most of the work.
        kernel: of the blocks' depthwise convolutions, odd.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int], kernel: int = 5):
        super().__init__()
        if len(widths) != len(depths) or not widths or kernel % 2 == 0:
            raise ValueError(
                f"a pyramid needs one width and one depth per level and an odd kernel, got widths {list(widths)}, "
                f"depths {list(depths)} and kernel {kernel}"
            )
        self.widths = tuple(widths)
        self.levels = nn.ModuleList()
        channels = 3
        for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            # Both put the middle of a cell between its four pixels, where flow and smaller pictures have it too.
            down = nn.Conv2d(channels, width, 2, 2) if level else nn.Conv2d(channels, width, 4, 2, 1)
            self.levels.append(nn.Sequential(down, ChannelNorm(width), *(Block(width, kernel) for _ in range(depth))))
            channels = width

    @property
    def stride(self) -> int:
        """Of the coarsest level."""
        return 2 ** len(self.widths)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Normalised (N,3,height,width) -> every level's (N,C_l,height_l,width_l), finest first.

        Raises:
            ValueError: height or width is not divisible by ``stride``.
        """
        if pictures.shape[-1] % self.stride or pictures.shape[-2] % self.stride:
            raise ValueError(
                f"{len(self.widths)} levels need pictures with sides divisible by {self.stride}, "
                f"got {tuple(pictures.shape[-2:])}; pad them or take fewer encoder.widths"
            )
        found = []
        for level in self.levels:
            pictures = level(pictures)
            found.append(pictures)
        return found


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (N,C,height,width)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """ConvNeXt: a depthwise convolution, LayerNorm, and an MLP at every place, added to what came in."""

    def __init__(self, width: int, kernel: int, ratio: int = 2):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width))

    def forward(self, x: Tensor) -> Tensor:
        places = self.depthwise(x).permute(0, 2, 3, 1)
        return x + self.mlp(self.norm(places)).permute(0, 3, 1, 2)


class PyramidEncoder(nn.Module):
    """Pictures of any size -> the mean of a pyramid's coarsest features: one global latent per frame (P = 1).

    Args:
        widths, depths, kernel: see :class:`Pyramid`.
        init: folder of a run whose pyramid training starts from, see :func:`worldjepa.checkpoint.start_from`.
        image_size: height = width, divisible by 2 per level, where only one size will do; None takes all.
    """

    num_tokens = 1

    def __init__(
        self,
        widths: Sequence[int] = (24, 32, 64, 96),
        depths: Sequence[int] = (1, 1, 1, 1),
        kernel: int = 5,
        init: str | None = None,
        image_size: int | None = None,
    ):
        super().__init__()
        self.init = init
        self.normalizer = ColorNormalizer(image_size)
        self.pyramid = Pyramid(widths, depths, kernel)
        if image_size is not None and image_size % self.pyramid.stride:
            raise ValueError(
                f"image_size must be divisible by {self.pyramid.stride}, got {image_size}; take fewer encoder.widths"
            )
        self.latent_dim = widths[-1]

    def features(self, obs: Observation) -> list[Tensor]:
        """``obs["pixels"]`` uint8 (B,T,3,height,width) -> every level's (B*T,C_l,height_l,width_l), finest first."""
        return self.pyramid(self.normalizer(obs["pixels"]))

    def forward(self, obs: Observation) -> Tensor:
        """``obs["pixels"]`` uint8 (B,T,3,height,width) -> (B,T,1,D)."""
        pooled = self.features(obs)[-1].mean((-1, -2))
        return rearrange(pooled, "(b t) d -> b t 1 d", b=len(obs["pixels"]))


class PyramidLatent(PyramidEncoder):
    """Pictures of one size -> one global latent per frame that knows where things are: an MLP on the coarsest features.

    Args:
        image_size: height = width, divisible by 2 per level.
        latent_dim: D.
        widths, depths, kernel, init: see :class:`PyramidEncoder`.
        hidden: width of the MLP's hidden layer.
    """

    def __init__(
        self,
        image_size: int = 64,
        latent_dim: int = 32,
        widths: Sequence[int] = (24, 32, 64, 96),
        depths: Sequence[int] = (1, 1, 1, 1),
        kernel: int = 5,
        hidden: int = 512,
        init: str | None = None,
    ):
        super().__init__(widths, depths, kernel, init, image_size)
        self.latent_dim = latent_dim
        cells = (image_size // self.pyramid.stride) ** 2
        self.head = nn.Sequential(nn.Flatten(), *batchnorm_mlp(widths[-1] * cells, (hidden, latent_dim)))

    def forward(self, obs: Observation) -> Tensor:
        """``obs["pixels"]`` uint8 (B,T,3,height,width) -> (B,T,1,D)."""
        return rearrange(self.head(self.features(obs)[-1]), "(b t) d -> b t 1 d", b=len(obs["pixels"]))


class PyramidTokens(PyramidEncoder):
    """Pictures of one size -> one token per cell of the coarsest features, for models that attend to places.

    Args:
        image_size: height = width, divisible by 2 per level.
        latent_dim: D.
        widths, depths, kernel, init: see :class:`PyramidEncoder`.

    Attributes:
        coords: (P,2) row and column of each token's cell.
    """

    def __init__(
        self,
        image_size: int = 96,
        latent_dim: int = 128,
        widths: Sequence[int] = (24, 32, 64, 96),
        depths: Sequence[int] = (1, 1, 1, 1),
        kernel: int = 5,
        init: str | None = None,
    ):
        super().__init__(widths, depths, kernel, init, image_size)
        cells = torch.arange(image_size // self.pyramid.stride)
        self.num_tokens, self.latent_dim = len(cells) ** 2, latent_dim
        self.project = nn.Conv2d(widths[-1], latent_dim, 1)
        self.register_buffer("coords", torch.cartesian_prod(cells, cells).float(), persistent=False)

    def forward(self, obs: Observation) -> Tensor:
        """``obs["pixels"]`` uint8 (B,T,3,height,width) -> (B,T,P,D)."""
        cells = self.project(self.features(obs)[-1])
        return rearrange(cells, "(b t) d h w -> b t (h w) d", b=len(obs["pixels"]))
