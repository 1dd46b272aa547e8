"""Statistics of the data, kept as buffers so that they are saved inside the model and never drift from it."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn


class PixelNormalizer(nn.Module):
    """Subtracts the mean *picture* of the data, so that what never changes (walls, target zone) is zero.

    Args:
        image_size: height = width of the pictures.
        scale: grey levels that become 1; the default is about the spread of a moving object on its background.
    """

    def __init__(self, image_size: int, scale: float = 60.0):
        super().__init__()
        self.image_size = image_size
        self.scale = scale
        self.register_buffer("mean", torch.full((3, image_size, image_size), 127.5))

    def fit(self, mean_picture: Tensor) -> None:
        """Takes the mean picture (3,height,width), grey levels 0..255."""
        self.mean.copy_(mean_picture)

    def forward(self, pixels: Tensor) -> Tensor:
        """Grey levels (B,T,3,height,width), uint8 or float -> float32 (B*T,3,height,width), zero mean, order one."""
        size = ("height", "width") if self.image_size is None else (self.image_size, self.image_size)
        if pixels.ndim != 5 or pixels.shape[2] != 3 or (self.image_size and tuple(pixels.shape[-2:]) != size):
            raise ValueError(
                f"pixels: expected uint8 (B,T,3,{size[0]},{size[1]}), got {tuple(pixels.shape)}; "
                "render the environment at the size the model was trained on"
            )
        # In place after the conversion: at thousands of pictures a second every pass over them counts.
        pictures = rearrange(pixels, "b t c h w -> (b t) c h w").to(torch.float32, copy=True)
        return pictures.sub_(self.mean).mul_(1 / self.scale)


class ColorNormalizer(PixelNormalizer):
    """Subtracts the data's mean *colour*, the same everywhere: for encoders of pictures of any size.

    Args:
        image_size: height = width, where what follows takes one size alone; None takes all.
        scale: grey levels that become 1.
    """

    def __init__(self, image_size: int | None = None, scale: float = 60.0):
        super().__init__(1, scale)  # a mean picture of one pixel is a colour
        self.image_size = image_size

    def fit(self, mean_picture: Tensor) -> None:
        """Takes the mean picture (3,height,width), grey levels 0..255."""
        self.mean.copy_(mean_picture.mean((1, 2), keepdim=True))


class ActionNormalizer(nn.Module):
    """Between raw actions in the environment's units and model actions of about unit variance.

    A model action is a block of ``frameskip`` raw actions in order of time, ``A = frameskip * raw_action_dim``.

    Args:
        action_low, action_high: bounds of a raw action.
        frameskip: raw actions in one model action.
    """

    def __init__(self, action_low: tuple[float, ...], action_high: tuple[float, ...], frameskip: int):
        super().__init__()
        if frameskip < 1:
            raise ValueError(f"frameskip must be >= 1, got {frameskip}; set env.frameskip")
        self.frameskip = frameskip
        self.raw_action_dim = len(action_low)
        raw_low, raw_high = torch.tensor(action_low), torch.tensor(action_high)
        self.register_buffer("center", torch.zeros(self.raw_action_dim))
        self.register_buffer("scale", torch.ones(self.raw_action_dim))
        self.register_buffer("raw_low", raw_low.float(), persistent=False)
        self.register_buffer("raw_high", raw_high.float(), persistent=False)

    def fit(self, mean: Tensor, std: Tensor) -> None:
        """Takes mean and standard deviation (raw_action_dim,) of the training actions."""
        if not bool((std > 0).all()):
            raise ValueError(f"action std must be > 0, got {std.tolist()}; the data never acts in some dimension")
        self.center.copy_(mean)
        self.scale.copy_(std)

    @property
    def low(self) -> Tensor:
        """(A,) lower bounds of a model action."""
        return ((self.raw_low - self.center) / self.scale).repeat(self.frameskip)

    @property
    def high(self) -> Tensor:
        """(A,) upper bounds of a model action."""
        return ((self.raw_high - self.center) / self.scale).repeat(self.frameskip)

    def forward(self, raw: Tensor) -> Tensor:
        """(...,A) blocks of raw actions -> (...,A) model actions."""
        return (raw - self.center.repeat(self.frameskip)) / self.scale.repeat(self.frameskip)

    def inverse(self, action: Tensor) -> Tensor:
        """(...,A) model actions -> (...,A) blocks of raw actions."""
        return action * self.scale.repeat(self.frameskip) + self.center.repeat(self.frameskip)
