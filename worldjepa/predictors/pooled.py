"""Predictors of target tokens from one latent for all that is visible: nothing changes, a linear map, a hypernetwork.

They stand where :class:`worldjepa.predictors.masked.MaskedPredictor` does, as the least that a prediction can be: what
attention between tokens is worth shows against them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldjepa.layers import SinCosCoordinates
from worldjepa.tokens import mean_where
from worldjepa.types import TokenSet


class PooledIdentity(nn.Module):
    """Says that every target is the mean of the context's latents, wherever it lies: invariance.

    Args:
        latent_dim: D.
    """

    def __init__(self, latent_dim: int):
        super().__init__()
        self.latent_dim = latent_dim

    def forward(self, context: TokenSet, coords: Tensor, valid: Tensor) -> Tensor:
        """Context (B,K), targets' coords (B,M,Q,C) and valid (B,M,Q) -> (B,M,Q,D); padding among targets says nothing.

        Pinned tokens have no part in the mean where there are others.
        """
        counts = context.valid & (~context.pinned | context.pinned.all())
        mean = mean_where(context.values, counts)
        return self.at(mean[:, None, None].expand(*coords.shape[:3], -1), coords)

    def at(self, latent: Tensor, coords: Tensor) -> Tensor:
        """(B,M,Q,D) what is visible, for every target -> (B,M,Q,D) what is predicted there."""
        return latent


class PooledLinear(PooledIdentity):
    """A linear map of that mean and of the embedding of where the target lies.

    Args:
        latent_dim: D.
        coordinates: coords (...,C) -> (...,D); sines and cosines when None.
    """

    def __init__(self, latent_dim: int, coordinates: nn.Module | None = None):
        super().__init__(latent_dim)
        self.coordinates = SinCosCoordinates(latent_dim) if coordinates is None else coordinates
        self.map = nn.Linear(2 * latent_dim, latent_dim)

    def at(self, latent: Tensor, coords: Tensor) -> Tensor:
        return self.map(torch.cat([latent, self.coordinates(coords).to(latent.dtype)], -1))


class PooledHypernetwork(PooledIdentity):
    """Where the target lies gives the matrix that maps that mean, as actions do in SIE (arXiv:2302.10283).

    Args:
        latent_dim: D.
        hidden: width of the hypernetwork's hidden layer.
        coordinates: coords (...,C) -> (...,D); sines and cosines when None.
    """

    def __init__(self, latent_dim: int, hidden: int = 16, coordinates: nn.Module | None = None):
        super().__init__(latent_dim)
        self.coordinates = SinCosCoordinates(latent_dim) if coordinates is None else coordinates
        self.hypernetwork = nn.Sequential(
            nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, latent_dim**2 + latent_dim)
        )

    def at(self, latent: Tensor, coords: Tensor) -> Tensor:
        places = self.coordinates(coords).to(latent.dtype)
        matrix, shift = self.hypernetwork(places).split([self.latent_dim**2, self.latent_dim], -1)
        matrix = matrix.unflatten(-1, (self.latent_dim, self.latent_dim)) / self.latent_dim**0.5
        return torch.einsum("bmqd,bmqde->bmqe", latent, matrix) + shift
