"""How far an imagined future ends from the goal."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GoalDistance(nn.Module):
    """Squared distance of the last predicted latent to the goal's, averaged over tokens and channels.

    The cost of DINO-WM and LeWM (arXiv:2411.04983, 2603.19312). Only the last step counts: with a horizon that
    shrinks towards the goal, asking to be near it earlier would forbid walking round the block.

    Args:
        directions: compare the latents' directions alone, for models that are trained on cosines (seq-JEPA).
    """

    def __init__(self, directions: bool = False):
        super().__init__()
        self.directions = directions

    def forward(self, latent: Tensor, goal: Tensor, action: Tensor, start: Tensor | None = None) -> Tensor:
        """Cost (B,N), float32, >= 0.

        Args:
            latent: (B,N,H,P,D) predicted latents.
            goal: (B,P,D) latent of the goal picture.
            action: (B,N,H,A) the plans, and
            start: (B,P,D) latent of the present; every cost gets them, this one has no use for them.
        """
        assert goal.shape == (len(latent), *latent.shape[3:]), f"goal {goal.shape} for latents {latent.shape}"
        # Squares of bfloat16 differences would lose the order of candidates close to the goal.
        last, wanted = latent[:, :, -1].to(torch.float32), goal[:, None].to(torch.float32)
        if self.directions:
            last, wanted = F.normalize(last, dim=-1), F.normalize(wanted, dim=-1)
        return (last - wanted).square().mean((-2, -1))
