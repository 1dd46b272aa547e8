"""Generated pictures of one to three coloured shapes, each with a sentence that says what is where.

Pictures are 32 x 32 pixels; x goes to the right, y down, in pixels from the top left corner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldjepa.datasets.numbered import sample_rng, sample_rngs
from worldjepa.datasets.samples import Samples, generated
from worldjepa.types import Observation

SIZE = 32  # px
SHAPES = ("circle", "square", "triangle")
COLOURS = {"red": (220, 40, 40), "green": (40, 190, 60), "blue": (60, 80, 230), "yellow": (225, 205, 50)}
RADII = {"small": (2.5, 3.5), "large": (4.5, 5.5)}  # px, of the circle around a shape
MIDDLES = (6.5, 16.0, 25.5)  # px, of the rows and columns of places
SPREAD = 1.0  # px, from the middle of its place
GAP = 1.0  # px, at least between two shapes
PLACES = tuple(
    " ".join(part for part in (row, column) if part) or "middle"
    for row in ("top", "", "bottom")
    for column in ("left", "", "right")
)
"""Row by row."""
CLASSES = tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS)
"""What the labels 0, 1, ... stand for: the shape that is named first, one of the largest."""
VOCABULARY = (
    "", "a", "and", "at", "in", "is", "of", "the", "there", "above", "below", "left", "right", "top", "bottom",
    "middle", *RADII, *COLOURS, *SHAPES,
)  # fmt: skip
"""What the numbers 0, 1, ... of a caption stand for; 0 is padding."""
MAX_WORDS = 28


@dataclass(frozen=True)
class Thing:
    """A shape of a picture.

    Attributes:
        shape, colour, size: keys of ``SHAPES``, ``COLOURS`` and ``RADII``.
        place: index into ``PLACES``.
        x, y, radius: px, of the circle around it.
    """

    shape: str
    colour: str
    size: str
    place: int
    x: float
    y: float
    radius: float

    @property
    def mention(self) -> str:
        return f"a {self.size} {self.colour} {self.shape}"

    @property
    def placed(self) -> str:
        place = PLACES[self.place]
        return f"{self.mention} {'in' if place == 'middle' else 'at'} the {place}"


def draw_scene(rng: np.random.Generator) -> list[Thing]:
    """One to three things apart from each other, no two of one shape and colour, the largest first."""
    things: list[Thing] = []
    for _ in range(rng.integers(1, 4)):
        for _ in range(100):  # a place may be taken
            shape, colour = str(rng.choice(SHAPES)), str(rng.choice(list(COLOURS)))
            size, place = str(rng.choice(list(RADII))), int(rng.integers(len(PLACES)))
            row, column = divmod(place, len(MIDDLES))
            x, y = MIDDLES[column] + rng.uniform(-SPREAD, SPREAD), MIDDLES[row] + rng.uniform(-SPREAD, SPREAD)
            thing = Thing(shape, colour, size, place, x, y, rng.uniform(*RADII[size]))
            if all(
                (shape, colour) != (other.shape, other.colour)
                and np.hypot(x - other.x, y - other.y) > thing.radius + other.radius + GAP
                for other in things
            ):
                things.append(thing)
                break
    return sorted(things, key=lambda thing: -thing.radius)


def describe(things: list[Thing], rng: np.random.Generator) -> str:
    """A sentence of one of three forms; where two things are related to each other, only the third has a place."""
    listed = " and ".join(thing.placed for thing in things)
    forms = [listed, f"there is {listed}"]
    if len(things) > 1:
        first, second, *others = things
        right, down = first.x - second.x, first.y - second.y
        if abs(right) > abs(down):
            relation = "right of" if right > 0 else "left of"
        else:
            relation = "below" if down > 0 else "above"
        related = f"{first.mention} {relation} {second.mention}"
        forms.append(" and ".join([related, *(thing.placed for thing in others)]))
    return forms[rng.integers(len(forms))]


def paint(things: list[Thing], rng: np.random.Generator) -> np.ndarray:
    """uint8 (3,32,32), on a dark ground; edges are smooth, colours vary a little."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    picture = np.full((3, SIZE, SIZE), rng.uniform(10, 60))
    for thing in things:
        cover = np.clip(0.5 - _outside(thing.shape, x - thing.x, y - thing.y, thing.radius), 0, 1)
        colour = np.array(COLOURS[thing.colour]) + rng.uniform(-20, 20, 3)
        picture += cover * (colour[:, None, None] - picture)
    return np.rint(picture.clip(0, 255)).astype(np.uint8)


def _outside(shape: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """px that points are outside of a shape around 0 whose corners lie at ``radius``; negative inside."""
    if shape == "circle":
        return np.hypot(x, y) - radius
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - radius / np.sqrt(2)
    sides = np.radians([90, 210, 330])  # outward from a triangle that points up; y is down
    return np.max([np.cos(side) * x + np.sin(side) * y for side in sides], axis=0) - radius / 2


def _sample(rng: np.random.Generator) -> tuple[list[Thing], str, np.ndarray]:
    things = draw_scene(rng)
    return things, describe(things, rng), paint(things, rng)


def scene_of_sample(seed: int, number: int) -> tuple[list[Thing], str]:
    """The truth behind sample ``number`` of :func:`random_captioned`: its things, and its sentence."""
    things, sentence, _ = _sample(sample_rng(seed, number))
    return things, sentence


def random_captioned(count: int, seed: int) -> tuple[Observation, Tensor]:
    """Pictures with captions.

    Args:
        count: N, >= 1.
        seed: sample i of a seed is the same whatever ``count``.

    Returns:
        - ``pixels`` uint8 (N,3,32,32) and ``caption`` int64 (N,28), indices into ``VOCABULARY`` and 0 after the last.
        - labels int64 (N,), indices into ``CLASSES``.

    Raises:
        ValueError: a count or seed that cannot be.
    """
    pictures, captions, labels = [], np.zeros((count, MAX_WORDS), np.int64), []
    for caption, rng in zip(captions, sample_rngs(seed, count), strict=True):
        things, sentence, picture = _sample(rng)
        words = [VOCABULARY.index(word) for word in sentence.split()]
        caption[: len(words)] = words
        pictures.append(picture)
        labels.append(CLASSES.index(f"{things[0].colour} {things[0].shape}"))
    observation = {"pixels": torch.from_numpy(np.stack(pictures)), "caption": torch.from_numpy(captions)}
    return observation, torch.tensor(labels)


def sentence_of(caption: Tensor) -> str:
    """The words of one caption (L,)."""
    return " ".join(VOCABULARY[word] for word in caption.tolist() if word)


def load_captions(seed: int, num_train: int = 4000, num_held_out: int = 1000) -> tuple[Samples, Samples]:
    """(train, held_out) of :func:`random_captioned`, with the classes' names."""
    return generated(random_captioned, seed, num_train, num_held_out, CLASSES)
