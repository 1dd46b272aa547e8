"""Inverse dynamics: which action led from this latent to the next one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldjepa.types import Prediction


class InverseDynamics(nn.Module):
    """Mean squared error of actions guessed from neighbouring latents (PLDM, arXiv:2502.14819).

    It keeps in the latent whatever the agent can influence, and costs nothing at planning time.

    Args:
        latent_dim, num_tokens: D and P of the encoder.
        action_dim: A.
        width: of the hidden layer.
    """

    def __init__(self, latent_dim: int, action_dim: int, num_tokens: int = 1, width: int = 256):
        super().__init__()
        self.head = nn.Sequential(
            nn.Linear(2 * latent_dim * num_tokens, width), nn.SiLU(), nn.Linear(width, action_dim)
        )

    def forward(self, prediction: Prediction, generator: torch.Generator | None = None) -> Tensor:
        latent = prediction.latent.flatten(2)
        guess = self.head(torch.cat([latent[:, :-1], latent[:, 1:]], -1))
        return F.mse_loss(guess, prediction.action)
