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
        history: latents before those two that are seen as well. Where actions are forces they change velocities, which
            two positions do not show: 1 there.
    """

    def __init__(self, latent_dim: int, action_dim: int, num_tokens: int = 1, width: int = 256, history: int = 0):
        super().__init__()
        self.num_seen = 2 + history
        self.head = nn.Sequential(
            nn.Linear(self.num_seen * latent_dim * num_tokens, width), nn.SiLU(), nn.Linear(width, action_dim)
        )

    def forward(self, prediction: Prediction, generator: torch.Generator | None = None) -> Tensor:
        windows = prediction.latent.flatten(2).unfold(1, self.num_seen, 1)  # (B,T-1-history,P*D,num_seen)
        return F.mse_loss(self.head(windows.transpose(2, 3).flatten(2)), prediction.action[:, self.num_seen - 2 :])
