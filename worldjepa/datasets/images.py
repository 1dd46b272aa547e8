"""Small sets of labelled pictures that come with libraries; labels are for probes only."""

from __future__ import annotations

import numpy as np
import torch

from worldjepa.datasets.samples import Samples, split_samples


def load_digits(seed: int, held_out: float = 0.25) -> tuple[Samples, Samples]:
    """Scikit-learn's 1,797 handwritten digits of 8 x 8 pixels (10 classes), no download.

    Args:
        seed: of the split, which is stratified by class.
        held_out: share of the second part.

    Returns:
        training and held-out pictures, pixels uint8 (N,1,8,8).
    """
    from sklearn.datasets import load_digits as sklearn_digits

    digits = sklearn_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    names = tuple(str(name) for name in digits.target_names)
    samples = Samples({"pixels": torch.from_numpy(pixels)}, torch.from_numpy(digits.target), names)
    return split_samples(samples, seed, held_out)
