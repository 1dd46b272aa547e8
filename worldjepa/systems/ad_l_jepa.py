"""AD-L-JEPA (AAAI 2026): latents of a LiDAR's bird's-eye view, learned by predicting those of hidden cells.

Half of the cells, of those with points and of those without, are hidden. One encoder sees the points of the visible
cells alone, its slow copy those of the hidden ones alone, and a predictor says hidden latents from visible ones.
Nothing is known of what the points belong to, and nothing is pasted into the scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldjepa.encoders.bev import BevEncoder
from worldjepa.objectives.weighted_sum import WeightedSum
from worldjepa.samplers.cells import CellMask
from worldjepa.sweeps import RangeImage, clouds_of
from worldjepa.targets import Target
from worldjepa.types import BevPrediction, Observation, Segment
from worldjepa.voxels import Voxels, bev_occupied, voxel_cells, voxelize

EMPTY = 0.5
"""A predicted latent whose cosine with the empty token is larger says that nothing is there (published)."""


class BevModel(nn.Module):
    """What is kept of the training: encoder, predictor and the tokens of hidden and of empty cells.

    Args:
        encoder: voxels -> (B,D,Y,X).
        predictor: (B,D,Y,X) -> (B,D,Y,X).
        sensor: of the sweeps in observations.
    """

    def __init__(self, encoder: BevEncoder, predictor: nn.Module, sensor: RangeImage):
        super().__init__()
        self.encoder, self.predictor, self.sensor = encoder, predictor, sensor
        # Latents end in a ReLU: a token with negative parts could never be predicted.
        self.hidden_token, self.empty_token = (
            nn.Parameter(torch.randn(encoder.latent_dim).abs() * 0.02) for _ in range(2)
        )

    def voxels(self, observation: Observation) -> Voxels:
        """Observations (B,T,...) -> the voxels of their B T clouds."""
        return voxelize(clouds_of(observation, self.sensor), self.encoder.grid)

    def encode(self, observation: Observation) -> Tensor:
        """Observations (B,T,...) -> (B,T,D,Y,X) latents of every cell; 0 where there are no points."""
        batch = next(iter(observation.values())).shape[:2]
        return self.encoder(self.voxels(observation)).unflatten(0, batch)

    def predict(self, voxels: Voxels, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Context and prediction (B,D,Y,X), both of length 1 in every cell, without the points in ``hidden`` (B,Y,X).

        An encoder has no latent for a cell without points: the empty token stands there.
        """
        covered = hidden.flatten()[voxel_cells(voxels, self.encoder.stride)]
        visible = voxels.subset(~covered)
        latent = _filled(self.encoder(visible), bev_occupied(visible, self.encoder.stride), self.empty_token)
        context = _filled(latent, ~hidden, self.hidden_token)
        return F.normalize(context, dim=1), F.normalize(self.predictor(context), dim=1)

    def emptiness(self, latent: Tensor) -> Tensor:
        """(B,D,Y,X) of length 1 -> (B,Y,X) cosine with the empty token; over ``EMPTY``, nothing is there."""
        return torch.einsum("bdyx,d->byx", latent, F.normalize(self.empty_token, dim=0))


class AdLJepa(nn.Module):
    """The model with what only training needs.

    Args:
        model: to be trained.
        target: encoder -> its slow copy.
        objective: terms of a :class:`worldjepa.types.BevPrediction`.
        sampler: cells with points (B,Y,X), generator -> hidden cells (B,Y,X).
        augment: clouds, generator -> clouds.
    """

    def __init__(
        self,
        model: BevModel,
        target: Callable[[nn.Module], Target],
        objective: WeightedSum,
        sampler: CellMask,
        augment: Callable[[Sequence[Tensor], torch.Generator], Sequence[Tensor]] | None = None,
    ):
        super().__init__()
        self.model, self.target, self.objective = model, target(model.encoder), objective
        self.sampler, self.augment = sampler, augment

    def forward(self, segment: Segment, generator: torch.Generator) -> dict[str, Tensor]:
        """Name -> scalar of every training term, and their weighted ``total``; every frame is a cloud of its own."""
        clouds = clouds_of(segment.observation, self.model.sensor)
        if self.augment is not None:
            clouds = self.augment(clouds, generator)
        return self.objective(self.predict(voxelize(clouds, self.model.encoder.grid), generator), generator)

    def predict(self, voxels: Voxels, generator: torch.Generator) -> BevPrediction:
        """Hides cells and predicts them."""
        stride = self.model.encoder.stride
        occupied = bev_occupied(voxels, stride)
        hidden = self.sampler(occupied, generator)
        context, prediction = self.model.predict(voxels, hidden)
        covered = voxels.subset(hidden.flatten()[voxel_cells(voxels, stride)])
        target = _filled(self.target(covered), bev_occupied(covered, stride), self.model.empty_token.detach())
        return BevPrediction(context, prediction, F.normalize(target, dim=1), occupied, hidden)

    def update_target(self, progress: float) -> None:
        """To be called after every optimiser step; ``progress`` in [0, 1] is the share of the training done."""
        self.target.update(self.model.encoder, progress)


def _filled(latent: Tensor, keep: Tensor, token: Tensor) -> Tensor:
    """(B,D,Y,X) where ``keep`` (B,Y,X), and ``token`` (D,) elsewhere."""
    return torch.where(keep[:, None], latent, token.to(latent.dtype)[:, None, None])
