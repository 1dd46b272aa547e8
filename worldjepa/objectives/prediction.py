"""How far predicted latents are from their targets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldjepa.types import Prediction


class OneStepError(nn.Module):
    """Mean squared error of predictions from the true past (LeWM's next-embedding loss)."""

    def forward(self, prediction: Prediction, generator: torch.Generator | None = None) -> Tensor:
        return F.mse_loss(prediction.one_step, prediction.target[:, 1:])


class RolloutError(nn.Module):
    """Mean squared error of the open-loop roll-out from the first frame, all horizons weighted alike."""

    def forward(self, prediction: Prediction, generator: torch.Generator | None = None) -> Tensor:
        return F.mse_loss(prediction.rollout, prediction.target[:, 1:])
