"""Labelled pictures to look at, and what stands out in them.

They are handwritten digits, which need no download, or a folder of one's own.
"""

from __future__ import annotations

import colorsys
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np

DIGITS = "digits"
SUFFIXES = (".png", ".jpg", ".jpeg")
SALIENCY_SIZE = 64  # px; the size at which saliency is computed, as in Hou & Zhang 2007
SHARPNESS = 2.0  # centres are drawn with the saliency to this power

Pictures = tuple[np.ndarray, np.ndarray, tuple[str, ...]]
"""Pictures uint8 (N, size, size, 3) RGB, labels int64 (N,), and the name of every class; the arrays are read-only."""


def load_pictures(source: str | Path, size: int) -> Pictures:
    """All pictures of a source, in an order that never changes, kept for the life of the process.

    Args:
        source: ``"digits"``, scikit-learn's 1,797 handwritten digits, each drawn into a cluttered colour picture; or a
            folder with one sub-folder of pictures (png, jpg) per class. Those are resized and centre-cropped. All are
            held in memory, size x size x 3 bytes each.
        size: height and width, px, >= 1.

    Raises:
        ValueError: the folder has no such pictures, or one of them cannot be read.
    """
    return _load(str(source), int(size))


@cache
def _load(source: str, size: int) -> Pictures:
    pictures, labels, names = _draw_digits(size) if source == DIGITS else _read_folder(Path(source), size)
    pictures.flags.writeable = labels.flags.writeable = False
    return pictures, labels, names


def spectral_residual(picture: np.ndarray) -> np.ndarray:
    """How much each place of a picture stands out: float32 (P, P) >= 0, all zero for a plain picture.

    Hou & Zhang 2007: what is left of the logarithm of the spectrum after its local mean, brought back with the phases.
    They take grey pictures; here each colour channel is treated so and counts by its contrast, so that colours of one
    brightness stand out too.

    Args:
        picture: uint8 (P, P, 3).
    """
    size = len(picture)
    small = cv2.resize(picture, (SALIENCY_SIZE, SALIENCY_SIZE), interpolation=cv2.INTER_AREA).astype(np.float64)
    contrast = small.std((0, 1))
    if contrast.max() == 0:
        return np.zeros((size, size), np.float32)
    spectrum = np.fft.fft2(small, axes=(0, 1))
    log_amplitude = np.log(np.abs(spectrum) + 1e-6)  # of a plain channel only rounding is left, far below this
    mean = cv2.blur(np.pad(log_amplitude, ((1, 1), (1, 1), (0, 0)), "wrap"), (3, 3))[1:-1, 1:-1]
    # exp(log amplitude - mean) with the phases put back, in one.
    power = np.abs(np.fft.ifft2(spectrum * np.exp(-mean), axes=(0, 1))) ** 2
    saliency = cv2.GaussianBlur(power @ contrast, (0, 0), 2.5)
    return cv2.resize((saliency / saliency.max()).astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)


@lru_cache(maxsize=2048)
def centre_weights(source: str, picture_size: int, image_size: int, index: int) -> np.ndarray:
    """float32 (M, M), 0..1, rows y: how much the centre of a glimpse is drawn to each of its places in a picture.

    M = picture_size - image_size + 1 whole-pixel places along a side. A picture without anything in it draws nowhere
    more than elsewhere.
    """
    saliency = spectral_residual(load_pictures(source, picture_size)[0][index])
    first, places = image_size // 2, picture_size - image_size + 1
    weights = saliency[first : first + places, first : first + places] ** SHARPNESS
    top = weights.max()
    return weights / top if top > 0 else np.ones_like(weights)


# ---- a folder ---------------------------------------------------------------------------------------------------


def _read_folder(folder: Path, size: int) -> Pictures:
    files = sorted(p for p in folder.glob("*/*") if p.suffix.lower() in SUFFIXES and not p.parent.name.startswith("."))
    if not files:
        found = "holds none" if folder.is_dir() else "is neither"
        raise ValueError(
            f"pictures come from {DIGITS!r} or from a folder with one sub-folder of png or jpg pictures per class, "
            f"such as {folder.name}/cat/001.png; {str(folder)!r} {found}"
        )
    names = sorted({file.parent.name for file in files})
    pictures = np.empty((len(files), size, size, 3), np.uint8)
    for picture, file in zip(pictures, files, strict=True):
        found = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if found is None:
            raise ValueError(f"{str(file)!r} cannot be read as a picture; remove or replace it")
        picture[:] = _fit(found, size)[:, :, ::-1]  # OpenCV reads BGR
    return pictures, np.array([names.index(file.parent.name) for file in files], np.int64), tuple(names)


