"""How a car's own motion moves what it sees from above.

A pose (...,3) is x ahead and y to the left, m, and the turn to the left, rad, of a later frame of the car in an earlier
one. A bird's-eye view (N,C,Y,X) has x along its columns and y along its rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from worldjepa.voxels import VoxelGrid


@dataclass(frozen=True)
class Vehicle:
    """A kinematic bicycle whose frame lies in the middle between its axles.

    Attributes:
        wheelbase: m.
        step: time between two frames, s.
        length, width: of its box, m.
    """

    wheelbase: float = 2.7
    step: float = 0.2
    length: float = 4.3
    width: float = 1.8

    def moved(self, before: Tensor, after: Tensor) -> Tensor:
        """Speed, m/s, and steering angle, rad, (...,2) of two frames in a row -> the second one's pose (...,3)."""
        distance = self.step * (before[..., 0] + after[..., 0]) / 2
        turn = distance * after[..., 1].tan() / self.wheelbase
        # The rear axle goes along an arc; the middle is half a wheelbase before it.
        chord, half = distance * torch.sinc(turn / (2 * torch.pi)), self.wheelbase / 2
        x = chord * (turn / 2).cos() + half * (turn.cos() - 1)
        y = chord * (turn / 2).sin() + half * turn.sin()
        return torch.stack([x, y, turn], -1)


def then(first: Tensor, second: Tensor) -> Tensor:
    """Pose (...,3) of the last of three frames in the first one's, by that of the second and that of the last in it."""
    place = placed(second[..., None, :2], first)[..., 0, :]
    return torch.cat([place, (first[..., 2] + second[..., 2])[..., None]], -1)


def chained(moves: Tensor) -> Tensor:
    """(...,K,3) each in the frame before it -> (...,K,3) each in the frame before the first."""
    poses = [moves[..., 0, :]]
    for step in range(1, moves.shape[-2]):
        poses.append(then(poses[-1], moves[..., step, :]))
    return torch.stack(poses, -2)


def placed(points: Tensor, pose: Tensor) -> Tensor:
    """Points (...,M,2) of a later frame, seen from the earlier one in which it has ``pose`` (...,3)."""
    cos, sin = pose[..., None, 2].cos(), pose[..., None, 2].sin()
    x, y = points.unbind(-1)
    return torch.stack([cos * x - sin * y + pose[..., None, 0], sin * x + cos * y + pose[..., None, 1]], -1)


@dataclass(frozen=True)
class Area:
    """A rectangle of cells of a bird's-eye view, around the car or ahead of it.

    Attributes:
        x, y: from and to, m; whole cells of the view.
        cell: extent of a cell, m.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    cell: float

    def __post_init__(self):
        for name, (low, high) in (("x", self.x), ("y", self.y)):
            if low >= high:
                raise ValueError(f"area.{name} must be [from, to] with from < to, got {[low, high]}")

    @property
    def shape(self) -> tuple[int, int]:
        """(Y,X)."""
        return round((self.y[1] - self.y[0]) / self.cell), round((self.x[1] - self.x[0]) / self.cell)

    def cut(self, bev: Tensor, grid: VoxelGrid) -> Tensor:
        """What of (...,Y,X) lies in the area.

        Raises:
            ValueError: the area is not of whole cells within the grid.
        """
        spans = ((self.y, grid.low[1]), (self.x, grid.low[0]))
        ends = [(end - low) / self.cell for span, low in spans for end in span]
        (bottom, top), (left, right) = (tuple(map(round, ends[:2])), tuple(map(round, ends[2:])))
        whole = max(abs(end - round(end)) for end in ends) < 1e-6
        if not whole or min(bottom, left) < 0 or top > bev.shape[-2] or right > bev.shape[-1]:
            raise ValueError(
                f"the area x {list(self.x)}, y {list(self.y)} must be whole cells of {self.cell} m within the grid's "
                f"{list(grid.low[:2])} to {list(grid.high[:2])} m"
            )
        return bev[..., bottom:top, left:right]

    def centres(self, device: torch.device | None = None) -> Tensor:
        """(Y,X,2) x and y of every cell's middle, m."""
        height, width = self.shape
        x = self.x[0] + self.cell * (torch.arange(width, device=device) + 0.5)
        y = self.y[0] + self.cell * (torch.arange(height, device=device) + 0.5)
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)

    def read(self, bev: Tensor, points: Tensor) -> Tensor:
        """(N,C,Y,X) at points (N,M,2), m, bilinear -> (N,C,M); 0 outside."""
        low = points.new_tensor([self.x[0], self.y[0]])
        size = points.new_tensor([self.x[1] - self.x[0], self.y[1] - self.y[0]])
        grid = (points - low) / size * 2 - 1
        return F.grid_sample(bev, grid[:, None], padding_mode="zeros", align_corners=False)[:, :, 0]

    def carried(self, bev: Tensor, pose: Tensor) -> Tensor:
        """(N,C,Y,X) of one frame as seen from the frame that has ``pose`` (N,3) in it; 0 where nothing is known."""
        points = placed(self.centres(bev.device).flatten(0, 1).expand(len(bev), -1, -1), pose)
        return self.read(bev, points).unflatten(-1, self.shape)
