"""Point clouds as sparse voxels: points (N,4) x, y, z in m (x ahead, y left, z up) and intensity 0..1.

``V`` counts voxels that hold a point; no others exist. Grids are spoken of as (z, y, x), the order of convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class VoxelGrid:
    """A box of space cut into voxels; it holds low <= point < high.

    Attributes:
        low, high: its corners x, y, z, m.
        size: of one voxel along x, y, z, m.

    Raises:
        ValueError: not three finite numbers each, a size that is not positive, or an extent (high - low) that is not a
            whole number of voxels (to 1e-6 voxels), at least one.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    size: tuple[float, float, float]

    def __post_init__(self):
        for name in ("low", "high", "size"):
            numbers = tuple(float(number) for number in getattr(self, name))  # YAML gives lists
            if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
                raise ValueError(f"grid.{name}: expected three finite numbers x, y, z in m, got {list(numbers)}")
            object.__setattr__(self, name, numbers)
        for axis, low, high, size in zip("xyz", self.low, self.high, self.size, strict=True):
            count = (high - low) / size if size > 0 else 0.0
            if round(count) < 1 or abs(count - round(count)) > 1e-6:
                raise ValueError(
                    f"grid along {axis}: expected low < high, size > 0 and a whole number of voxels, got {low} to "
                    f"{high} m in voxels of {size} m, which is {count:.6g} voxels"
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        low, high, size = self.low[::-1], self.high[::-1], self.size[::-1]
        return tuple(round((high[axis] - low[axis]) / size[axis]) for axis in range(3))


KITTI = VoxelGrid((0.0, -40.0, -3.0), (70.4, 40.0, 1.0), (0.05, 0.05, 0.1))
"""SECOND's and AD-L-JEPA's for KITTI, 40 x 1600 x 1408: ahead of the car, where the labels are."""
NUSCENES = VoxelGrid((-51.2, -51.2, -5.0), (51.2, 51.2, 3.0), (0.1, 0.1, 0.2))
"""Usual for nuScenes, 40 x 1024 x 1024."""
STREET = VoxelGrid((-25.6, -25.6, -2.2), (25.6, 25.6, 1.8), (0.1, 0.1, 0.25))
"""The simulated street's, 16 x 512 x 512: cells of 0.8 m, 64 x 64, at stride 8."""
GRIDS = {"kitti": KITTI, "nuscenes": NUSCENES, "street": STREET}


@dataclass
class Voxels:
    """The voxels that hold points, of B clouds.

    Attributes:
        coords: int64 (V,4) cloud, z, y, x; no two alike, sorted by the first, then the second, ...
        features: float32 (V,4) mean x, y, z (m) and intensity of the points within.
        num_points: int64 (V,) of the points within.
        batch_size: B; clouds may have no voxel.
        shape: of the grid, voxels along z, y, x.
    """

    coords: Tensor
    features: Tensor
    num_points: Tensor
    batch_size: int
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.coords)

    def subset(self, keep: Tensor) -> Voxels:
        """Those where ``keep``, bool (V,), is true, in the same order and of as many clouds."""
        assert keep.dtype == torch.bool and keep.shape == (len(self),), (keep.dtype, keep.shape, len(self))
        return replace(self, coords=self.coords[keep], features=self.features[keep], num_points=self.num_points[keep])

    def to(self, device) -> Voxels:
        coords, features, num_points = (
            x.to(device, non_blocking=True) for x in (self.coords, self.features, self.num_points)
        )
        return replace(self, coords=coords, features=features, num_points=num_points)