def _fit(image: np.ndarray, size: int) -> np.ndarray:
    """Resized until the shorter side is ``size`` px, then cropped to the middle."""
    height, width = image.shape[:2]
    scale = size / min(height, width)
    new_height, new_width = max(size, round(height * scale)), max(size, round(width * scale))
    resized = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (new_height - size) // 2, (new_width - size) // 2
    return resized[top : top + size, left : left + size]


# ---- digits -----------------------------------------------------------------------------------------------------


def _draw_digits(size: int) -> Pictures:
    from sklearn.datasets import load_digits  # takes a second to import

    digits = load_digits()
    pictures = np.stack([_draw_digit(digit, index, size) for index, digit in enumerate(digits.images)])
    return pictures, digits.target.astype(np.int64), tuple(str(name) for name in digits.target_names)


def _draw_digit(digit: np.ndarray, index: int, size: int) -> np.ndarray:
    """One digit (8, 8), 0..16, in a picture uint8 (size, size, 3).

    Everything drawn at random depends on ``index`` alone and is measured in shares of the picture, so that another
    size shows the same thing.
    """
    rng = np.random.default_rng([20250, index])
    coarse = np.clip(rng.uniform(60, 170) + rng.normal(0, 30, (4, 4, 3)), 0, 255).astype(np.uint8)
    picture = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    hue = rng.random()
    for _ in range(rng.integers(4, 8)):
        _draw_clutter(picture, _colour(rng, (hue + rng.uniform(0.2, 0.8)) % 1, (0.3, 0.7), (0.4, 0.9)), rng)

    side = rng.uniform(0.45, 0.75)
    left, top = rng.uniform(0, 1 - side, 2)
    # The 8 x 8 digit on an empty ground, with half a pixel of shift because the middle of pixel 0 lies at 0.5.
    scale = side * size / 8
    shift_x, shift_y = (place * size + scale / 2 - 0.5 for place in (left, top))
    place = np.array([[scale, 0, shift_x], [0, scale, shift_y]])
    ink = cv2.warpAffine(digit.astype(np.float32) / 16, place, (size, size), flags=cv2.INTER_CUBIC)
    alpha = np.clip((ink - 0.4) / 0.2, 0, 1)[..., None]  # strokes with an edge, not a blurred grey
    colour = _colour(rng, hue, (0.7, 1), (0.85, 1))
    return np.rint(picture + alpha * (colour - picture)).astype(np.uint8)


def _draw_clutter(picture: np.ndarray, colour: np.ndarray, rng: np.random.Generator) -> None:
    """A short bent stroke or a blob, smaller than any digit."""
    scale = len(picture) * 64  # six fractional bits
    x, y = rng.random(2)
    if rng.random() < 0.3:
        axes = tuple(round(a * scale) for a in rng.uniform(0.015, 0.04, 2))
        middle, angle = (round(x * scale), round(y * scale)), rng.uniform(0, 180)
        cv2.ellipse(picture, middle, axes, angle, 0, 360, colour.tolist(), -1, cv2.LINE_AA, 6)
        return
    bends = np.array([x, y]) + rng.normal(0, 0.06, (3, 2)).cumsum(0)
    points = np.rint(bends * scale).astype(np.int32)
    thickness = max(1, round(rng.uniform(0.015, 0.035) * len(picture)))
    cv2.polylines(picture, [points], False, colour.tolist(), thickness, cv2.LINE_AA, 6)


def _colour(
    rng: np.random.Generator, hue: float, saturation: tuple[float, float], value: tuple[float, float]
) -> np.ndarray:
    """float32 (3,) 0..255: a colour of a hue 0..1, its saturation and value anywhere between two bounds in 0..1."""
    return np.array(colorsys.hsv_to_rgb(hue, rng.uniform(*saturation), rng.uniform(*value)), np.float32) * 255
