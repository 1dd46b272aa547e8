"""Two views of one picture, which a content embedding should not tell apart.

VICReg's augmentations (arXiv:2105.04906), but that hues may turn all the way round, that colours always change and that
nothing is solarised: in small worlds colour alone would tell one picture from another.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = (0.299, 0.587, 0.114)


class PictureViews:
    """Random crops, mirrored or not, with other colours and now and then blurred; each picture draws its own.

    A whole batch at once on any device; torchvision's transforms draw one set of numbers for a batch.

    Args:
        crop: least and greatest share of the picture's area; sides in a ratio of 3:4 to 4:3.
        jitter: brightness, contrast and saturation change by up to this share.
        turn: of the hues, up to this share of the circle.
        grey, blur: probability of each.
    """

    def __init__(
        self,
        crop: tuple[float, float] = (0.4, 1.0),
        jitter: float = 0.4,
        turn: float = 0.5,
        grey: float = 0.2,
        blur: float = 0.3,
    ):
        if not 0 < crop[0] <= crop[1] <= 1:
            raise ValueError(f"crop must be two shares of the area, 0 < least <= greatest <= 1, got {tuple(crop)}")
        self.crop, self.jitter, self.turn, self.grey, self.blur = tuple(crop), jitter, turn, grey, blur

    def __call__(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 (M,3,height,width) -> float32 (2,M,3,height,width), grey levels in 0..255; ``generator`` is a CPU's."""
        twice = pictures.float().repeat(2, 1, 1, 1)
        views = self._recolored(self._cropped(twice, generator), generator)
        return self._blurred(views, generator).clamp(0, 255).unflatten(0, (2, len(pictures)))

    def _uniform(self, like: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
        """(M,1,1,1)."""
        drawn = torch.rand(len(like), 1, 1, 1, generator=generator)
        return (low + (high - low) * drawn).to(like.device)

    def _cropped(self, x: Tensor, generator: torch.Generator) -> Tensor:
        area = self._uniform(x, *self.crop, generator)
        ratio = self._uniform(x, -math.log(4 / 3), math.log(4 / 3), generator).exp()
        across, down = ((area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1))
        mirror = self._uniform(x, -1, 1, generator).sign()
        theta = torch.zeros(len(x), 2, 3, device=x.device)
        theta[:, 0, 0], theta[:, 1, 1] = (across * mirror).flatten(), down.flatten()
        theta[:, 0, 2] = ((1 - across) * self._uniform(x, -1, 1, generator)).flatten()
        theta[:, 1, 2] = ((1 - down) * self._uniform(x, -1, 1, generator)).flatten()
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _recolored(self, x: Tensor, generator: torch.Generator) -> Tensor:
        grey = x.new_tensor(GREY).view(1, 3, 1, 1)
        brightness, contrast, saturation = (
            self._uniform(x, 1 - self.jitter, 1 + self.jitter, generator) for _ in range(3)
        )
        saturation = saturation * (self._uniform(x, 0, 1, generator) >= self.grey)
        x = (x * brightness).clamp(0, 255)
        level = (x * grey).sum(1, keepdim=True).mean((-1, -2), keepdim=True)
        x = level + contrast * (x - level)
        luma = (x * grey).sum(1, keepdim=True)
        # Hues turn about the grey axis (Rodrigues): the cross product with (1, 1, 1) is a difference of channels.
        angle = 2 * math.pi * self.turn * self._uniform(x, -1, 1, generator)
        color = x - luma
        along = color.mean(1, keepdim=True)
        across = (color.roll(1, 1) - color.roll(-1, 1)) / math.sqrt(3)
        color = color * angle.cos() + across * angle.sin() + along * (1 - angle.cos())
        return luma + saturation * color

    def _blurred(self, x: Tensor, generator: torch.Generator) -> Tensor:
        height, width = x.shape[-2:]
        radius = max(1, round(min(height, width) / 32))
        taps = torch.arange(-radius, radius + 1, device=x.device)
        kernel = torch.exp(-(taps**2) / (2 * (radius / 2) ** 2))
        kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
        soft = F.conv2d(F.pad(x, (radius, radius, 0, 0), mode="replicate"), kernel, groups=3)
        soft = F.conv2d(F.pad(soft, (0, 0, radius, radius), mode="replicate"), kernel.transpose(-1, -2), groups=3)
        return torch.where(self._uniform(x, 0, 1, generator) < self.blur, soft, x)
