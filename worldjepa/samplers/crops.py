"""Several views of one picture: large crops that show most of it, and small ones."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from worldjepa.samplers.masks import Range, share_range
from worldjepa.types import Observation


class Crops:
    """Random crops, turned and shifted, darker or brighter; each view of each picture draws its own numbers.

    LeJEPA's views (arXiv:2511.08544) are 2 global and 6 local crops with changed colours, mirrored, blurred
    or solarised. Deviations: local crops are resized to the pictures' own size as global ones are (published: 98 of
    224 pixels), so that one tokenizer cuts all views; nothing is done to colours but brightness and contrast, nothing
    is mirrored, which would make other digits and letters, and nothing is blurred, which leaves little of 8 x 8 pixels.

    Args:
        num_global, num_local: views of each picture.
        global_area, local_area: range of a crop's area over the picture's.
        aspect: greatest ratio of a crop's sides.
        turn: rotation by up to this angle either way, degrees.
        shift: a crop's centre may move this far beyond where it would leave the picture, in shares of half a side.
        jitter: brightness and contrast change by up to this share.

    What lies outside of the picture is black.

    Raises:
        ValueError: no global view, or an area that is no share.
    """

    def __init__(
        self,
        num_global: int = 2,
        num_local: int = 6,
        global_area: Range = (0.3, 1.0),
        local_area: Range = (0.05, 0.3),
        aspect: float = 4 / 3,
        turn: float = 0.0,
        shift: float = 0.0,
        jitter: float = 0.0,
    ):
        if num_global < 1 or num_local < 0 or num_global + num_local < 2:
            raise ValueError(
                f"two or more views, one of them global, are needed, got num_global={num_global} and "
                f"num_local={num_local}"
            )
        self.num_global, self.num_local = num_global, num_local
        self.global_area = share_range("global_area", global_area)
        self.local_area = share_range("local_area", local_area)
        self.aspect, self.turn, self.shift, self.jitter = aspect, turn, shift, jitter

    def __call__(self, observation: Observation, generator: torch.Generator) -> Observation:
        """``pixels`` uint8 (B,channels,height,width) -> the same with V views, (V,B,...), the global ones first.

        ``generator`` is a CPU's.
        """
        pixels = observation["pixels"]
        batch, num_views = len(pixels), self.num_global + self.num_local
        area = torch.cat(
            [
                _uniform((count * batch,), low, high, generator)
                for count, (low, high) in ((self.num_global, self.global_area), (self.num_local, self.local_area))
            ]
        )
        grid = F.affine_grid(
            self._placed(area, pixels.shape[-1] / pixels.shape[-2], generator).to(pixels.device),
            [len(area), *pixels.shape[1:]],
            align_corners=False,
        )
        views = F.grid_sample(
            pixels.float().repeat(num_views, 1, 1, 1), grid, padding_mode="border", align_corners=False
        )
        views = views * (grid.abs() < 1 + 1e-4).all(-1)[:, None]  # zero padding would darken the picture's own edge
        brightness, contrast = (
            _uniform((len(area), 1, 1, 1), 1 - self.jitter, 1 + self.jitter, generator).to(views.device)
            for _ in range(2)
        )
        views = views * brightness
        mean = views.mean((1, 2, 3), keepdim=True)
        views = (mean + contrast * (views - mean)).round().clamp(0, 255).to(torch.uint8)
        return {"pixels": views.unflatten(0, (num_views, batch))}

    def _placed(self, area: Tensor, width_over_height: float, generator: torch.Generator) -> Tensor:
        """(N,2,3): from a view's coordinates in -1..1 to the picture's."""
        ratio = _uniform(area.shape, -math.log(self.aspect), math.log(self.aspect), generator).exp()
        across, down = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        angle = math.radians(self.turn) * _uniform(area.shape, -1, 1, generator)
        right, below = ((1 - side + self.shift) * _uniform(area.shape, -1, 1, generator) for side in (across, down))
        # In units of the height a turn is a turn; in -1..1 the picture is as wide as it is high.
        rows = (
            torch.stack([across * angle.cos(), -down * angle.sin() / width_over_height, right], -1),
            torch.stack([across * angle.sin() * width_over_height, down * angle.cos(), below], -1),
        )
        return torch.stack(rows, -2)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)
