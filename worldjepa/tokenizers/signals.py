"""Recordings of the heart and the brain, cut into windows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldjepa.types import Observation, TokenSet

FLATTEST = 1e-6
"""Least spread of a channel, in its unit: a lead that was off is divided by this, not by zero."""


class EcgTokenizer(nn.Module):
    """``ecg`` -> one token per window of all leads, coordinate (window,) counted from 0.

    ECG-JEPA's tokens (arXiv:2410.13867): 25 samples at 500 Hz of all leads; 10 s are 200 of them. Windows
    do not overlap, so that hiding a token hides its samples.

    Args:
        channels: leads of a recording.
        window: samples per token.
        num_pinned: tokens without content put in front (the reference has one register), at coordinate -1; the encoder
            learns them.

    Raises:
        ValueError: a size below 1.
    """

    takes = ("ecg",)

    def __init__(self, channels: int, window: int, num_pinned: int = 0):
        super().__init__()
        if channels < 1 or window < 1:
            raise ValueError(f"channels and window must be >= 1, got {channels} and {window}")
        self.channels, self.window, self.num_pinned = channels, window, num_pinned
        self.token_dim = channels * window
        self.register_buffer("mean", torch.zeros(channels, 1))
        self.register_buffer("std", torch.ones(channels, 1))

    def fit(self, observation: Observation) -> None:
        """Takes the mean and standard deviation of every lead over all samples, see ``forward``."""
        std, mean = torch.std_mean(_checked(observation, "ecg", self.channels, self.window), (0, 2))
        self.mean.copy_(mean[:, None])
        self.std.copy_(std[:, None].clamp_min(FLATTEST))

    def forward(self, observation: Observation) -> TokenSet:
        """``ecg`` float32 (B,channels,T), T any number of whole windows -> values (B,num_pinned + windows,token_dim).

        Raises:
            ValueError: another number of leads, or samples that do not fill whole windows.
        """
        ecg = _checked(observation, "ecg", self.channels, self.window)
        values = rearrange((ecg - self.mean) / self.std, "b c (n t) -> b n (c t)", t=self.window)
        coords = torch.arange(values.shape[1], dtype=torch.float32, device=values.device)[:, None]
        return _tokens(values, coords, self.num_pinned)


class EegTokenizer(nn.Module):
    """``eeg`` -> one token per channel and window, coordinates (x, y, z of the electrode, window), channel by channel.

    S-JEPA's tokens (arXiv:2403.11772) are such windows, there of 1.19 s every second; here they do not overlap, so
    that hiding a token hides its samples. Places are in units of ``spacing``, windows are counted
    from 0: neighbours are about 1 apart in both.

    Args:
        places: (channels,3) of the electrodes in radii of the head, in the order of the recordings' channels, such as
            :func:`worldjepa.datasets.lead_fields.electrode_places` gives. With the rows in another order a model is
            told wrong places, and shows what the true ones are worth.
        window: samples per token.
        spacing: what is 1 in the coordinates, in radii of the head; 0.6 is the 10-20 system's distance of neighbours.
        num_pinned: tokens without content put in front, at coordinates -1; the encoder learns them.

    Raises:
        ValueError: places that are no (channels,3), a size below 1, a spacing not above 0.
    """

    takes = ("eeg",)

    def __init__(self, places: Sequence[Sequence[float]], window: int, spacing: float = 0.6, num_pinned: int = 0):
        super().__init__()
        table = torch.tensor([[float(number) for number in place] for place in places])
        if table.dim() != 2 or table.shape[1] != 3:
            raise ValueError(f"places must be (channels, 3) of x, y and z, got {tuple(table.shape)}")
        if window < 1 or spacing <= 0:
            raise ValueError(f"window must be >= 1 and spacing above 0, got {window} and {spacing}")
        self.channels, self.window, self.num_pinned = len(table), window, num_pinned
        self.token_dim = window
        self.register_buffer("places", table / spacing, persistent=False)
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("std", torch.tensor(1.0))

    def fit(self, observation: Observation) -> None:
        """Takes one mean and standard deviation of all channels: how strong each one is, is information."""
        std, mean = torch.std_mean(_checked(observation, "eeg", self.channels, self.window))
        self.mean.copy_(mean)
        self.std.copy_(std.clamp_min(FLATTEST))

    def forward(self, observation: Observation) -> TokenSet:
        """``eeg`` float32 (B,channels,T), T any number of whole windows -> values (B,P,window).

        P = num_pinned + channels x windows.

        Raises:
            ValueError: another number of channels, or samples that do not fill whole windows.
        """
        eeg = _checked(observation, "eeg", self.channels, self.window)
        values = rearrange((eeg - self.mean) / self.std, "b c (n t) -> b (c n) t", t=self.window)
        count = eeg.shape[2] // self.window
        time = torch.arange(count, dtype=torch.float32, device=eeg.device).repeat(self.channels)
        coords = torch.cat([self.places.repeat_interleave(count, 0), time[:, None]], 1)
        return _tokens(values, coords, self.num_pinned)


def _checked(observation: Observation, name: str, channels: int, window: int) -> Tensor:
    signal: Tensor = observation[name]
    if signal.dim() != 3 or signal.shape[1] != channels or signal.dtype != torch.float32:
        raise ValueError(
            f"{name} must be float32 (B, {channels}, samples), got {signal.dtype} {tuple(signal.shape)}; read other "
            "channels or describe those that there are"
        )
    if not signal.shape[2] or signal.shape[2] % window:
        raise ValueError(
            f"{name} must have a whole number of windows of {window} samples, got {signal.shape[2]} samples; cut the "
            "recordings or set window"
        )
    return signal


def _tokens(values: Tensor, coords: Tensor, num_pinned: int) -> TokenSet:
    """With pinned tokens in front."""
    values, coords = F.pad(values, (0, 0, num_pinned, 0)), F.pad(coords, (0, 0, num_pinned, 0), value=-1.0)
    valid = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    return TokenSet(values, coords, valid, torch.arange(len(coords), device=values.device) < num_pinned)
