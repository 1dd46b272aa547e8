"""How much reward an imagined future brings."""

import torch
from torch import Tensor, nn


class PredictedReturn(nn.Module):
    """Minus the mean reward per raw step that a world model's head guesses along the roll-out.

    Args:
        reward: ``(before (...,P,D), after (...,P,D)) -> (...)``, a world model's ``reward``.
        discount: of each model step against the one before it, in (0, 1].

    Raises:
        ValueError: the model has no such head.
    """

    def __init__(self, reward: nn.Module | None, discount: float = 1.0):
        super().__init__()
        if reward is None:
            raise ValueError(
                "planning for return needs a world model with a reward head, and this one was trained on episodes "
                "without rewards; collect them in an environment that has some, or use cost=goal_distance"
            )
        if not 0 < discount <= 1:
            raise ValueError(f"discount must be in (0, 1], got {discount}")
        self.reward = reward
        self.discount = discount

    def forward(self, latent: Tensor, goal: Tensor | None, action: Tensor, start: Tensor) -> Tensor:
        """Cost (B,N), float32.

        Args:
            latent: (B,N,H,P,D) predicted latents.
            goal: not used.
            action: (B,N,H,A) the plans, not used.
            start: (B,P,D) latent of the present.
        """
        first = start[:, None, None].expand(-1, latent.shape[1], 1, -1, -1)
        chain = torch.cat([first, latent], 2).float()
        with torch.autocast(chain.device.type, enabled=False):
            rewards = self.reward(chain[:, :, :-1], chain[:, :, 1:])
        weights = self.discount ** torch.arange(rewards.shape[-1], device=rewards.device)
        return -(rewards * weights).sum(-1) / weights.sum()
