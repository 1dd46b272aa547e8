"""Edges of radar pictures that neither speckle nor gain makes or unmakes: what SAR-JEPA predicts."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldjepa.types import Observation


class LogRatio(nn.Module):
    """Absolute log-ratio of the means on two sides of a place, at several scales (SAR-JEPA, arXiv:2311.15153).

    Speckle is a factor, so differences of means are larger where it is bright, and ratios are not (Touzi et al. 1988).
    A gain leaves a ratio as it is. For :class:`worldjepa.targets.FixedFeature`.

    Deviations: the reference predicts at each of a patch's pixels the length of the vector of both log-ratios, in
    windows whose halves share a line, of pictures to which a small number was added. Here both directions are kept,
    their mean over a patch is predicted, halves do not touch, and nothing is added.

    Args:
        patch_size: side of a patch, in pixels.
        kernels: sides of the windows, odd, in pixels; each picture is mirrored at its borders.

    Raises:
        ValueError: a kernel that has no middle.
    """

    def __init__(self, patch_size: int, kernels: Sequence[int] = (5, 9, 13, 17)):
        super().__init__()
        if any(kernel < 3 or kernel % 2 == 0 for kernel in kernels):
            raise ValueError(f"kernels must be odd and >= 3, got {tuple(kernels)}")
        self.patch_size, self.kernels = patch_size, tuple(kernels)
        self.num_features = 2 * len(self.kernels)

    def forward(self, observation: Observation) -> Tensor:
        """``amplitude`` float32 (B,1,height,width) > 0 -> float32 (B,P,F) >= 0, F = 2 * kernels.

        P are the patches, row by row. F: left against right of each kernel, then above against below of each.

        Raises:
            ValueError: a picture smaller than a kernel.
        """
        amplitude = observation["amplitude"]
        if max(self.kernels) // 2 >= min(amplitude.shape[2:]):
            raise ValueError(f"pictures {tuple(amplitude.shape[2:])} are too small for kernels {self.kernels}")
        sideways = [_log_ratio(amplitude, kernel) for kernel in self.kernels]
        upright = [_log_ratio(amplitude.mT, kernel).mT for kernel in self.kernels]
        pooled = [F.avg_pool2d(ratio, self.patch_size) for ratio in sideways + upright]
        return rearrange(pooled, "f b 1 i j -> b (i j) f")


def _log_ratio(picture: Tensor, kernel: int) -> Tensor:
    """|log(right / left)| at every pixel (B,1,height,width), of means over kernel rows and kernel // 2 columns."""
    half, width = kernel // 2, picture.shape[-1]
    padded = F.pad(picture, (half, half, half, half), mode="reflect")
    sums = _running_sum(_running_sum(padded.mT, kernel).mT, half)
    left, right = sums[..., :width], sums[..., half + 1 : half + 1 + width]
    return (right / left).log().abs().float()


def _running_sum(x: Tensor, size: int) -> Tensor:
    """Sums of ``size`` neighbours along the last axis; in float64, as differences of long sums would lose digits."""
    sums = F.pad(x.double().cumsum(-1), (1, 0))
    return sums[..., size:] - sums[..., :-size]
