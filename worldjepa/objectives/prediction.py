"""How far predicted latents are from their targets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldjepa.objectives.distances import cosine
from worldjepa.types import Prediction


class OneStepError(nn.Module):
    """Mean squared error of predictions from the true past (LeWM's next-embedding loss)."""

    def forward(self, prediction: Prediction, generator: torch.Generator | None = None) -> Tensor:
        return F.mse_loss(prediction.one_step, prediction.target[:, 1:])


class RolloutError(nn.Module):
    """Mean squared error of the open-loop roll-out from the first frame, all horizons weighted alike."""

    needs_rollout = True

    def forward(self, prediction: Prediction, generator: torch.Generator | None = None) -> Tensor:
        return F.mse_loss(prediction.rollout, prediction.target[:, 1:])


class OneStepAngle(nn.Module):
    """1 - cosine between predictions from the true past and their targets (seq-JEPA, arXiv:2505.03176).

    Args:
        last_only: only the prediction that has seen the whole clip counts, as in the paper; otherwise those from
            every beginning of it too, which are nearly free.
    """

    def __init__(self, last_only: bool = False):
        super().__init__()
        self.last_only = last_only

    def forward(self, prediction: Prediction, generator: torch.Generator | None = None) -> Tensor:
        first = -1 if self.last_only else 0
        return cosine(prediction.one_step[:, first:], prediction.target[:, 1:][:, first:])


class RolloutAngle(nn.Module):
    """1 - cosine of the open-loop roll-out from the first frame, all horizons weighted alike."""

    needs_rollout = True

    def forward(self, prediction: Prediction, generator: torch.Generator | None = None) -> Tensor:
        return cosine(prediction.rollout, prediction.target[:, 1:])
