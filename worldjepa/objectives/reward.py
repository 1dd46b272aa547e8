"""How far guessed rewards are from what was got."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldjepa.types import Prediction


class RewardError(nn.Module):
    """Mean squared error of the reward head on true and on rolled-out latents, added up."""

    def forward(self, prediction: Prediction, generator: torch.Generator | None = None) -> Tensor:
        guesses = (prediction.guessed_reward, prediction.rollout_reward)
        return sum(F.mse_loss(guess, prediction.reward) for guess in guesses)
