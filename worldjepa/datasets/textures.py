"""Crops of real textures and pictures that come with scikit-image: which picture a crop is of is the label.

Training and held-out crops share no pixel: the middle of every picture is held out, and a gap is left beside it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldjepa.datasets.numbered import at_least
from worldjepa.datasets.samples import Samples

PICTURES = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "galaxies": "hubble_deep_field.jpg",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "moon": "moon.png",
    "motorcycle": "motorcycle_left.png",
    "page": "page.png",
    "tissue": "ihc.png",
    "writing": "text.png",
}
"""Classes and their files: those in the package's wheel that are real and show their kind nearly everywhere."""
GAP = 16  # px between the parts, as pixels beside each other are nearly the same


def load_textures(
    seed: int,
    num_train: int,
    num_held_out: int,
    image_size: int = 32,
    channels: int = 3,
    crop_size: int = 64,
    held_out: float = 0.25,
) -> tuple[Samples, Samples]:
    """Square crops at random places of the pictures ``PICTURES``, as many of each; no download.

    Args:
        seed: of the places; crop i of a seed and a part is the same whatever the size of the set.
        num_train: crops from both ends of the pictures, along their longer sides.
        num_held_out: crops from the middles of them.
        image_size: height and width that crops are resized to, px.
        channels: 3, which are alike in grey pictures, or 1: all grey, and no colour gives a class away.
        crop_size: height and width of a crop in its picture, px.
        held_out: share of a picture's longer side that is held out; ``crop_size`` where that is more.

    Returns:
        training and held-out crops, pixels uint8 (N,channels,image_size,image_size).

    Raises:
        ValueError: sizes or a share that cannot be, or a picture that the installed scikit-image lacks.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    sizes = {"num_train": num_train, "num_held_out": num_held_out, "image_size": image_size, "crop_size": crop_size}
    for name, size in sizes.items():
        at_least(name, size, 1)
    if not 0 < held_out < 1:
        raise ValueError(f"held_out must be between 0 and 1, got {held_out}")
    pictures = read_pictures(channels)
    parts = []
    for part, count in enumerate((num_train, num_held_out)):
        rng = np.random.default_rng([seed, part])
        places = [crop_places(name, x.shape[:2], crop_size, held_out)[part] for name, x in pictures.items()]
        parts.append(_random_crops(rng, count, list(pictures.values()), places, crop_size, image_size))
    train, test = (Samples({"pixels": pixels}, labels, tuple(pictures)) for pixels, labels in parts)
    return train, test


def read_pictures(channels: int) -> dict[str, np.ndarray]:
    """``PICTURES`` by class, uint8 (height,width,channels), ``channels`` 1 or 3.

    Raises:
        ValueError: a picture that the installed scikit-image lacks.
    """
    import skimage
    from PIL import Image

    folder = Path(skimage.__file__).parent / "data"  # skimage.data would download what it lacks
    pictures = {}
    for name, file in PICTURES.items():
        if not (folder / file).is_file():
            raise ValueError(
                f"{folder / file}: expected a picture of scikit-image's wheel, got none; install scikit-image again "
                "from PyPI, or use data=digits"
            )
        with Image.open(folder / file) as picture:
            pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
        pictures[name] = pixels.reshape(*pixels.shape[:2], channels)
    return pictures


def crop_places(
    name: str, size: tuple[int, int], crop_size: int, held_out: float
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Where crops of a picture may begin, for training and held out.

    Args:
        name: of the picture, for errors.
        size: its height and width, px.
        crop_size, held_out: see :func:`load_textures`.

    Returns:
        for each part the tops int64 (P,) and lefts int64 (Q,), px, any of which go together. The held-out crops lie in
        the middle of the longer side, the others on both sides of it, ``GAP`` px away or more.

    Raises:
        ValueError: crops too large for the picture, or a share that leaves no place for training.
    """
    longer = max(size)
    middle = max(round(longer * held_out), crop_size)
    first = (longer - middle) // 2
    before, after = first - GAP, first + middle + GAP  # training pixels end and begin again
    if crop_size > min(before, min(size)):
        raise ValueError(
            f"{name}: {size[0]} x {size[1]} px hold no crops of crop_size ({crop_size}) px beside the held-out share "
            f"({held_out}); lower data.source.crop_size or data.source.held_out"
        )
    across = np.arange(min(size) - crop_size + 1)
    along = (
        np.r_[: before - crop_size + 1, after : longer - crop_size + 1],
        np.arange(first, first + middle - crop_size + 1),
    )
    train, test = ((starts, across) if size[0] == longer else (across, starts) for starts in along)
    return train, test


def _random_crops(
    rng: np.random.Generator,
    count: int,
    pictures: list[np.ndarray],
    places: list[tuple[np.ndarray, np.ndarray]],
    crop_size: int,
    image_size: int,
) -> tuple[Tensor, Tensor]:
    """uint8 (N,channels,image_size,image_size) and int64 (N,), each picture in turn."""
    from PIL import Image

    crops = np.empty((count, pictures[0].shape[-1], image_size, image_size), np.uint8)
    labels = np.arange(count) % len(pictures)
    for crop, label in zip(crops, labels, strict=True):
        top, left = (int(rng.choice(starts)) for starts in places[label])
        square = pictures[label][top : top + crop_size, left : left + crop_size]
        grey_or_rgb = square[..., 0] if square.shape[-1] == 1 else square
        # Pillow's bilinear filter widens with the scale: what is made smaller is averaged, not skipped.
        small = Image.fromarray(grey_or_rgb).resize((image_size, image_size), Image.Resampling.BILINEAR)
        crop[:] = np.asarray(small).reshape(image_size, image_size, -1).transpose(2, 0, 1)
    return torch.from_numpy(crops), torch.from_numpy(labels)
