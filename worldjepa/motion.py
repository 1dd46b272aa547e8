"""Geometry of optical flow, (N,2,height,width) in px: x to the right and y down, from a first picture to a second.

What is at a pixel p of the first picture is at p + flow(p) in the second. All of it is float32, whatever comes in: half
precision has no hundredths of a pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """``x`` (N,C,height,width), which belongs to the second picture, as seen from the first: out(p) = x(p + flow(p)).

    Bilinear, with gradients to both; beyond the border is what is at the border.
    """
    height, width = x.shape[-2:]
    across, down = _places(flow).unbind(1)
    grid = torch.stack([across * (2 / max(width - 1, 1)) - 1, down * (2 / max(height - 1, 1)) - 1], -1)
    return F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="border", align_corners=True)


def inside(flow: Tensor) -> Tensor:
    """bool (N,1,height,width): p + flow(p) is within the picture."""
    height, width = flow.shape[-2:]
    across, down = _places(flow).unbind(1)
    return ((across >= 0) & (across <= width - 1) & (down >= 0) & (down <= height - 1))[:, None]


def seen_in_both(flow: Tensor, back: Tensor) -> Tensor:
    """bool (N,1,height,width): inside, and the way there and ``back`` ends where it began.

    Where it does not, something covers the place in the second picture (forward-backward check, Sundaram et al. 2010:
    |f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5). Without gradient.

    Args:
        back: (N,2,height,width) from the second picture to the first.
    """
    with torch.no_grad():
        returned = warp(back, flow)
        apart = (flow + returned).square().sum(1, keepdim=True)
        length = (flow.square() + returned.square()).sum(1, keepdim=True)
        return inside(flow) & (apart < 0.01 * length + 0.5)


def correlation(first: Tensor, second: Tensor, radius: int) -> Tensor:
    """Likeness of every place to those around it in the other picture (PWC-Net's cost volume, arXiv:1709.02371).

    Args:
        first, second: (N,C,height,width).
        radius: px around, in both directions.

    Returns:
        float32 (N,(2 radius + 1)^2,height,width), the mean product over channels; row by row of displacements.
    """
    channels, height = first.shape[1:3]
    span = 2 * radius + 1
    here = first.float().permute(0, 2, 3, 1).contiguous()
    there = F.pad(second.float(), (radius,) * 4).permute(0, 2, 3, 1).contiguous()
    rows = []
    for down in range(span):
        # Every place of a row against every place of one row of the other picture is one product of matrices, of which
        # a band is wanted. It is four times as fast as one displacement after the other, and works on any device.
        every = here @ there[:, down : down + height].transpose(-1, -2)
        steps = every.stride()
        rows.append(every.as_strided((*every.shape[:3], span), (*steps[:2], steps[2] + steps[3], steps[3])))
    return torch.cat(rows, -1).permute(0, 3, 1, 2) / channels


def resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """The same motion for pictures of another ``size`` (height, width): resampled, and as many times as long."""
    height, width = flow.shape[-2:]
    if (height, width) == tuple(size):
        return flow
    scale = flow.new_tensor([size[1] / width, size[0] / height])[:, None, None]
    return F.interpolate(flow, size=tuple(size), mode="bilinear", align_corners=False) * scale


def _places(flow: Tensor) -> Tensor:
    """(N,2,height,width): p + flow(p) in px, x and y."""
    height, width = flow.shape[-2:]
    down, across = torch.meshgrid(
        torch.arange(height, device=flow.device), torch.arange(width, device=flow.device), indexing="ij"
    )
    return flow.float() + torch.stack([across, down])
