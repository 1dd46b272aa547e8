"""Predictors of methods that compare two views of one thing: VICReg and LeJEPA (nothing changes), and SIE.

They are baselines for seq-JEPA: same encoder, same data, same training loop.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class IdentityPredictor(nn.Module):
    """Says that the next view's latent is this one's: invariance (VICReg, arXiv:2105.04906; LeJEPA, arXiv:2511.08544).

    Args:
        latent_dim, action_dim, num_tokens: D, A and P of what it predicts.
    """

    num_history = 1

    def __init__(self, latent_dim: int, action_dim: int, num_tokens: int = 1):
        super().__init__()
        self.latent_dim, self.action_dim, self.num_tokens = latent_dim, action_dim, num_tokens

    def change(self, latent: Tensor, action: Tensor) -> Tensor:
        """(...,P,D), (...,A) -> (...,P,D): one step."""
        return latent

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """(B,T,P,D), (B,T,A) -> (B,T,P,D); ``out[:, t]`` estimates ``latent[:, t + 1]``."""
        return self.change(latent, action)

    def rollout(self, latent: Tensor, past_action: Tensor, action: Tensor) -> Tensor:
        """History (B,T,P,D) and (B,T-1,A), candidates (B,N,H,A) -> (B,N,H,P,D)."""
        now = latent[:, -1:].expand(-1, action.shape[1], -1, -1)
        predicted = []
        for h in range(action.shape[2]):
            now = self.change(now, action[:, :, h])
            predicted.append(now)
        return torch.stack(predicted, 2)


class SplitPredictor(IdentityPredictor):
    """SIE (arXiv:2302.10283): half of the latent does not change, the other half is mapped by the action.

    A hypernetwork turns the action into the matrix of that map.

    Args:
        latent_dim: D, even.
        action_dim, num_tokens: A and P.
        width: of the hypernetwork's hidden layer.
        told: how many of the action's numbers it is told, the first ones; None tells all. What is not told belongs to
            what the latent should not hold.
    """

    def __init__(self, latent_dim: int, action_dim: int, num_tokens: int = 1, width: int = 64, told: int | None = None):
        super().__init__(latent_dim, action_dim, num_tokens)
        if told is not None and not 1 <= told <= action_dim:
            raise ValueError(f"told must be 1..{action_dim}, the action's numbers, got {told}; set predictor.told")
        self.told = action_dim if told is None else told
        if latent_dim % 2:
            raise ValueError(f"SIE splits its latent in half: latent_dim must be even, got {latent_dim}")
        self.half = latent_dim // 2
        self.hypernetwork = nn.Sequential(nn.Linear(self.told, width), nn.ReLU(), nn.Linear(width, self.half**2))

    def change(self, latent: Tensor, action: Tensor) -> Tensor:
        same, moved = latent.split(self.half, -1)
        matrix = self.hypernetwork(action[..., : self.told]).unflatten(-1, (self.half, self.half))
        return torch.cat([same, moved @ matrix], -1)
