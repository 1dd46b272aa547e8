"""Embedding of patches of points, whose order means nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn


class PointPatchEmbedding(nn.Module):
    """Mini-PointNet: an MLP of every point, the patch's maximum beside every point, another MLP, the maximum.

    As in Point-BERT (arXiv:2111.14819, section 3.1; PointNet is arXiv:1612.00593), with LayerNorm in place of
    BatchNorm, so that no patch is seen through the statistics of a batch, hidden ones included. BatchNorm also takes
    away what all patches have in common; here the last bias starts such that flat random patches have mean 0. Without
    this nearly all of a token's latent is the same for all tokens, and there is little to predict.

    Args:
        width: D.
        hidden: widths of the first MLP; the second is twice as wide as the last of them.
    """

    def __init__(self, width: int, hidden: Sequence[int] = (128, 256)):
        super().__init__()
        first, second = hidden
        self.points = nn.Sequential(nn.Linear(3, first), nn.LayerNorm(first), nn.ReLU(), nn.Linear(first, second))
        joint = 2 * second
        self.patches = nn.Sequential(nn.Linear(joint, joint), nn.LayerNorm(joint), nn.ReLU(), nn.Linear(joint, width))
        with torch.no_grad():
            self.patches[-1].bias -= self(flat_patches(256, 32)).mean((0, 1))

    def forward(self, values: Tensor) -> Tensor:
        """(B,P,k*3), k points relative to their centre -> (B,P,D)."""
        each = self.points(rearrange(values, "b p (k c) -> b p k c", c=3))
        whole = each.amax(2, keepdim=True).expand_as(each)
        return self.patches(torch.cat([whole, each], -1)).amax(2)


def flat_patches(count: int, num_points: int) -> Tensor:
    """(1,count,num_points*3): normal points in randomly turned planes, of variance 1 per coordinate."""
    planes = torch.linalg.qr(torch.randn(count, 3, 2))[0]
    points = 1.5**0.5 * torch.randn(count, num_points, 2) @ planes.transpose(1, 2)
    return points.flatten(1)[None]