def voxelize(points: Sequence[Tensor], grid: VoxelGrid) -> Voxels:
    """B clouds -> the voxels that hold their points, each with the mean of them.

    Dynamic: neither points per voxel nor voxels are capped (arXiv:1910.06528), so nothing depends on the order of
    points. A cloud gives the same voxels in any batch.

    Args:
        points: B clouds (N_i,4) x, y, z in m and intensity, N_i may be 0; those outside of the grid are dropped.

    Raises:
        ValueError: no clouds, a cloud of another shape, or one with NaN or infinite numbers.
    """
    if len(points) == 0:
        raise ValueError("expected at least one cloud of points, got none; an empty cloud is a tensor (0,4)")
    for sample, cloud in enumerate(points):
        if cloud.ndim != 2 or cloud.shape[1] != 4:
            raise ValueError(
                f"sample {sample}: expected points (N,4) x, y, z and intensity, got {tuple(cloud.shape)}; "
                "drop further columns, or add an intensity of 0"
            )
        broken = int((~torch.isfinite(cloud)).any(1).sum())
        if broken:
            raise ValueError(
                f"sample {sample}: expected finite points, got NaN or infinity in {broken} of {len(cloud)}; drop them"
            )
    # In float64, or the mean of many points far away were off by a good part of a voxel's size.
    every = torch.cat([cloud.double() for cloud in points])
    sample = torch.arange(len(points), device=every.device)
    sample = sample.repeat_interleave(torch.tensor([len(cloud) for cloud in points], device=every.device))
    place = ((every[:, :3] - every.new_tensor(grid.low)) / every.new_tensor(grid.size)).floor().flip(1)
    inside = ((place >= 0) & (place < every.new_tensor(grid.shape))).all(1)
    every, coords = every[inside], torch.cat([sample[inside, None], place[inside].long()], 1)

    keys, voxel, num_points = torch.unique(voxel_keys(coords, grid.shape), return_inverse=True, return_counts=True)
    total = every.new_zeros(len(keys), 4).index_add(0, voxel, every)
    features = (total / num_points[:, None]).float()
    return Voxels(voxel_coords(keys, grid.shape), features, num_points, len(points), grid.shape)


def voxel_cells(voxels: Voxels, stride: int) -> Tensor:
    """int64 (V,): which cell of the bird's-eye view each voxel stands in, counted through (B,Y,X).

    So a mask of cells (B,Y,X) bool becomes one of voxels, for :meth:`Voxels.subset`, by
    ``mask.flatten()[voxel_cells(voxels, stride)]``.

    Args:
        stride: voxels along y and x that one cell covers.
    """
    height, width = bev_shape(voxels.shape, stride)
    sample, _, y, x = voxels.coords.unbind(1)
    return (sample * height + y // stride) * width + x // stride


def bev_occupied(voxels: Voxels, stride: int) -> Tensor:
    """bool (B,Y,X): the cells of the bird's-eye view that hold a voxel, each of ``stride`` x ``stride`` voxels."""
    height, width = bev_shape(voxels.shape, stride)
    occupied = torch.zeros(voxels.batch_size * height * width, dtype=torch.bool, device=voxels.coords.device)
    occupied[voxel_cells(voxels, stride)] = True
    return occupied.view(voxels.batch_size, height, width)


def bev_shape(shape: tuple[int, int, int], stride: int) -> tuple[int, int]:
    """Cells along y and x of a grid of ``shape`` (z, y, x); the last ones may reach beyond it."""
    return -(-shape[1] // stride), -(-shape[2] // stride)


def voxel_keys(coords: Tensor, shape: tuple[int, int, int], spare: int = 0) -> Tensor:
    """int64 (V,): one number for every (cloud, z, y, x), in their order, with ``spare`` unused places on each axis.

    Args:
        coords: int64 (V,4) cloud, z, y, x.
        shape: of the grid along z, y, x.
    """
    key = coords[:, 0]
    for axis, count in enumerate(shape, 1):
        key = key * (count + spare) + coords[:, axis]
    return key


def voxel_coords(keys: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """int64 (V,4) cloud, z, y, x: back from :func:`voxel_keys` without spare places."""
    found = []
    for count in reversed(shape):
        found.append(keys % count)
        keys = keys // count
    return torch.stack([keys, *reversed(found)], 1)


def points_in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """bool (N,M): which points lie within which boxes, faces included.

    Args:
        points: (N,3) or more columns, of which the first three are x, y, z in m.
        boxes: (M,7) centre x, y, z and length, width, height, m, and yaw, rad from x to y: where the length points.

    Raises:
        ValueError: points or boxes of other shapes.
    """
    if points.ndim != 2 or points.shape[1] < 3 or boxes.ndim != 2 or boxes.shape[1] != 7:
        raise ValueError(
            "expected points (N,3) or wider and boxes (M,7) x, y, z, length, width, height, yaw, got "
            f"{tuple(points.shape)} and {tuple(boxes.shape)}"
        )
    x, y, z = (points[:, None, :3] - boxes[:, :3]).unbind(-1)
    cos, sin = boxes[:, 6].cos(), boxes[:, 6].sin()
    local = torch.stack([x * cos + y * sin, y * cos - x * sin, z], -1)
    return (local.abs() <= boxes[:, 3:6] / 2).all(-1)
