"""Small labelled picture sets; labels are for probes only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class LabelledImages:
    """Pictures and what they show.

    Attributes:
        pixels: uint8 (N,channels,height,width).
        labels: int64 (N,), classes from 0.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)


def load_digits(seed: int, held_out: float = 0.25) -> tuple[LabelledImages, LabelledImages]:
    """Scikit-learn's 1,797 handwritten digits of 8 x 8 pixels (10 classes), no download.

    Args:
        seed: of the split, which is stratified by class.
        held_out: share of the second part.

    Returns:
        training and held-out pictures, pixels uint8 (N,1,8,8).
    """
    from sklearn.datasets import load_digits as sklearn_digits
    from sklearn.model_selection import train_test_split

    if not 0 < held_out < 1:
        raise ValueError(f"held_out must be between 0 and 1, got {held_out}")
    digits = sklearn_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    train, test = train_test_split(
        np.arange(len(pixels)), test_size=held_out, random_state=seed, stratify=digits.target
    )
    parts = (LabelledImages(torch.from_numpy(pixels[i]), torch.from_numpy(digits.target[i])) for i in (train, test))
    return tuple(parts)
