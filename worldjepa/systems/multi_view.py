"""Views of one sample have one latent: LeJEPA, without masks, teacher or predictor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from worldjepa.layers import batchnorm_mlp
from worldjepa.objectives.sigreg import SigReg
from worldjepa.systems.masked import TokenModel
from worldjepa.types import Observation, SampleBatch


class Views(Protocol):
    """Makes V views of every sample, the first ``num_global`` of them global ones."""

    num_global: int

    def __call__(self, observation: Observation, generator: torch.Generator) -> Observation:
        """(B,...) -> (V,B,...), by name."""


class MultiView(nn.Module):
    """LeJEPA (arXiv:2511.08544, section 5): the projections of all views are at the mean of the global ones, and
    Gaussian.

    ``total = (1 - weight) * prediction + weight * sigreg``. SIGReg is taken of each view's projections over the batch.
    Deviation: squared distances are averaged over the projection's numbers, as in the public code; the paper sums.

    Args:
        model: to be trained; its ``features`` stand for a view, and are what is used afterwards.
        views: of samples, such as :class:`worldjepa.samplers.crops.Crops`.
        projector: widths of an MLP's layers on the features, the last one that of a projection.
        sigreg: keeps the projections from collapse.
        weight: of SIGReg, in (0, 1); the published lambda.

    Raises:
        ValueError: another weight, or features that are no mean of all tokens.
    """

    def __init__(self, model: TokenModel, views: Views, projector: Sequence[int], sigreg: SigReg, weight: float = 0.02):
        super().__init__()
        if not 0 < weight < 1:
            raise ValueError(f"weight must be in (0, 1), got {weight}; without SIGReg all latents become one")
        self.model, self.views, self.sigreg, self.weight = model, views, sigreg, weight
        per_latent = {"mean": 1, "mean_max": 2, "pinned": model.tokenizer.num_pinned}
        if model.pool not in per_latent:
            raise ValueError("views of a sample differ in their places: expected pool mean, mean_max or pinned")
        self.projector = batchnorm_mlp(per_latent[model.pool] * model.encoder.latent_dim, list(projector))

    def forward(self, batch: SampleBatch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Name -> scalar: ``prediction``, ``sigreg``, the weighted ``total``, and ``mean_latent``, what predicting the
        mean projection of all samples would cost (no gradient, no part of the total)."""
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        # Every data-parallel rank must take the same directions, however many numbers its views have drawn.
        directions = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
        views = self.views(batch.observation, generator)
        shape = next(iter(views.values())).shape[:2]
        features = self.model.features({name: x.flatten(0, 1) for name, x in views.items()})
        projection = self.projector(features).float().unflatten(0, shape)
        prediction = (projection - projection[: self.views.num_global].mean(0)).square().mean()
        sigreg = self.sigreg(projection, directions)
        with torch.no_grad():
            mean_latent = (projection - projection.mean((0, 1))).square().mean()
        total = (1 - self.weight) * prediction + self.weight * sigreg
        return {"prediction": prediction, "sigreg": sigreg, "mean_latent": mean_latent, "total": total}

    def update_target(self, progress: float) -> None:
        """There is none."""
