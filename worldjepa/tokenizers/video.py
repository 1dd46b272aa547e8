"""Video cut into tubelets, and EEG cut as if it were a video."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldjepa.types import Observation, TokenSet


class VideoTokenizer(nn.Module):
    """``video`` -> one token per tubelet (V-JEPA, arXiv:2404.08471, section 3), coordinates (time, row, column).

    A tubelet is a square patch of a few frames in a row; coordinates count tubelets. A token depends on its own
    tubelet alone. There is no CLS token, as in the paper.

    Args:
        num_frames: T of the clips.
        image_size: height and width of a frame, in pixels.
        channels: colours of a frame.
        patch_size: side of a tubelet, in pixels.
        tubelet_size: its length, in frames.
        mean, std: pixels in [0, 1] become (pixel - mean) / std; :meth:`fit` takes those of data.

    Raises:
        ValueError: frames or pictures that do not divide into tubelets.
    """

    takes = ("video",)
    num_pinned = 0

    def __init__(
        self,
        num_frames: int,
        image_size: int,
        channels: int = 3,
        patch_size: int = 16,
        tubelet_size: int = 2,
        mean: float = 0.5,
        std: float = 0.25,
    ):
        super().__init__()
        for name, size, part_name, part in (
            ("num_frames", num_frames, "tubelet_size", tubelet_size),
            ("image_size", image_size, "patch_size", patch_size),
        ):
            if size < part or size % part:
                raise ValueError(f"{name} must be a multiple of {part_name} ({part}), got {size}")
        self.shape = (num_frames, channels, image_size, image_size)
        self.patch_size = patch_size
        self.tubelet_size = tubelet_size
        self.token_dim = channels * tubelet_size * patch_size**2
        side = image_size // patch_size
        self.register_buffer("coords", _grid(num_frames // tubelet_size, side, side), persistent=False)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def fit(self, observation: Observation) -> None:
        """Takes one mean and standard deviation of all pixels, see ``forward``."""
        # By counts of the 256 levels: as floats, all clips at once could fill the memory.
        counts = torch.bincount(observation["video"].flatten(), minlength=256).double()
        levels, share = torch.arange(256, device=counts.device) / 255, counts / counts.sum()
        mean = (levels * share).sum()
        self.mean.copy_(mean)
        self.std.copy_(((levels - mean).square() * share).sum().sqrt().clamp_min(1e-3))

    def forward(self, observation: Observation) -> TokenSet:
        """``video`` uint8 (B,T,channels,height,width) -> values (B,P,token_dim), P tubelets, time first."""
        video: Tensor = observation["video"]
        if video.dim() != 5 or tuple(video.shape[1:]) != self.shape or video.dtype != torch.uint8:
            raise ValueError(
                f"video must be uint8 (B, {', '.join(map(str, self.shape))}), got {video.dtype} {tuple(video.shape)}; "
                "cut and resize the clips or set num_frames, channels and image_size"
            )
        values = rearrange(
            (video.float() / 255 - self.mean) / self.std,
            "b (t u) c (i p) (j q) -> b (t i j) (u c p q)",
            u=self.tubelet_size,
            p=self.patch_size,
            q=self.patch_size,
        )
        return _all_tokens(values, self.coords)


class EegVideoTokenizer(nn.Module):
    """``eeg`` as a video of one colour (EEG-VJEPA, arXiv:2507.03633): coordinates (time, channel group, window).

    A recording, of any length and with any number of channels, is cut into stretches of one length, the frames; a frame
    is a picture with a row per channel and a column per sample, and a token is a patch of 4 channels x 30 samples of
    it. Coordinates count frames, groups of channels and windows within the frame. A token depends on its own patch
    alone. Samples after the last whole window of a frame and after the last whole frame are left out, as by the paper's
    convolution.

    Deviations: the last group of channels is filled up with zeros, where that convolution leaves out the 3 channels
    that are over from 19 (the occipital ones of our order); a token is one frame long, in the paper 2 or 4.

    Args:
        frame_samples: length of a frame; the paper has 500 at 100 Hz and 16 or 32 frames.
        patch_channels, patch_samples: height and width of a patch.
        mean, std: potentials become (uV - mean) / std; :meth:`fit` takes those of data.

    Raises:
        ValueError: a frame that is shorter than a patch.
    """

    takes = ("eeg",)
    num_pinned = 0

    def __init__(
        self,
        frame_samples: int = 128,
        patch_channels: int = 4,
        patch_samples: int = 30,
        mean: float = 0.0,
        std: float = 10.0,
    ):
        super().__init__()
        if frame_samples < patch_samples:
            raise ValueError(f"frame_samples must be >= patch_samples ({patch_samples}), got {frame_samples}")
        self.frame_samples = frame_samples
        self.patch_channels, self.patch_samples = patch_channels, patch_samples
        self.token_dim = patch_channels * patch_samples
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def fit(self, observation: Observation) -> None:
        """Takes one mean and standard deviation of all potentials, see ``forward``."""
        self.mean.copy_(observation["eeg"].mean())
        self.std.copy_(observation["eeg"].std().clamp_min(1e-6))

    def forward(self, observation: Observation) -> TokenSet:
        """``eeg`` float32 (B,channels,T), uV -> values (B,P,token_dim), P patches, time first.

        Channels shall be in an order in which neighbours are near each other on the head.

        Raises:
            ValueError: recordings shorter than a frame.
        """
        eeg: Tensor = observation["eeg"]
        if eeg.dim() != 3 or eeg.shape[-1] < self.frame_samples:
            raise ValueError(
                f"eeg must be (B,channels,T) with T >= frame_samples ({self.frame_samples}), got {tuple(eeg.shape)}; "
                "take longer recordings or lower frame_samples"
            )
        eeg = F.pad((eeg - self.mean) / self.std, (0, 0, 0, -eeg.shape[1] % self.patch_channels))
        frames = eeg.unfold(-1, self.frame_samples, self.frame_samples)
        windows = frames.unfold(-1, self.patch_samples, self.patch_samples)
        pictures = rearrange(windows, "b (g c) f w s -> b f g w (c s)", c=self.patch_channels)
        coords = _grid(*pictures.shape[1:4]).to(eeg.device)
        return _all_tokens(pictures.flatten(1, 3), coords)


def _grid(*sizes: int) -> Tensor:
    """float32 (P,3): all places of a box, the last coordinate running fastest."""
    return torch.cartesian_prod(*(torch.arange(float(size)) for size in sizes))


def _all_tokens(values: Tensor, coords: Tensor) -> TokenSet:
    valid = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    return TokenSet(values, coords, valid, torch.zeros(len(coords), dtype=torch.bool, device=values.device))
