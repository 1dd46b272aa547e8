"""A pre-trained bird's-eye view as the eyes of others: a rectangle of its latents, and what stands there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from worldjepa.encoders.bev import BevEncoder
from worldjepa.odometry import Area
from worldjepa.sweeps import RangeImage, clouds_of
from worldjepa.types import Observation
from worldjepa.voxels import voxelize

STORED = ("bev", "obstacles")
"""Columns that :meth:`BevView.columns` makes, in place of sweeps."""


class BevView(nn.Module):
    """Sweeps -> latents of the cells in an area.

    Args:
        encoder: a run of AD-L-JEPA's.
        sensor: of the sweeps.
        area: ``x`` and ``y``, from and to, m; whole cells.
        frozen: the encoder does not learn, so that its latents can be made once and stored.
        heights: above the road, m, from and to; what is there is an obstacle.
        mounted: of the sensor above the road, m.

    Raises:
        ValueError: the area is not of whole cells within the encoder's grid, or those are not square.
    """

    def __init__(
        self,
        encoder: BevEncoder,
        sensor: RangeImage,
        area: Mapping[str, tuple[float, float]],
        frozen: bool = True,
        heights: tuple[float, float] = (0.3, 2.0),
        mounted: float = 1.7,
    ):
        super().__init__()
        self.encoder, self.sensor, self.frozen = encoder, sensor, frozen
        if abs(encoder.grid.size[0] - encoder.grid.size[1]) > 1e-9:
            raise ValueError(f"a view needs square cells, the encoder's grid has {tuple(encoder.grid.size[:2])} m")
        self.area = Area(tuple(area["x"]), tuple(area["y"]), encoder.grid.size[0] * encoder.stride)
        self.heights = tuple(height - mounted for height in heights)
        self.area.cut(torch.zeros(encoder.bev_shape), encoder.grid)  # says at once if it does not fit
        if frozen:
            encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> BevView:
        """A frozen encoder stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, obs: Observation) -> Tensor:
        """``bev`` (B,T,D,Y,X) as it is, or ``sweep`` or ``points`` (B,T,...) -> float32 (B,T,D,Y,X)."""
        if "bev" in obs:
            return obs["bev"].float()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            bev = self.encoder(voxelize(clouds_of(obs, self.sensor), self.encoder.grid))
        return self.area.cut(bev, self.encoder.grid).unflatten(0, _times(obs))

    def obstacles(self, obs: Observation) -> Tensor:
        """Cells in which something stands on the road, as the points say, bool (B,T,Y,X)."""
        if "obstacles" in obs:
            return obs["obstacles"] > 0
        low, high = self.heights
        height, width = self.encoder.bev_shape
        found = []
        for cloud in clouds_of(obs, self.sensor):
            inside = (cloud[:, 2] > low) & (cloud[:, 2] < high)
            place = ((cloud[inside, :2] - cloud.new_tensor(self.encoder.grid.low[:2])) / self.area.cell).floor().long()
            place = place[((place >= 0) & (place < place.new_tensor([width, height]))).all(1)]
            cells = torch.zeros(height, width, dtype=torch.bool, device=cloud.device)
            cells[place[:, 1], place[:, 0]] = True
            found.append(self.area.cut(cells, self.encoder.grid))
        return torch.stack(found).unflatten(0, _times(obs))

    @torch.no_grad()
    def columns(self, obs: Observation) -> dict[str, np.ndarray]:
        """What can be stored in place of sweeps (1,T,...): ``bev`` float16 (T,D,Y,X), ``obstacles`` uint8 (T,Y,X)."""
        obs = {name: x.to(self.encoder.low.device) for name, x in obs.items()}
        return {
            "bev": self(obs)[0].half().cpu().numpy(),
            "obstacles": self.obstacles(obs)[0].to(torch.uint8).cpu().numpy(),
        }

    @property
    def hash(self) -> str:
        """Sixteen hex digits that change with anything that changes :meth:`columns`."""
        digest = hashlib.sha256(repr((self.area, self.heights, self.encoder.grid)).encode())
        digest.update(self.sensor.directions.numpy().tobytes())
        for name, value in sorted(self.encoder.state_dict().items()):
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def _times(obs: Observation) -> tuple[int, int]:
    return next(iter(obs.values())).shape[:2]
