"""Variance and covariance regularisation (VICReg, arXiv:2105.04906)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldjepa.types import Prediction


class VicReg(nn.Module):
    """``variance * mean hinge(1 - std) + covariance * sum of squared off-diagonal covariances / D`` of one view.

    The published loss halves each view's variance hinge and sums the two; call this on each view and average.

    Args:
        variance, covariance: weights, 25 and 1 in the paper.
    """

    def __init__(self, variance: float = 25.0, covariance: float = 1.0):
        super().__init__()
        self.variance, self.covariance = variance, covariance

    def forward(self, embedding: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(N,D) or (G,N,D) -> scalar, averaged over groups."""
        x = embedding.float()
        x = x - x.mean(-2, keepdim=True)
        num_samples, dim = x.shape[-2:]
        covariance = x.transpose(-1, -2) @ x / (num_samples - 1)
        variances = covariance.diagonal(dim1=-2, dim2=-1)
        hinge = torch.relu(1 - (variances + 1e-4).sqrt()).mean()
        off_diagonal = (covariance.square().sum((-1, -2)) - variances.square().sum(-1)).mean() / dim
        return self.variance * hinge + self.covariance * off_diagonal


class LatentVicReg(VicReg):
    """:class:`VicReg` of a world model's latents, pooled over batch and time, each token on its own."""

    def forward(self, prediction: Prediction, generator: torch.Generator | None = None) -> Tensor:
        return super().forward(prediction.latent.flatten(0, 1).transpose(0, 1), generator)
