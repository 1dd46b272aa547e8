"""Sound cut into patches of its log-mel spectrogram."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldjepa.types import Observation, TokenSet

FLOOR = 1e-6
"""Added to every power before its logarithm; a full-scale sine has about 2e3 in a window of 200 samples."""
FIT_BATCH = 256


def mel_filters(rate: int, fft_size: int, num_mels: int) -> Tensor:
    """HTK's filterbank: power in the bins of an FFT -> power in bands that are as wide as the ear has them.

    Triangles of height 1 with centres evenly spaced in mel = 2595 log10(1 + f / 700) from 0 Hz to rate / 2, linear in
    mel (The HTK Book, section 5.4). Between the first centre and the last the filters sum to 1 at every frequency.

    Args:
        rate: samples per second.
        fft_size: samples per FFT.
        num_mels: number of bands.

    Returns:
        float32 (fft_size // 2 + 1, num_mels).

    Raises:
        ValueError: a band so narrow that it has no bin.
    """
    bins = mel_of(torch.arange(fft_size // 2 + 1, dtype=torch.float64) * rate / fft_size)
    step = mel_of(torch.tensor(rate / 2, dtype=torch.float64)) / (num_mels + 1)
    centres = step * torch.arange(1, num_mels + 1)
    filters = (1 - (bins[:, None] - centres).abs() / step).clamp_min(0)
    if not (filters > 0).any(0).all():
        raise ValueError(f"num_mels ({num_mels}) bands are too narrow for {fft_size} samples at {rate} Hz; lower it")
    return filters.float()


def mel_of(frequency: Tensor) -> Tensor:
    """Hz -> mel, HTK's formula: 1000 Hz are 1000 mel."""
    return 2595 * torch.log10(1 + frequency / 700)


class SpectrogramTokenizer(nn.Module):
    """``wave`` -> one token per patch of its log-mel spectrogram, coordinates (row, column) counted in patches.

    Row 0 has the lowest frequencies, column 0 the first moments. Column j has the windows centred within its own
    ``patch * hop`` seconds; windows reach beyond these, so a token hears half a window of its neighbours in time, and
    neighbouring rows share one triangle of the filterbank, as in every transformer of spectrograms.

    The FFT is as long as the window, rounded up to a power of two, and longer where a mel band would have no bin.

    Args:
        rate: samples per second.
        num_mels: bands of the spectrogram, a multiple of ``patch``.
        patch: bands and windows of a patch.
        window, hop: length of a (Hann) window and the time from one to the next, s.
        mean, std: logarithms x of the power become (x - mean) / std; :meth:`fit` takes those of data.

    Raises:
        ValueError: sizes that do not fit each other.
    """

    takes = ("wave", "length")
    num_pinned = 0

    def __init__(
        self,
        rate: int,
        num_mels: int = 128,
        patch: int = 16,
        window: float = 0.025,
        hop: float = 0.01,
        mean: float = 0.0,
        std: float = 1.0,
    ):
        super().__init__()
        if num_mels % patch:
            raise ValueError(f"num_mels must be a multiple of patch ({patch}), got {num_mels}")
        self.window_size, self.hop_size = round(rate * window), round(rate * hop)
        if not 1 <= self.hop_size <= self.window_size:
            raise ValueError(f"hop must be at least a sample and at most window ({window} s), got {hop} s at {rate} Hz")
        self.rate, self.num_mels, self.patch = rate, num_mels, patch
        self.token_dim = patch**2
        self.fft_size, filters = _fine_enough(rate, self.window_size, num_mels)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(self.window_size), persistent=False)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def fit(self, observation: Observation) -> None:
        """Takes one mean and standard deviation of the recordings' spectrograms, padding left out."""
        count, total, squares = 0, 0.0, 0.0
        for start in range(0, len(observation["wave"]), FIT_BATCH):
            part = {name: x[start : start + FIT_BATCH] for name, x in observation.items()}
            values, valid = self._patches(part)
            values = values[valid].double()
            count, total, squares = count + values.numel(), total + values.sum(), squares + values.square().sum()
        mean = total / count
        self.mean.copy_(mean)
        self.std.copy_((squares / count - mean**2).clamp_min(0).sqrt().clamp_min(1e-3))

    def forward(self, observation: Observation) -> TokenSet:
        """Cuts recordings of different lengths.

        Args:
            observation: ``wave`` float32 (B,samples), in [-1, 1]; ``length`` int64 (B,), how many samples of each are
                the recording, the rest is padding. What it holds makes no difference.

        Returns:
            values (B,P,patch^2), P = rows * columns, frequencies before times; a token is valid when it begins
            before its recording ends.
        """
        values, valid = self._patches(observation)
        rows, columns = self.num_mels // self.patch, valid.shape[1] * self.patch // self.num_mels
        place = [torch.arange(float(size), device=values.device) for size in (rows, columns)]
        pinned = torch.zeros(rows * columns, dtype=torch.bool, device=values.device)
        return TokenSet((values - self.mean) / self.std, torch.cartesian_prod(*place), valid, pinned)

    def _patches(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Logarithms of the power (B,P,patch^2), and valid (B,P)."""
        wave, length = _recordings(observation)
        column = self.patch * self.hop_size
        num_columns = math.ceil(wave.shape[1] / column)
        wave = wave.masked_fill(torch.arange(wave.shape[1], device=wave.device) >= length[:, None], 0.0)
        # Window i is centred in the middle of the i-th stretch of hop samples.
        before = (self.fft_size - self.hop_size) // 2
        needed = (num_columns * self.patch - 1) * self.hop_size + self.fft_size
        spectrum = torch.stft(
            F.pad(wave, (before, needed - before - wave.shape[1])),
            self.fft_size,
            self.hop_size,
            self.window_size,
            self.window,
            center=False,
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        mel = (power.transpose(1, 2) @ self.filters + FLOOR).log()
        values = rearrange(mel, "b (j q) (i p) -> b (i j) (p q)", p=self.patch, q=self.patch)
        begins = column * torch.arange(num_columns, device=wave.device)
        return values, (begins < length[:, None]).repeat(1, self.num_mels // self.patch)


def _fine_enough(rate: int, window_size: int, num_mels: int) -> tuple[int, Tensor]:
    """The FFT's size and the filterbank: at most eight times as long as the window."""
    size = 2 ** math.ceil(math.log2(window_size))
    for _ in range(3):
        try:
            return size, mel_filters(rate, size, num_mels)
        except ValueError:
            size *= 2
    return size, mel_filters(rate, size, num_mels)


def _recordings(observation: Observation) -> tuple[Tensor, Tensor]:
    """``wave`` and ``length``, checked."""
    if not {"wave", "length"} <= set(observation):
        raise ValueError(f"expected observations wave and length, got {', '.join(observation)}")
    wave, length = observation["wave"], observation["length"]
    if wave.dim() != 2 or wave.dtype != torch.float32 or length.shape != wave.shape[:1]:
        raise ValueError(
            f"wave must be float32 (B,samples) and length (B,), got {wave.dtype} {tuple(wave.shape)} and "
            f"{tuple(length.shape)}; give mono sound in [-1, 1]"
        )
    if int(length.min()) < 1 or int(length.max()) > wave.shape[1]:
        raise ValueError(
            f"length must be 1 to {wave.shape[1]} samples, got {int(length.min())} to {int(length.max())}; "
            "leave empty recordings out"
        )
    return wave, length
