"""One-dimensional convolutions over the samples of a window."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

S_JEPA_LAYERS = ((8, 32, 8), (16, 2, 2), (32, 2, 2), (64, 2, 2), (64, 2, 2))
"""Channels, kernel and stride of every layer (arXiv:2403.11772): 128 samples become one vector of 64."""


class WaveConvolutions(nn.Module):
    """S-JEPA's local encoder as the ``embedding`` of :class:`worldjepa.encoders.vit.Vit`: one window, one vector.

    Every layer is a convolution without bias and a GELU. Deviations: the reference convolves whole recordings, so that
    each vector sees 0.19 s of the next window; here a window ends in zeros, and sees nothing of a hidden neighbour.
    The reference's group norm after the first layer is left out: of one window it would take the strength away.

    Args:
        window: samples per token; must be the product of the strides.
        layers: (channels, kernel, stride) of each; the last channels are the encoder's width.

    Raises:
        ValueError: no layers, a kernel shorter than its stride, strides that do not make one vector of a window.
    """

    def __init__(self, window: int, layers: Sequence[Sequence[int]] = S_JEPA_LAYERS):
        super().__init__()
        layers = [tuple(layer) for layer in layers]
        if not layers or any(kernel < stride for _, kernel, stride in layers):
            raise ValueError(f"layers must be (channels, kernel >= stride, stride), at least one, got {layers}")
        reach = math.prod(stride for _, _, stride in layers)
        if reach != window:
            raise ValueError(
                f"the strides make one vector of {reach} samples, got windows of {window}; set window or other strides"
            )
        self.window = window
        modules: list[nn.Module] = []
        before = 1
        for channels, kernel, stride in layers:
            missing = kernel - stride  # so that the length shrinks by the stride, whatever the kernel
            convolution = nn.Conv1d(before, channels, kernel, stride, bias=False)
            nn.init.kaiming_normal_(convolution.weight)  # five layers of the default shrink a wave to a thousandth
            modules += [nn.ConstantPad1d((missing // 2, missing - missing // 2), 0.0), convolution, nn.GELU()]
            before = channels
        self.layers = nn.Sequential(*modules)

    def forward(self, contents: Tensor) -> Tensor:
        """(...,window) -> (...,channels of the last layer); every window on its own."""
        return self.layers(contents.reshape(-1, 1, self.window)).view(*contents.shape[:-1], -1)
