"""Noise on plans: standard normal in every number, related along time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class BlockNoise:
    """Raw actions of one block share a part of their noise, so that a block goes somewhere.

    Independent noise would cancel within a block of 5 actions and rarely push anything anywhere.

    Args:
        correlation: between two raw actions of the same block, in [0, 1]. Blocks are independent.
    """

    def __init__(self, correlation: float = 0.8):
        if not 0 <= correlation <= 1:
            raise ValueError(f"the correlation of noise inside a block must be in [0, 1], got {correlation}")
        self.correlation = correlation

    def sample(
        self, generators: Sequence[torch.Generator], num_samples: int, horizon: int, block: tuple[int, int]
    ) -> Tensor:
        """Noise (B,N,H,A), one stream per environment, on the generators' device."""
        frameskip, raw_action_dim = block

        def draw(generator: torch.Generator) -> Tensor:
            # One call: the last row is what a block shares.
            shape = (num_samples, horizon, frameskip + 1, raw_action_dim)
            white = torch.randn(shape, generator=generator, device=generator.device)
            noise = (1 - self.correlation) ** 0.5 * white[..., :-1, :] + self.correlation**0.5 * white[..., -1:, :]
            return noise.flatten(-2)

        return torch.stack([draw(generator) for generator in generators])


class ColouredNoise:
    """Noise with power 1 / frequency^exponent over the raw actions of the whole plan (iCEM, arXiv:2008.06389).

    Args:
        exponent: 0 white, 1 pink, 2 red; >= 0. The constant part gets the power of the lowest frequency.
    """

    def __init__(self, exponent: float = 2.0):
        if exponent < 0:
            raise ValueError(f"the exponent of coloured noise must be >= 0, got {exponent}")
        self.exponent = exponent

    def sample(
        self, generators: Sequence[torch.Generator], num_samples: int, horizon: int, block: tuple[int, int]
    ) -> Tensor:
        """Noise (B,N,H,A), one stream per environment, on the generators' device."""
        frameskip, raw_action_dim = block
        num_steps = horizon * frameskip
        white = torch.stack(
            [torch.randn(num_samples, num_steps, raw_action_dim, generator=g, device=g.device) for g in generators]
        )
        frequency = torch.fft.rfftfreq(num_steps, device=white.device).clamp_min(1 / num_steps)
        gain = frequency ** (-self.exponent / 2)
        # Unit variance: the mean power over all frequencies, of which rfft keeps one of each mirrored pair.
        both_sides = torch.fft.fftfreq(num_steps, device=white.device).abs().clamp_min(1 / num_steps)
        gain = gain / (both_sides**-self.exponent).mean().sqrt()
        noise = torch.fft.irfft(torch.fft.rfft(white, dim=2) * gain[:, None], n=num_steps, dim=2)
        return noise.unflatten(2, (horizon, frameskip)).flatten(-2)
