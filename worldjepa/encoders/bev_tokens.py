"""LiDAR sweeps -> tokens of places around the car, for policies that attend to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from worldjepa.encoders.bev import BevEncoder
from worldjepa.encoders.bev_view import BevView
from worldjepa.sweeps import RangeImage
from worldjepa.types import Observation
from worldjepa.voxels import VoxelGrid


class BevTokens(nn.Module):
    """A bird's-eye view's latents, brought down to few cells by convolutions of stride 2; one token for each.

    Args:
        sensor: of the sweeps.
        area: ``x`` and ``y``, from and to, m, that is looked at.
        grid, widths, bev_dim, depth: of the :class:`~worldjepa.encoders.bev.BevEncoder`.
        head_widths: channels of the convolutions; each halves the cells along y and x.
        latent_dim: D.
        init: folder of a run whose encoder it starts from, see :func:`worldjepa.checkpoint.start_from`.
        frozen: the bird's-eye view stays as it starts; only the convolutions learn.

    Attributes:
        takes: the observation that it looks at.
        coords: (P,2) row and column of each token's cell; rows go along y, to the left, and columns ahead.

    Raises:
        ValueError: the cells cannot be halved so often, or the area is not of whole cells.
    """

    takes = "sweep"

    def __init__(
        self,
        sensor: RangeImage,
        area: Mapping[str, tuple[float, float]],
        grid: VoxelGrid | str = "street",
        widths: Sequence[int] = (16, 32, 64, 64),
        bev_dim: int = 64,
        depth: int = 1,
        head_widths: Sequence[int] = (64, 96, 128),
        latent_dim: int = 128,
        init: str | None = None,
        frozen: bool = True,
    ):
        super().__init__()
        self.view = BevView(BevEncoder(grid, widths, bev_dim, depth, init), sensor, area, frozen)
        shape = self.view.area.shape
        if any(cells % 2 ** len(head_widths) for cells in shape):
            raise ValueError(f"{shape} cells cannot be halved {len(head_widths)} times; give fewer head_widths")
        layers: list[nn.Module] = []
        for before, after in zip((bev_dim, *head_widths), head_widths, strict=False):
            # GroupNorm: a policy is trained on small batches of neighbouring moments.
            layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.GroupNorm(8, after), nn.ReLU()]
        self.head = nn.Sequential(*layers, nn.Conv2d(head_widths[-1], latent_dim, 1))
        rows, columns = (torch.arange(cells // 2 ** len(head_widths)) for cells in shape)
        self.num_tokens, self.latent_dim = len(rows) * len(columns), latent_dim
        self.register_buffer("coords", torch.cartesian_prod(rows, columns).float(), persistent=False)

    def forward(self, obs: Observation) -> Tensor:
        """``sweep`` (B,T,beams,azimuths,2), or stored latents ``bev`` (B,T,C,Y,X) -> (B,T,P,D)."""
        cells = self.view(obs)
        return rearrange(self.head(cells.flatten(0, 1)), "(b t) d y x -> b t (y x) d", b=len(cells))
