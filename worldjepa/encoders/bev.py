"""Sparse 3-D convolutions in plain PyTorch, and SECOND's encoder of point clouds into a bird's-eye view (BEV).

Features (V,C) belong to the V active sites of a grid; everywhere else is zero and stays zero. Every layer here is a
sum over rules, (input row, output row) pairs that share a matrix: gather the inputs, multiply, add up at the outputs.

Source: SECOND, Yan et al. 2018, Sensors 18(10), 3337; submanifold convolutions: arXiv:1711.10275.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldjepa.voxels import GRIDS, VoxelGrid, Voxels, bev_shape, voxel_coords, voxel_keys


class Rules(NamedTuple):
    """Which inputs a sparse layer multiplies by which of its K matrices, and where the products are added.

    Attributes:
        inputs, outputs: int64 (R,) rows, those of the first matrix first.
        counts: rules of each of the K matrices; their sum is R.
    """

    inputs: Tensor
    outputs: Tensor
    counts: list[int]

    @classmethod
    def of_matrices(cls, matrix: Tensor, outputs: Tensor, num_matrices: int) -> Rules:
        """Input row i is multiplied by ``matrix[i]``, int64 (V,), and added at ``outputs[i]``."""
        inputs = torch.argsort(matrix, stable=True)
        return cls(inputs, outputs[inputs], torch.bincount(matrix, minlength=num_matrices).tolist())


class Sites:
    """The active sites of a grid, and what its layers need to know of them; found once, shared by all layers.

    Args:
        coords: int64 (V,4) cloud, z, y, x, no two alike and sorted, as in :class:`worldjepa.voxels.Voxels`.
        shape: of the grid along z, y, x.
    """

    def __init__(self, coords: Tensor, shape: tuple[int, int, int]):
        self.coords = coords
        self.shape = tuple(shape)

    def __len__(self) -> int:
        return len(self.coords)

    @cached_property
    def neighbours(self) -> Rules:
        """From every site among the 27 around a site (itself too) to that site; matrices in the order of (z, y, x)."""
        # One unused place at the end of every axis, so that no step over a border is a step to an active site.
        _, height, width = (count + 1 for count in self.shape)
        keys = voxel_keys(self.coords, self.shape, spare=1)
        here = torch.arange(len(keys), device=keys.device)
        # Ended by a key that nothing equals, so that looking past the last one is no error.
        ended = torch.cat([keys, keys.new_full((1,), torch.iinfo(torch.int64).max)])
        pairs = {13: (here, here)}
        for dz, dy in ((0, 0), (0, 1), (1, -1), (1, 0), (1, 1)):
            sought = keys + (dz * height + dy) * width
            # The three along x follow each other in the sorted keys where they are active: one search finds them all.
            found = here + 1 if (dz, dy) == (0, 0) else torch.searchsorted(keys, sought - 1)
            for dx in (-1, 0, 1) if (dz, dy) != (0, 0) else (1,):
                active = ended[found] == sought + dx
                sites = active.nonzero().squeeze(1)
                offset = (dz + 1) * 9 + (dy + 1) * 3 + dx + 1
                pairs[offset] = (found[sites], sites)
                pairs[26 - offset] = (sites, found[sites])  # it is my neighbour, so I am its, on the other side
                found = found + active
        inputs, outputs = (torch.cat(rows) for rows in zip(*(pairs[offset] for offset in range(27)), strict=True))
        return Rules(inputs, outputs, [len(pairs[offset][0]) for offset in range(27)])

    @cached_property
    def halved(self) -> tuple[Sites, Rules]:
        """Sites of half the resolution (rounded up) that hold one of these; the rules are the 8 places within them."""
        shape = tuple(-(-count // 2) for count in self.shape)
        above = self.coords.clone()
        above[:, 1:] //= 2
        keys, outputs = torch.unique(voxel_keys(above, shape), return_inverse=True)
        _, z, y, x = (self.coords % 2).unbind(1)
        rules = Rules.of_matrices(z * 4 + y * 2 + x, outputs, 8)
        return Sites(voxel_coords(keys, shape), shape), rules

    @cached_property
    def columns(self) -> Rules:
        """From sites to cells (cloud, y, x) of the bird's-eye view, counted through; one matrix per z."""
        sample, z, y, x = self.coords.unbind(1)
        return Rules.of_matrices(z, (sample * self.shape[1] + y) * self.shape[2] + x, self.shape[0])


class SparseLinear(nn.Module):
    """K matrices, one for every kind of rule, without bias: empty places stay zero.

    Args:
        in_width, out_width: channels.
        num_matrices: K.
    """

    def __init__(self, in_width: int, out_width: int, num_matrices: int):
        super().__init__()
        # Shared out as nn.Conv3d does, as if all K inputs were active.
        bound = (num_matrices * in_width) ** -0.5
        self.weight = nn.Parameter(torch.empty(num_matrices, in_width, out_width).uniform_(-bound, bound))

    def apply_rules(self, x: Tensor, rules: Rules, num_outputs: int) -> Tensor:
        """(V,in) -> (num_outputs,out)."""
        parts = x.index_select(0, rules.inputs).split(rules.counts)
        products = torch.cat([part @ weight for part, weight in zip(parts, self.weight.unbind(), strict=True)])
        return products.new_zeros(num_outputs, products.shape[1]).index_add(0, rules.outputs, products)


class SubmanifoldConv3d(SparseLinear):
    """A 3x3x3 convolution whose output sites are its input sites, so that what is active does not spread.

    It equals ``nn.Conv3d(in_width, out_width, 3, padding=1, bias=False)`` read off at the active sites; ``weight``
    (27,in,out) is the convolution's, (out,in,3,3,3), permuted.
    """

    def __init__(self, in_width: int, out_width: int):
        super().__init__(in_width, out_width, 27)

    def forward(self, x: Tensor, sites: Sites) -> Tensor:
        """(V,in) -> (V,out)."""
        return self.apply_rules(x, sites.neighbours, len(sites))


