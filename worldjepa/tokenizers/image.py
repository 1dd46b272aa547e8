"""Pictures cut into square patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldjepa.types import Observation, TokenSet


class ImageTokenizer(nn.Module):
    """``pixels`` -> one token per patch, coordinates (row, column) counted in patches.

    A token depends on its own patch alone, so that hiding a token hides its pixels.

    Args:
        image_size: height and width of the pictures, in pixels.
        patch_size: side of a patch, in pixels.
        channels: colours of a picture.
        num_pinned: tokens without content put in front (CLS), at coordinate (-1, -1); the encoder learns them.
        mean, std: pixels in [0, 1] become (pixel - mean) / std; :meth:`fit` takes those of data.
        normalize_patches: scale every patch to mean 0 and variance 1 on its own, after the above.
    """

    takes = ("pixels",)

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        channels: int = 3,
        num_pinned: int = 0,
        mean: float = 0.5,
        std: float = 0.25,
        normalize_patches: bool = False,
    ):
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"image_size must be a multiple of patch_size ({patch_size}), got {image_size}")
        self.image_size = image_size
        self.patch_size = patch_size
        self.channels = channels
        self.num_pinned = num_pinned
        self.normalize_patches = normalize_patches
        side = image_size // patch_size
        self.num_tokens = num_pinned + side**2
        self.token_dim = channels * patch_size**2
        grid = torch.cartesian_prod(torch.arange(float(side)), torch.arange(float(side)))
        coords = torch.cat([torch.full((num_pinned, 2), -1.0), grid.view(-1, 2)])
        self.register_buffer("coords", coords, persistent=False)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def fit(self, observation: Observation) -> None:
        """Takes one mean and standard deviation of all ``pixels``, see ``forward``."""
        pixels = observation["pixels"].float() / 255
        self.mean.copy_(pixels.mean())
        self.std.copy_(pixels.std().clamp_min(1e-3))

    def forward(self, observation: Observation) -> TokenSet:
        """``pixels`` uint8 (B,channels,height,width) -> values (B,P,token_dim), P = num_pinned + patches."""
        pixels: Tensor = observation["pixels"]
        expected = (self.channels, self.image_size, self.image_size)
        if pixels.dim() != 4 or tuple(pixels.shape[1:]) != expected or pixels.dtype != torch.uint8:
            raise ValueError(
                f"pixels must be uint8 (B, {', '.join(map(str, expected))}), got {pixels.dtype} {tuple(pixels.shape)}; "
                "resize the pictures or set image_size and channels"
            )
        return self.cut((pixels.float() / 255 - self.mean) / self.std)

    def cut(self, picture: Tensor) -> TokenSet:
        """As ``forward``, of pictures that are normalised already: float (B,channels,height,width)."""
        values = rearrange(picture, "b c (i p) (j q) -> b (i j) (c p q)", p=self.patch_size, q=self.patch_size)
        if self.normalize_patches:
            values = F.layer_norm(values, (self.token_dim,), eps=1e-3)  # a blank patch stays near zero
        values = F.pad(values, (0, 0, self.num_pinned, 0))
        valid = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        pinned = torch.arange(self.num_tokens, device=values.device) < self.num_pinned
        return TokenSet(values, self.coords, valid, pinned)
