"""A picture encoder that also feels where the robot is."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from worldjepa.types import Observation


class ProprioceptiveEncoder(nn.Module):
    """Appends an embedding of ``proprioception`` to every token of a picture encoder.

    Args:
        pixels: the picture encoder, ``forward(obs) -> (B,T,P,D)``.
        num_inputs: length of the proprioception vector.
        dim: numbers that describe it in the latent, D grows by as many.
        hidden: width of the hidden layer.
    """

    def __init__(self, pixels: nn.Module, num_inputs: int, dim: int = 4, hidden: int = 64):
        super().__init__()
        self.pixels = pixels
        # Statistics of the running data instead of a bound: environments rarely say what their sensors can read.
        self.head = nn.Sequential(
            nn.BatchNorm1d(num_inputs, affine=False), nn.Linear(num_inputs, hidden), nn.SiLU(), nn.Linear(hidden, dim)
        )
        self.num_inputs = num_inputs
        self.num_tokens = pixels.num_tokens
        self.latent_dim = pixels.latent_dim + dim

    @property
    def normalizer(self) -> nn.Module:
        """The picture encoder's statistics."""
        return self.pixels.normalizer

    def forward(self, obs: Observation) -> Tensor:
        """``pixels`` and ``proprioception`` (B,T,num_inputs) -> (B,T,P,D)."""
        if "proprioception" not in obs:
            raise ValueError("this encoder needs proprioception; train with observations=[pixels,proprioception]")
        felt = obs["proprioception"]
        if felt.shape[-1] != self.num_inputs:
            raise ValueError(f"proprioception: expected {self.num_inputs} numbers, got {felt.shape[-1]}")
        seen = self.pixels(obs)
        embedded = self.head(rearrange(felt, "b t n -> (b t) n").float()).to(seen.dtype)
        embedded = rearrange(embedded, "(b t) d -> b t 1 d", b=felt.shape[0]).expand(-1, -1, self.num_tokens, -1)
        return torch.cat([seen, embedded], -1)