class Downsample3d(SparseLinear):
    """A 2x2x2 convolution of stride 2; a site is active where one of the eight beneath it is.

    SECOND has kernels of 3 here. With 2 a cell of the bird's-eye view takes in its own column of voxels alone.
    """

    def __init__(self, in_width: int, out_width: int):
        super().__init__(in_width, out_width, 8)

    def forward(self, x: Tensor, sites: Sites) -> tuple[Tensor, Sites]:
        """(V,in) -> (W,out) and the W sites."""
        coarse, rules = sites.halved
        return self.apply_rules(x, rules, len(coarse)), coarse


class SiteNorm(nn.BatchNorm1d):
    """BatchNorm over active sites; with fewer than two of them, which have no statistics, by the running ones."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) < 2:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class Level(nn.Module):
    """One resolution: down to it where it is not the first, then submanifold convolutions, each with norm and ReLU."""

    def __init__(self, in_width: int, width: int, depth: int, first: bool):
        super().__init__()
        self.down = None if first else Downsample3d(in_width, width)
        self.down_norm = None if first else SiteNorm(width, eps=1e-3)
        self.convs = nn.ModuleList(
            SubmanifoldConv3d(in_width if first and not index else width, width) for index in range(depth)
        )
        self.norms = nn.ModuleList(SiteNorm(width, eps=1e-3) for _ in range(depth))

    def forward(self, x: Tensor, sites: Sites) -> tuple[Tensor, Sites]:
        if self.down is not None:
            x, sites = self.down(x, sites)
            x = F.relu(self.down_norm(x))
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x, sites)))
        return x, sites


class BevEncoder(nn.Module):
    """Sparse voxels -> a dense map of latents seen from above, after SECOND; empty cells are exactly zero.

    Submanifold convolutions at full resolution and at every half of it; then each cell's column of sites, whatever its
    z, goes through one linear map, norm and ReLU. There is no dense convolution, so a latent comes from active voxels
    alone. What a voxel gives is not SECOND's mean x, y, z and intensity but where its mean point lies from its centre
    (in voxels), its height in the grid (-1..1) and the intensity: a thing looks the same wherever it stands.

    Args:
        grid: voxels it takes, or the name of one of :data:`worldjepa.voxels.GRIDS`.
        widths: channels at strides 1, 2, 4, ...
        bev_dim: D.
        depth: submanifold convolutions of every level.
        init: folder of a run whose encoder training starts from, see :func:`worldjepa.checkpoint.start_from`.

    Attributes:
        stride: voxels along y and x in one cell.
        bev_shape: (Y,X) cells.
        latent_dim: D.
    """

    def __init__(
        self,
        grid: VoxelGrid | str = "street",
        widths: Sequence[int] = (16, 32, 64, 64),
        bev_dim: int = 128,
        depth: int = 1,
        init: str | None = None,
    ):
        super().__init__()
        self.init = init
        if isinstance(grid, str):
            if grid not in GRIDS:
                close = difflib.get_close_matches(grid, GRIDS, 1)
                raise ValueError(
                    f"unknown grid {grid!r}, known are {', '.join(GRIDS)}"
                    + (f"; did you mean {close[0]!r}?" if close else "; or give a VoxelGrid of your own")
                )
            grid = GRIDS[grid]
        if not widths or depth < 1:
            raise ValueError(
                f"an encoder needs at least one width and a depth of at least 1, got widths {list(widths)} and "
                f"depth {depth}"
            )
        self.grid = grid
        self.stride = 2 ** (len(widths) - 1)
        self.bev_shape = bev_shape(grid.shape, self.stride)
        self.latent_dim = bev_dim
        self.levels = nn.ModuleList(
            Level(widths[index - 1] if index else 5, width, depth, first=not index)
            for index, width in enumerate(widths)
        )
        self.project = SparseLinear(widths[-1], bev_dim, -(-grid.shape[0] // self.stride))
        self.norm = SiteNorm(bev_dim, eps=1e-3)
        self.register_buffer("low", torch.tensor(grid.low), persistent=False)
        self.register_buffer("size", torch.tensor(grid.size), persistent=False)

    def forward(self, voxels: Voxels) -> Tensor:
        """Voxels of B clouds -> (B,D,Y,X), channels last in memory.

        Raises:
            ValueError: the voxels are of another grid.
        """
        if tuple(voxels.shape) != self.grid.shape:
            raise ValueError(
                f"expected voxels of a grid {self.grid.shape} (z, y, x), got {tuple(voxels.shape)}; voxelize with "
                "encoder.grid"
            )
        x, sites = self._inputs(voxels), Sites(voxels.coords, voxels.shape)
        for level in self.levels:
            x, sites = level(x, sites)
        height, width = self.bev_shape
        cells = self.project.apply_rules(x, sites.columns, voxels.batch_size * height * width)
        occupied = torch.unique(sites.columns.outputs)
        cells = cells.index_copy(0, occupied, F.relu(self.norm(cells[occupied])))
        return rearrange(cells, "(b y x) d -> b d y x", y=height, x=width)

    def _inputs(self, voxels: Voxels) -> Tensor:
        """float32 (V,5), see above."""
        place = voxels.coords[:, 1:].flip(1) + 0.5
        offset = (voxels.features[:, :3] - self.low) / self.size - place
        height = place[:, 2:] * (2 / self.grid.shape[0]) - 1
        return torch.cat([offset, height, voxels.features[:, 3:]], 1)
