"""Radar pictures of terrains and small targets: their reflectivity without speckle is known.

The amplitude of a radar of L looks is sqrt(reflectivity * speckle), speckle of mean 1 and variance 1 / L from a gamma
distribution (Goodman 1976), times a gain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldjepa.datasets.numbered import at_least, sample_rng, sample_rngs
from worldjepa.datasets.samples import Samples, generated

SMALLEST = 32  # pixels
DARK = (0.06, 0.2)  # reflectivity of water, tarmac and shadows over that of a field
BRIGHT = (6.0, 30.0)  # that of targets
GAIN = 10.0  # dB up or down


@dataclass(frozen=True)
class Scene:
    """What a radar looks at.

    Attributes:
        label: index into ``SCENE_NAMES``.
        reflectivity: float64 (size,size) > 0, 1 for a plain field.
        gain: of the amplitude.
    """

    label: int
    reflectivity: np.ndarray
    gain: float


def scene_of_sample(seed: int, number: int, size: int = 56) -> Scene:
    """The truth behind picture ``number`` of :func:`random_radar_pictures`.

    Raises:
        ValueError: a size, seed or number that cannot be.
    """
    at_least("size", size, SMALLEST)
    return _draw_scene(sample_rng(seed, number), size)


def random_radar_pictures(
    count: int, seed: int, size: int = 56, looks: float = 3.0
) -> tuple[dict[str, Tensor], Tensor]:
    """Pictures of random scenes, their places and directions.

    Args:
        count: N, >= 1.
        seed: sample i of a seed is the same whatever ``count``.
        size: height and width in pixels, >= 32.
        looks: L > 0, the fewer the more speckle.

    Returns:
        - ``amplitude`` float32 (N,1,size,size) > 0.
        - labels int64 (N,), indices into ``SCENE_NAMES``.

    Raises:
        ValueError: a size or seed that cannot be.
    """
    at_least("size", size, SMALLEST)
    if looks <= 0:
        raise ValueError(f"looks must be > 0, got {looks}")
    pictures, labels = [], []
    for rng in sample_rngs(seed, count):
        scene = _draw_scene(rng, size)
        speckle = rng.gamma(looks, 1 / looks, scene.reflectivity.shape)
        pictures.append(np.maximum(scene.gain * np.sqrt(scene.reflectivity * speckle), 1e-6).astype(np.float32))
        labels.append(scene.label)
    return {"amplitude": torch.from_numpy(np.stack(pictures)[:, None])}, torch.tensor(labels)


def load_speckle(
    seed: int, num_train: int, num_held_out: int, size: int = 56, looks: float = 3.0
) -> tuple[Samples, Samples]:
    """Generated pictures to learn from and others held out, see :func:`random_radar_pictures`."""
    return generated(
        lambda count, part: random_radar_pictures(count, part, size, looks), seed, num_train, num_held_out, SCENE_NAMES
    )


def _draw_scene(rng: np.random.Generator, size: int) -> Scene:
    label = int(rng.integers(len(SCENES)))
    angle, middle = rng.uniform(-np.pi, np.pi), rng.uniform(-0.15, 0.15, 2) * size
    across, along = np.indices((size, size)) - (size - 1) / 2 - middle[:, None, None]
    c, s = np.cos(angle), np.sin(angle)
    field = np.exp(rng.uniform(0.05, 0.25) * _smooth(rng, size, rng.uniform(2, 5)))
    scene = SCENES[SCENE_NAMES[label]](rng, c * across + s * along, c * along - s * across)
    return Scene(label, field * scene, 10 ** (rng.uniform(-GAIN, GAIN) / 20))


def _smooth(rng: np.random.Generator, size: int, length: float) -> np.ndarray:
    """(size,size) Gaussian noise of variance about 1, blurred by a Gaussian of ``length`` pixels."""
    frequency = 2 * np.pi * np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * np.exp(-((length * frequency) ** 2) / 2))
    return noise / max(noise.std(), 1e-9)


# ---- scenes: reflectivity over that of the field, at pixels u, v from the middle -------------------------------------


def _plain(rng, u, v):
    return np.ones_like(u)


def _furrows(rng, u, v):
    return np.exp(rng.uniform(0.6, 1.0) * np.sin(2 * np.pi * u / rng.uniform(4.5, 8) + rng.uniform(0, 2 * np.pi)))


def _forest(rng, u, v):
    return np.exp(rng.uniform(0.7, 1.0) * _smooth(rng, len(u), rng.uniform(1.0, 1.8)))


def _wave(rng, v, low, high):
    """How far a line along v strays from being straight."""
    return rng.uniform(low, high) * np.sin(2 * np.pi * v / rng.uniform(25, 45) + rng.uniform(0, 2 * np.pi))


def _coast(rng, u, v):
    return np.where(u > _wave(rng, v, 2, 5), rng.uniform(*DARK), 1.0)


def _river(rng, u, v):
    return np.where(np.abs(u - _wave(rng, v, 4, 7)) < rng.uniform(2.5, 4.5), rng.uniform(*DARK), 1.0)


def _runway(rng, u, v):
    return np.where(np.abs(u) < rng.uniform(2.5, 4.5), rng.uniform(*DARK), 1.0)


def _target(rng, body, length):
    """A bright body and the shadow it casts, ``length`` pixels long, away from the radar."""
    shadow = np.zeros_like(body)
    for step in range(1, length + 1):  # the radar looks down the columns
        shadow[step:] |= body[:-step]
    return np.where(body, rng.uniform(*BRIGHT), np.where(shadow, rng.uniform(*DARK), 1.0))


def _ship(rng, u, v):
    half, wide = rng.uniform(6, 9), rng.uniform(1.5, 2.5)
    return _target(rng, (u / wide) ** 2 + (v / half) ** 2 < 1, 0)


def _convoy(rng, u, v):
    apart, number = rng.uniform(5, 7), int(rng.integers(4, 6))
    nearest = np.clip(np.round(v / apart + (number - 1) / 2), 0, number - 1) - (number - 1) / 2
    return _target(rng, np.hypot(u, v - apart * nearest) < rng.uniform(1.2, 1.8), 2)


def _tank(rng, u, v):
    """A storage tank, of which a radar sees the rim."""
    radius = rng.uniform(5, 8)
    return _target(rng, np.abs(np.hypot(u, v) - radius) < 1.0, 0)


def _building(rng, u, v):
    """Two walls that meet, and the shadow behind them."""
    long, short = rng.uniform(10, 15), rng.uniform(6, 10)
    walls = ((np.abs(u) < 1) & (v > -1) & (v < long)) | ((np.abs(v) < 1) & (u > -1) & (u < short))
    return _target(rng, walls, int(rng.integers(3, 6)))


SCENES: dict[str, Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]] = {
    "field": _plain,
    "furrows": _furrows,
    "forest": _forest,
    "coast": _coast,
    "river": _river,
    "runway": _runway,
    "ship": _ship,
    "convoy": _convoy,
    "storage tank": _tank,
    "building": _building,
}
SCENE_NAMES = tuple(SCENES)
"""What the labels 0, 1, ... stand for."""
