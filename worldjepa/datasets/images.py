"""Small sets of labelled pictures: from libraries, and from the user's folders; labels are for probes only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from worldjepa.datasets.samples import Samples, split_samples

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


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


def load_image_folder(
    seed: int, folder: str | Path, image_size: int = 64, channels: int = 3, held_out: float = 0.25
) -> tuple[Samples, Samples]:
    """Pictures of the user's, one sub-folder per class; the middle square of each, made ``image_size`` wide.

    Args:
        seed: of the split, which is stratified by class.
        folder: with a sub-folder of ``.png``, ``.jpg``, ``.jpeg``, ``.bmp`` or ``.webp`` files per class.
        image_size: height and width, px.
        channels: 3, or 1 for grey.
        held_out: share of the second part.

    Returns:
        training and held-out pictures, pixels uint8 (N,channels,image_size,image_size).

    Raises:
        ValueError: no such folder, fewer than two pictures of a class, or a file that is no picture.
    """
    import cv2

    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    root = Path(folder)
    names = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    if not names:
        raise ValueError(f"{folder}: expected a folder with one sub-folder of pictures per class, found none")
    pixels, labels = [], []
    for label, name in enumerate(names):
        paths = sorted(path for path in (root / name).iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
        if len(paths) < 2:
            raise ValueError(f"{root / name}: expected two pictures or more, found {len(paths)}")
        for path in paths:
            picture = cv2.imread(str(path), cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE)
            if picture is None:
                raise ValueError(f"{path}: expected a picture, got something else or a broken file; remove it")
            side = min(picture.shape[:2])
            top, left = ((length - side) // 2 for length in picture.shape[:2])
            square = picture[top : top + side, left : left + side]
            way = cv2.INTER_AREA if side >= image_size else cv2.INTER_LINEAR
            square = cv2.resize(square, (image_size, image_size), interpolation=way).reshape(image_size, image_size, -1)
            pixels.append(square[..., ::-1].transpose(2, 0, 1))  # OpenCV reads blue first
            labels.append(label)
    samples = Samples({"pixels": torch.from_numpy(np.stack(pixels))}, torch.tensor(labels), tuple(names))
    return split_samples(samples, seed, held_out)
