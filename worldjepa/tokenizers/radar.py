"""Radar pictures cut into square patches."""

from __future__ import annotations

import torch

from worldjepa.tokenizers.image import ImageTokenizer
from worldjepa.types import Observation, TokenSet


class RadarTokenizer(ImageTokenizer):
    """``amplitude`` -> one token per patch of its logarithm, coordinates (row, column) counted in patches.

    The logarithm is ours: it makes the noise of speckle, a factor, the same everywhere, and a gain a mere offset.

    Args:
        image_size, patch_size, num_pinned: see :class:`worldjepa.tokenizers.image.ImageTokenizer`.
        mean, std: logarithms x become (x - mean) / std; :meth:`fit` takes those of data.
    """

    takes = ("amplitude",)

    def __init__(self, image_size: int, patch_size: int, num_pinned: int = 0, mean: float = 0.0, std: float = 1.0):
        super().__init__(image_size, patch_size, channels=1, num_pinned=num_pinned, mean=mean, std=std)

    def fit(self, observation: Observation) -> None:
        """Takes one mean and standard deviation of the logarithm of all ``amplitude``.

        Raises:
            ValueError: amplitudes that are not above 0.
        """
        amplitude = observation["amplitude"]
        if not bool((amplitude > 0).all()):
            raise ValueError(f"amplitude must be > 0, got {float(amplitude.min())}; raise it to the sensor's noise")
        logarithm = amplitude.log()
        self.mean.copy_(logarithm.mean())
        self.std.copy_(logarithm.std().clamp_min(1e-3))

    def forward(self, observation: Observation) -> TokenSet:
        """``amplitude`` float32 (B,1,height,width) > 0 -> values (B,P,patch_size^2), P = num_pinned + patches."""
        amplitude = observation["amplitude"]
        expected = (1, self.image_size, self.image_size)
        if amplitude.dtype != torch.float32 or tuple(amplitude.shape[1:]) != expected:
            raise ValueError(
                f"amplitude must be float32 (B, {', '.join(map(str, expected))}), got {amplitude.dtype} "
                f"{tuple(amplitude.shape)}; crop the pictures or set image_size"
            )
        return self.cut((amplitude.log() - self.mean) / self.std)
