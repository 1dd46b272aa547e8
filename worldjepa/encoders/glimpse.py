"""The glimpse encoder: *where* things are, and *what* is there in a frame that moves along.

A small trunk finds K keypoints by spatial softmax (where). Around each keypoint a window of the picture is resampled
bilinearly, so that gradients reach the position, and a shared convnet describes it in a few numbers (what). Because
*what* is measured relative to *where*, its variance cannot be filled with nonlinear functions of position, the place
where global encoders trained with a latent-space objective stay blind to orientation. Spatial softmax:
arXiv:1509.06113; differentiable windows: arXiv:1506.02025.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldjepa.encoders.convnet import strided_trunk
from worldjepa.normalizer import PixelNormalizer
from worldjepa.types import Observation

# A keypoint that roams the middle of the picture has a standard deviation of about 0.45 in [-1, 1] coordinates.
WHERE_SCALE = 2.2


def _grid(size: int, reach: float = 1.0) -> Tensor:
    """(size, size, 2) of x, y in [-reach, reach]."""
    axis = torch.linspace(-reach, reach, size)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)


class GlimpseEncoder(nn.Module):
    """Pictures -> K glimpses of ``2 + what_dim`` numbers: keypoint x, y (scaled to unit variance), then content.

    Args:
        image_size: height = width, divisible by the trunk's stride ``stem_stride * 2 ** (len(trunk_widths) - 1)``.
        num_glimpses: K.
        what_dim: numbers that describe the content of one window.
        window: half-width of a window as a share of the picture's half-width, 0..1.
        window_size: pixels the window is resampled to.
        trunk_widths, stem_stride: channels of the trunk's convolutions and the stride of the first; the others have
            stride 2. Keypoints are found on maps of ``image_size / stride``, 16 x 16 is a good size.
        keypoint_widths: channels of the 3x3 convolutions before the keypoint maps.
        window_widths: channels of the two stride-2 convolutions on windows.
        window_hidden: hidden width of the per-glimpse head.
        as_tokens: True gives P = K tokens of D = 2 + what_dim; False one token of D = K * (2 + what_dim).
    """

    def __init__(
        self,
        image_size: int = 64,
        num_glimpses: int = 6,
        what_dim: int = 6,
        window: float = 0.42,
        window_size: int = 14,
        trunk_widths: tuple[int, ...] = (16, 48),
        stem_stride: int = 2,
        keypoint_widths: tuple[int, ...] = (64,),
        window_widths: tuple[int, int] = (24, 32),
        window_hidden: int = 96,
        as_tokens: bool = False,
    ):
        super().__init__()
        stride = stem_stride * 2 ** (len(trunk_widths) - 1)
        if image_size % stride:
            raise ValueError(f"image_size must be divisible by {stride}, got {image_size}; change encoder.trunk_widths")
        if not 0 < window <= 1:
            raise ValueError(f"window must be in (0, 1], got {window}; it is a share of the picture's half-width")
        self.num_glimpses, self.what_dim, self.window, self.window_size = num_glimpses, what_dim, window, window_size
        token_dim = 2 + what_dim
        self.as_tokens = as_tokens
        self.num_tokens, self.latent_dim = (num_glimpses, token_dim) if as_tokens else (1, num_glimpses * token_dim)
        self.normalizer = PixelNormalizer(image_size)
        self.trunk = strided_trunk(tuple(trunk_widths), stem_stride)
        layers: list[nn.Module] = []
        for channels, width in pairwise((trunk_widths[-1], *keypoint_widths)):
            layers += [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.keypoint_maps = nn.Sequential(*layers, nn.Conv2d(keypoint_widths[-1], num_glimpses, 1))
        self.temperature = nn.Parameter(torch.tensor(3.0))
        first, second = window_widths
        self.window_trunk = nn.Sequential(
            nn.Conv2d(3, first, 4, 2, 1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, second, 3, 2, 1, bias=False),
            nn.BatchNorm2d(second),
            nn.ReLU(inplace=True),
        )
        # A 4x4 stride-2 then a 3x3 stride-2 convolution, both with padding 1.
        features = second * ((window_size // 2 + 1) // 2) ** 2
        self.what_in = nn.Parameter(torch.randn(num_glimpses, features, window_hidden) / features**0.5)
        self.what_norm = nn.BatchNorm1d(num_glimpses * window_hidden)
        self.what_out = nn.Parameter(torch.randn(num_glimpses, window_hidden, what_dim) / window_hidden**0.5)
        # Where the maps' cells have their centres, in the coordinates of ``grid_sample``: +-1 are the centres of the
        # border pixels. So an object that moves by whole cells carries its window along exactly.
        reach = (image_size - stride) / (image_size - 1)
        self.register_buffer("map_grid", _grid(image_size // stride, reach).flatten(0, 1), persistent=False)
        self.register_buffer("window_grid", _grid(window_size), persistent=False)

    def where(self, picture: Tensor) -> Tensor:
        """Normalised pictures (N,3,height,width) -> keypoints (N,K,2), x and y in [-1, 1]."""
        maps = self.keypoint_maps(self.trunk(picture)).flatten(2)
        # Positions are sums of products: float32, whatever the autocast type, or keypoints jitter by whole pixels.
        with torch.autocast(picture.device.type, enabled=False):
            return (maps.float() * self.temperature).softmax(-1) @ self.map_grid

    def what(self, picture: Tensor, keypoints: Tensor) -> Tensor:
        """Pictures (N,3,height,width) and keypoints (N,K,2) -> content (N,K,what_dim)."""
        n, k, size = len(picture), self.num_glimpses, self.window_size
        grid = keypoints[:, :, None, None] + self.window * self.window_grid
        windows = F.grid_sample(picture, rearrange(grid, "n k h w c -> n (k h) w c"), align_corners=True)
        windows = rearrange(windows, "n c (k h) w -> (n k) c h w", k=k, h=size)
        features = self.window_trunk(windows.contiguous(memory_format=torch.channels_last))
        features = rearrange(features, "(n k) c h w -> n k (c h w)", n=n)
        hidden = torch.einsum("nkf,kfh->nkh", features, self.what_in)
        hidden = F.relu(self.what_norm(rearrange(hidden, "n k h -> n (k h)")))
        hidden = rearrange(hidden, "n (k h) -> n k h", k=k)
        return torch.einsum("nkh,khq->nkq", hidden, self.what_out.to(hidden.dtype))

    def forward(self, obs: Observation) -> Tensor:
        """``obs["pixels"]`` uint8 (B,T,3,height,width) -> (B,T,P,D), see ``as_tokens``."""
        pixels = obs["pixels"]
        picture = self.normalizer(pixels)
        keypoints = self.where(picture)
        content = self.what(picture, keypoints).float()
        tokens = torch.cat([WHERE_SCALE * keypoints, content], -1)
        if not self.as_tokens:
            tokens = rearrange(tokens, "n k d -> n 1 (k d)")
        return rearrange(tokens, "(b t) p d -> b t p d", b=pixels.shape[0])
