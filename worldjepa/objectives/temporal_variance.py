"""Against latents that only hold what stands still."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldjepa.types import Prediction


class TemporalVariance(nn.Module):
    """Hinge on how much every channel of the latent varies within a clip.

    What never changes within an episode (a target, a colour) is predicted perfectly and can be as Gaussian as SIGReg
    wants: without this term a world model may see nothing else (arXiv:2211.10831). Half of the variance may stand
    still by default.

    Args:
        least: standard deviation within clips that costs nothing, in (0, 1); latents have one of 1 over all data.
    """

    def __init__(self, least: float = 0.7):
        super().__init__()
        if not 0 < least < 1:
            raise ValueError(f"least must be between 0 and 1, the standard deviation of latents, got {least}")
        self.least = least

    def forward(self, prediction: Prediction, generator: torch.Generator | None = None) -> Tensor:
        latent = prediction.latent
        num_steps = latent.shape[1]
        deviation = latent - latent.mean(1, keepdim=True)
        variance = deviation.square().mean((0, 1)) * num_steps / (num_steps - 1)
        return torch.relu(self.least - torch.sqrt(variance + 1e-4)).mean()
