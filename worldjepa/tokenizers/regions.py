"""Courses of brain regions (ROIs) cut into pieces of time."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from worldjepa.types import Observation, TokenSet


class RegionTokenizer(nn.Module):
    """``rois`` -> one token per region and piece of time (Brain-JEPA, arXiv:2409.19407).

    Coordinates are (region, piece), both from 0; tokens of a region follow each other. A piece with a volume missing
    (NaN) is a token that is not valid.

    Args:
        num_rois: R.
        num_samples: T, volumes of a course.
        patch_size: volumes of a piece; the paper's are 16.
        num_pinned: tokens without content put in front, at coordinates (-1, -1); the encoder learns them.

    Raises:
        ValueError: courses that do not fall into whole pieces.
    """

    takes = ("rois",)

    def __init__(self, num_rois: int, num_samples: int, patch_size: int = 16, num_pinned: int = 0):
        super().__init__()
        if num_samples % patch_size:
            raise ValueError(f"num_samples must be a multiple of patch_size ({patch_size}), got {num_samples}")
        self.num_rois, self.num_samples, self.patch_size = num_rois, num_samples, patch_size
        self.token_dim = patch_size
        self.num_pinned = num_pinned
        pieces = num_samples // patch_size
        self.num_tokens = num_pinned + num_rois * pieces
        grid = torch.cartesian_prod(torch.arange(float(num_rois)), torch.arange(float(pieces)))
        coords = torch.cat([torch.full((num_pinned, 2), -1.0), grid.view(-1, 2)])
        self.register_buffer("coords", coords, persistent=False)
        self.register_buffer("median", torch.zeros(num_rois))
        self.register_buffer("spread", torch.ones(num_rois))

    def fit(self, observation: Observation) -> None:
        """Takes every region's median and interquartile range (as the paper scales), over all samples and volumes.

        Raises:
            ValueError: a region without values or without a spread.
        """
        rois = self._checked(observation).numpy()
        values = [part[~np.isnan(part)] for part in rois.transpose(1, 0, 2)]
        for region, part in enumerate(values):
            if not len(part):
                raise ValueError(f"region {region} (from 0) is missing in all training samples; leave it out")
        low, median, high = np.stack([np.percentile(part, (25, 50, 75)) for part in values], 1)
        if not (high > low).all():
            raise ValueError(
                f"region {int((high <= low).argmax())} (from 0) is constant in the training samples; leave it out"
            )
        self.median.copy_(torch.from_numpy(median))
        self.spread.copy_(torch.from_numpy(high - low))

    def forward(self, observation: Observation) -> TokenSet:
        """``rois`` float32 (B,R,T), NaN where missing -> values (B,P,patch_size), P = num_pinned + R x pieces."""
        rois = (self._checked(observation) - self.median[:, None]) / self.spread[:, None]
        values = rearrange(rois, "b r (n p) -> b (r n) p", p=self.patch_size)
        valid = ~values.isnan().any(-1)
        values = values.masked_fill(~valid[..., None], 0.0)
        values = nn.functional.pad(values, (0, 0, self.num_pinned, 0))
        valid = nn.functional.pad(valid, (self.num_pinned, 0), value=True)
        pinned = torch.arange(self.num_tokens, device=values.device) < self.num_pinned
        return TokenSet(values, self.coords, valid, pinned)

    def _checked(self, observation: Observation) -> Tensor:
        rois: Tensor = observation["rois"]
        expected = (self.num_rois, self.num_samples)
        if rois.dim() != 3 or tuple(rois.shape[1:]) != expected or rois.dtype != torch.float32:
            raise ValueError(
                f"rois must be float32 (B, {self.num_rois}, {self.num_samples}), got {rois.dtype} "
                f"{tuple(rois.shape)}; cut the courses or set num_rois and num_samples"
            )
        return rois
