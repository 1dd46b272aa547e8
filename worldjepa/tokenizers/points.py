"""Point clouds cut into neighbourhoods of points that lie far apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldjepa.types import Observation, TokenSet

FITTED = 256  # clouds are enough to know the size of patches


class PointTokenizer(nn.Module):
    """``points`` -> one token per centre: its nearest points, relative to it; coordinates are the centre's x, y, z.

    The patches of Point-BERT (arXiv:2111.14819, section 3.1), which Point-JEPA and 3D-JEPA take. Neighbouring patches
    may share points, so a hidden patch can be seen in part; it is published so. Where the centres lie depends on the
    whole cloud. The published code starts from a random point; here one cloud has one set of patches, and :meth:`fit`
    gives the offsets from the centre unit size, as the embedding has no BatchNorm that would. It puts all clouds into
    the unit ball by one scale, where published work gives each its own: how large a thing is stays known.

    Args:
        num_centres: P, found by farthest point sampling.
        num_neighbours: k points of a patch, the centre itself among them.
    """

    takes = ("points",)

    def __init__(self, num_centres: int = 64, num_neighbours: int = 32):
        super().__init__()
        for name, value in {"num_centres": num_centres, "num_neighbours": num_neighbours}.items():
            if value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        self.num_centres = num_centres
        self.num_neighbours = num_neighbours
        self.num_pinned = 0
        self.num_tokens = num_centres
        self.token_dim = 3 * num_neighbours
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("reach", torch.ones(()))

    def fit(self, observation: Observation) -> None:
        """Takes the root mean square of offsets of ``points`` from their centre, and how far points lie from 0."""
        points = observation["points"]
        self.reach.copy_(points.square().sum(-1).max().sqrt().clamp_min(1e-6))
        values = self({"points": points[:: -(-len(points) // FITTED)]}).values
        self.scale.mul_(values.square().mean().sqrt().clamp_min(1e-6))

    def forward(self, observation: Observation) -> TokenSet:
        """``points`` float32 (B,N,3) -> values (B,P,k*3), coords (B,P,3).

        Values are offsets from the centre over ``scale``, the nearest first; coordinates are over ``reach``.

        Raises:
            ValueError: another shape, NaN or infinite points, fewer points than centres or neighbours.
        """
        points: Tensor = observation["points"]
        if points.dim() != 3 or points.shape[-1] != 3 or points.dtype != torch.float32:
            raise ValueError(f"points must be float32 (B, N, 3), got {points.dtype} {tuple(points.shape)}")
        for name in ("num_centres", "num_neighbours"):
            if points.shape[1] < getattr(self, name):
                raise ValueError(
                    f"clouds must have >= {name} ({getattr(self, name)}) points, got {points.shape[1]}; "
                    f"lower {name} or take more points"
                )
        if not torch.isfinite(points).all():
            raise ValueError("points must be finite, got NaN or infinity; remove such points")
        centres = farthest_points(points, self.num_centres)
        coords = _at(points, centres)
        # Without matrix products, whose rounding would change who is near.
        distance = torch.cdist(coords, points, compute_mode="donot_use_mm_for_euclid_dist")
        near = distance.topk(self.num_neighbours, largest=False).indices
        values = _at(points, near.flatten(1)).unflatten(1, near.shape[1:]) - coords[:, :, None]
        valid = torch.ones(coords.shape[:2], dtype=torch.bool, device=points.device)
        return TokenSet(values.flatten(2) / self.scale, coords / self.reach, valid, torch.zeros_like(valid[0]))


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Indices int64 (B,count) of points (B,N,3): first the farthest from the mean, then always the farthest from all
    that were taken."""
    far = (points - points.mean(1, keepdim=True)).square().sum(-1).argmax(1)
    taken, distance = [far], torch.full_like(points[..., 0], torch.inf)
    for _ in range(count - 1):
        distance = torch.minimum(distance, (points - _at(points, far[:, None])).square().sum(-1))
        far = distance.argmax(1)
        taken.append(far)
    return torch.stack(taken, 1)


def _at(points: Tensor, index: Tensor) -> Tensor:
    """(B,N,3) at (B,K): (B,K,3)."""
    return points.gather(1, index[..., None].expand(-1, -1, 3))
