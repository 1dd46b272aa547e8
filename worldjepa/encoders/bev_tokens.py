"""LiDAR sweeps -> tokens of places around the car, for policies that attend to them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from worldjepa.encoders.bev import BevEncoder
from worldjepa.sweeps import RangeImage, clouds_of
from worldjepa.types import Observation
from worldjepa.voxels import VoxelGrid, voxelize


class BevTokens(nn.Module):
    """A bird's-eye view's latents, brought down to few cells by convolutions of stride 2; one token for each.

    Args:
        sensor: of the sweeps.
        grid, widths, bev_dim, depth: of the :class:`~worldjepa.encoders.bev.BevEncoder`.
        head_widths: channels of the convolutions; each halves the cells along y and x.
        latent_dim: D.
        init: folder of a run whose encoder it starts from, see :func:`worldjepa.checkpoint.start_from`.
        frozen: the bird's-eye view stays as it starts; only the convolutions learn.

    Attributes:
        takes: the observation that it looks at.
        coords: (P,2) row and column of each token's cell; rows go along y, to the left, and columns ahead.

    Raises:
        ValueError: the cells cannot be halved so often.
    """

    takes = "sweep"

    def __init__(
        self,
        sensor: RangeImage,
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
        self.sensor, self.frozen = sensor, frozen
        self.bev = BevEncoder(grid, widths, bev_dim, depth, init)
        if any(cells % 2 ** len(head_widths) for cells in self.bev.bev_shape):
            raise ValueError(
                f"{self.bev.bev_shape} cells cannot be halved {len(head_widths)} times; give fewer head_widths"
            )
        layers: list[nn.Module] = []
        for before, after in zip((bev_dim, *head_widths), head_widths, strict=False):
            # GroupNorm: a policy is trained on small batches of neighbouring moments.
            layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.GroupNorm(8, after), nn.ReLU()]
        self.head = nn.Sequential(*layers, nn.Conv2d(head_widths[-1], latent_dim, 1))
        rows, columns = (torch.arange(cells // 2 ** len(head_widths)) for cells in self.bev.bev_shape)
        self.num_tokens, self.latent_dim = len(rows) * len(columns), latent_dim
        self.register_buffer("coords", torch.cartesian_prod(rows, columns).float(), persistent=False)
        if frozen:
            self.bev.requires_grad_(False)

    def train(self, mode: bool = True) -> BevTokens:
        """A frozen bird's-eye view stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.bev.eval()
        return self

    def forward(self, obs: Observation) -> Tensor:
        """``obs["sweep"]`` (B,T,beams,azimuths,2) -> (B,T,P,D)."""
        cells = self.bev(voxelize(clouds_of(obs, self.sensor), self.bev.grid))
        return rearrange(self.head(cells), "(b t) d y x -> b t (y x) d", b=len(next(iter(obs.values()))))
