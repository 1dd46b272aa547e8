"""LiDAR sweeps -> tokens of the places along a route, for policies that attend to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldjepa.encoders.bev import BevEncoder
from worldjepa.encoders.bev_view import BevView
from worldjepa.sweeps import RangeImage
from worldjepa.types import Observation
from worldjepa.voxels import VoxelGrid


class RouteTokens(nn.Module):
    """A bird's-eye view read across the route at stations ahead: one token each, of latents and of what stands there.

    A thing in the way looks alike wherever the route leads, so that far fewer drives teach it than a map of all around.

    Args:
        sensor: of the sweeps.
        area: ``x`` and ``y``, from and to, m, that is looked at; beyond it is nothing.
        grid, widths, bev_dim, depth: of the :class:`~worldjepa.encoders.bev.BevEncoder`.
        stations: m along the route.
        offsets: m to the left of it, where latents and obstacles are read at every station.
        spacing: m between the route's points, the first of which lies so far ahead.
        latent_dim: D.
        init: folder of a run whose encoder it starts from, see :func:`worldjepa.checkpoint.start_from`.
        frozen: the bird's-eye view stays as it starts; only what reads it learns.

    Attributes:
        takes: the observation that it looks at, and ``also`` what it needs beside.
        coords: (P,1) number of each token's station.
    """

    takes = "sweep"
    also = ("route",)

    def __init__(
        self,
        sensor: RangeImage,
        area: Mapping[str, tuple[float, float]],
        grid: VoxelGrid | str = "street",
        widths: Sequence[int] = (16, 32, 64, 64),
        bev_dim: int = 64,
        depth: int = 1,
        stations: Sequence[float] = tuple(range(2, 25, 2)),
        offsets: Sequence[float] = (-2.4, -1.6, -0.8, 0.0, 0.8, 1.6, 2.4),
        spacing: float = 3.0,
        latent_dim: int = 128,
        init: str | None = None,
        frozen: bool = True,
    ):
        super().__init__()
        self.view = BevView(BevEncoder(grid, widths, bev_dim, depth, init), sensor, area, frozen)
        self.spacing, self.num_tokens, self.latent_dim = spacing, len(stations), latent_dim
        self.register_buffer("stations", torch.tensor(list(stations), dtype=torch.float32), persistent=False)
        self.register_buffer("offsets", torch.tensor(list(offsets), dtype=torch.float32), persistent=False)
        self.register_buffer("coords", torch.arange(len(stations))[:, None].float(), persistent=False)
        self.read = nn.Sequential(
            nn.Linear(len(offsets) * (bev_dim + 1), latent_dim), nn.ReLU(), nn.Linear(latent_dim, latent_dim)
        )

    def forward(self, obs: Observation) -> Tensor:
        """``route`` (B,T,N,2), and ``sweep`` (B,T,beams,azimuths,2) or what was stored of it -> (B,T,P,D)."""
        cells = torch.cat([self.view(obs), self.view.obstacles(obs)[:, :, None].float()], 2)
        found = F.grid_sample(cells.flatten(0, 1), self.places(obs["route"].flatten(0, 1)), align_corners=False)
        return self.read(found.permute(0, 2, 3, 1).flatten(2)).unflatten(0, cells.shape[:2])

    def places(self, route: Tensor) -> Tensor:
        """Points (B,N,2) of routes, m -> where the area is read, (B,P,offsets,2): along x and y, -1 to 1 within it."""
        path = F.pad(route.float(), (0, 0, 1, 0))  # it starts at the car
        at = (self.stations / self.spacing).clamp(max=route.shape[1])
        before = at.floor().long().clamp(max=route.shape[1] - 1)
        start, step = path[:, before], path[:, before + 1] - path[:, before]
        length = step.norm(dim=-1, keepdim=True)
        ahead = torch.where(length > 1e-3, step / length.clamp_min(1e-3), step.new_tensor([1.0, 0.0]))
        left = torch.stack([-ahead[..., 1], ahead[..., 0]], -1)
        point = (start + step * (at - before)[:, None])[:, :, None] + self.offsets[:, None] * left[:, :, None]
        low, high = (point.new_tensor([self.view.area.x[i], self.view.area.y[i]]) for i in (0, 1))
        return (point - low) / (high - low) * 2 - 1
