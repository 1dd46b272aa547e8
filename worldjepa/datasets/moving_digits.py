"""Clips of handwritten digits that move over a canvas without edges: only the motion tells the label.

What leaves the canvas on one side comes in on the other, and a digit starts anywhere. So a single frame of a clip shows
every digit at every place as often whatever the direction is, and knows nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from worldjepa.datasets.numbered import at_least, sample_rng, sample_rngs
from worldjepa.datasets.samples import Samples, generated

DIRECTIONS = {
    **{"right": (0, 1), "down right": (1, 1), "down": (1, 0), "down left": (1, -1)},
    **{"left": (0, -1), "up left": (-1, -1), "up": (-1, 0), "up right": (-1, 1)},
}
"""Steps along rows and columns."""
DIRECTION_NAMES = tuple(DIRECTIONS)
"""What the labels 0, 1, ... stand for."""
SPEEDS = (1, 3)
"""Least and greatest speed, in pixels per frame along the rows, the columns or both."""
DIGIT_SIZE = 16
"""Side of a drawn digit, in pixels: scikit-learn's 8 x 8, twice as large."""


@dataclass(frozen=True)
class Motion:
    """What a clip shows.

    Attributes:
        digit: index into scikit-learn's digits.
        start: row and column of the digit's upper left corner in frame 0.
        label: index into ``DIRECTION_NAMES``.
        speed: pixels per frame along each axis that it moves along.
    """

    digit: int
    start: tuple[int, int]
    label: int
    speed: int

    def place(self, frame: int, size: int) -> tuple[int, int]:
        """Row and column of the digit's upper left corner on a canvas of ``size`` pixels."""
        step = DIRECTIONS[DIRECTION_NAMES[self.label]]
        row, column = ((at + frame * self.speed * by) % size for at, by in zip(self.start, step, strict=True))
        return row, column


def draw_motion(motion: Motion, num_frames: int, size: int) -> np.ndarray:
    """uint8 (T,1,size,size): white on black."""
    canvas = np.zeros((size, size), np.uint8)
    canvas[:DIGIT_SIZE, :DIGIT_SIZE] = _digits()[motion.digit]
    return np.stack([np.roll(canvas, motion.place(frame, size), (0, 1))[None] for frame in range(num_frames)])


def motion_of_sample(seed: int, number: int, size: int = 32) -> Motion:
    """The truth behind clip ``number`` of :func:`random_motions`.

    Raises:
        ValueError: a seed, number or size that cannot be.
    """
    at_least("size", size, DIGIT_SIZE)
    return _motion(sample_rng(seed, number), size)


def random_motions(count: int, seed: int, num_frames: int = 8, size: int = 32) -> tuple[dict[str, Tensor], Tensor]:
    """Clips of one digit each.

    Args:
        count: N, >= 1.
        seed: clip i of a seed is the same whatever ``count``.
        num_frames: T, >= 2.
        size: height and width of the canvas, >= 16 pixels.

    Returns:
        - ``video`` uint8 (N,T,1,size,size).
        - labels int64 (N,), indices into ``DIRECTION_NAMES``.

    Raises:
        ValueError: a size or seed that cannot be.
    """
    at_least("num_frames", num_frames, 2)
    at_least("size", size, DIGIT_SIZE)
    motions = [_motion(rng, size) for rng in sample_rngs(seed, count)]
    video = np.stack([draw_motion(motion, num_frames, size) for motion in motions])
    return {"video": torch.from_numpy(video)}, torch.tensor([motion.label for motion in motions])


def load_moving_digits(
    seed: int, num_train: int, num_held_out: int, num_frames: int = 8, size: int = 32
) -> tuple[Samples, Samples]:
    """(train, held_out) clips of :func:`random_motions`; the same handwriting may be in both."""
    return generated(
        lambda count, part: random_motions(count, part, num_frames, size),
        seed,
        num_train,
        num_held_out,
        DIRECTION_NAMES,
    )


def _motion(rng: np.random.Generator, size: int) -> Motion:
    row, column = rng.integers(size, size=2).tolist()
    return Motion(
        digit=int(rng.integers(len(_digits()))),
        start=(row, column),
        label=int(rng.integers(len(DIRECTIONS))),
        speed=int(rng.integers(SPEEDS[0], SPEEDS[1] + 1)),
    )


@cache
def _digits() -> np.ndarray:
    """uint8 (1797,16,16)."""
    from sklearn.datasets import load_digits

    grey = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    return grey.repeat(2, 1).repeat(2, 2)
