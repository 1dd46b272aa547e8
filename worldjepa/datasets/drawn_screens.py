"""Clips of drawn screens in which a cursor does something, and a sentence that says what was meant.

A stand-in for the recordings of UI-JEPA (arXiv:2409.04081): a screen shows up to four widgets in its corners; one is
clicked or dragged and changes; the sentence names the action and where it was. What the other widgets are, and the
state they are in, is drawn by chance, and so is where the cursor comes from and goes to: neither the first frame nor
the last tells what was done.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldjepa.datasets.numbered import at_least, sample_rng, sample_rngs
from worldjepa.datasets.samples import Samples, generated
from worldjepa.datasets.screen_widgets import AREA, WIDGETS, Look, Place

SIZE = 64
"""Height and width of a screen, in pixels."""
CORNERS = ("top left", "top right", "bottom left", "bottom right")
_ROWS_AND_COLUMNS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])
INTENTS = tuple(kind for widget in WIDGETS for kind in widget.kinds)
"""What the labels 0, 1, ... stand for: the verb of the sentence."""

PAD, START, END = 0, 1, 2
_WORDS = """bottom box button close delete down drag field first in into item left lower menu off on open password press
right scroll search second select slider switch the third tick to top turn type up upper window"""
VOCABULARY = ("<pad>", "<start>", "<end>", *_WORDS.split())
"""What the numbers of ``intent`` stand for."""
SENTENCE_LENGTH = 11
"""Words of the longest sentence, and the end."""

ARROW = np.array([(row, column) for row, width in enumerate((1, 2, 3, 4, 5, 2, 1)) for column in range(width)])
"""Pixels of the cursor from its tip."""
_EDGE = np.unique((ARROW[:, None] + [(-1, 0), (1, 0), (0, -1), (0, 1)]).reshape(-1, 2), axis=0)


@dataclass(frozen=True)
class Action:
    """What is done in a clip.

    Attributes:
        label: index into ``INTENTS``.
        sentence: what was meant.
        corner: index into ``CORNERS``, where.
        press, release: where on the screen the mouse button goes down and up, row and column in pixels.
        frames: in which frames it does.
    """

    label: int
    sentence: str
    corner: int
    press: Place
    release: Place
    frames: tuple[int, int]


def to_words(numbers: Tensor) -> str:
    """A row (L,) of ``intent`` as a sentence, up to its end."""
    words = [VOCABULARY[number] for number in numbers.tolist() if number not in (PAD, START)]
    return " ".join(words[: words.index("<end>")] if "<end>" in words else words)


def to_numbers(sentence: str) -> list[int]:
    """The other way, with the end and padding: ``SENTENCE_LENGTH`` numbers."""
    numbers = [*(VOCABULARY.index(word) for word in sentence.split()), END]
    return numbers + [PAD] * (SENTENCE_LENGTH - len(numbers))


def action_of_sample(seed: int, number: int, num_frames: int = 16) -> Action:
    """The truth behind clip ``number`` of :func:`random_screens`.

    Raises:
        ValueError: a seed, number or size that cannot be.
    """
    at_least("num_frames", num_frames, 8)
    return _clip(sample_rng(seed, number), num_frames)[0]


def random_screens(count: int, seed: int, num_frames: int = 16) -> tuple[dict[str, Tensor], Tensor]:
    """Clips of one action each, about 1 ms a clip.

    Args:
        count: N, >= 1.
        seed: clip i of a seed is the same whatever ``count``.
        num_frames: T, >= 8.

    Returns:
        - ``video`` uint8 (N,T,1,64,64), grey levels.
        - ``intent`` int64 (N,11), numbers of words in ``VOCABULARY`` that end with 2 and are padded with 0.
        - labels int64 (N,), indices into ``INTENTS``.

    Raises:
        ValueError: a size or seed that cannot be.
    """
    at_least("num_frames", num_frames, 8)
    clips = [_clip(rng, num_frames) for rng in sample_rngs(seed, count)]
    observation = {
        "video": torch.from_numpy(np.stack([video for _, video in clips])),
        "intent": torch.tensor([to_numbers(action.sentence) for action, _ in clips]),
    }
    return observation, torch.tensor([action.label for action, _ in clips])


def load_drawn_screens(seed: int, num_train: int, num_held_out: int, num_frames: int = 16) -> tuple[Samples, Samples]:
    """(train, held_out) clips of :func:`random_screens`."""
    return generated(
        lambda count, part: random_screens(count, part, num_frames), seed, num_train, num_held_out, INTENTS
    )


def _clip(rng: np.random.Generator, num_frames: int) -> tuple[Action, np.ndarray]:
    """What is done, and uint8 (T,1,64,64)."""
    label, corner = int(rng.integers(len(INTENTS))), int(rng.integers(4))
    paper, ink = rng.integers(190, 246), rng.integers(10, 61)
    if rng.integers(2):  # a dark screen
        paper, ink = ink, paper
    look = Look(int(paper), int(ink), int(rng.integers(100, 151)))
    asked = next(widget for widget in WIDGETS if INTENTS[label] in widget.kinds)(rng)
    widgets = [WIDGETS[rng.integers(len(WIDGETS))](rng) for _ in CORNERS]
    widgets[corner] = asked
    request = asked.ask(INTENTS[label], rng)

    half = SIZE // 2
    offsets = rng.integers(half - AREA + 1, size=(len(CORNERS), 2)) + half * _ROWS_AND_COLUMNS
    background = np.full((SIZE, SIZE), look.paper, np.uint8)
    for i, widget in enumerate(widgets):
        if i != corner:
            widget.draw(_area(background, *offsets[i]), look, 0.0)
    press, release = (tuple((offsets[corner] + place).tolist()) for place in (request.press, request.release))

    down = int(rng.integers(num_frames // 4, num_frames // 2 + 1))
    up = down + int(rng.integers(2, num_frames - 1 - down))
    start, rest = rng.integers(SIZE - 8, size=(2, 2))
    knots = (0, down, up, num_frames - 1)
    times = np.arange(num_frames)
    path = np.stack([np.interp(times, knots, places) for places in np.stack([start, press, release, rest], 1)], 1)
    held = (times >= down) & (times <= (up if press != release else down))
    video = np.empty((num_frames, 1, SIZE, SIZE), np.uint8)
    for t, frame in enumerate(video[:, 0]):
        frame[:] = background
        asked.draw(_area(frame, *offsets[corner]), look, float(np.clip((t - down) / (up - down), 0, 1)))
        _draw_cursor(frame, path[t].round().astype(int), bool(held[t]))
    sentence = f"{request.before} in the {CORNERS[corner]} {request.after}".strip()
    return Action(label, sentence, corner, press, release, (down, up)), video


def _area(frame: np.ndarray, top: int, left: int) -> np.ndarray:
    return frame[top : top + AREA, left : left + AREA]


def _draw_cursor(frame: np.ndarray, tip: np.ndarray, held: bool) -> None:
    """White with a black edge, and the other way round while the mouse button is down."""
    for pixels, level in ((_EDGE, 255 if held else 0), (ARROW, 0 if held else 255)):
        places = pixels + tip
        places = places[((places >= 0) & (places < SIZE)).all(1)]
        frame[places[:, 0], places[:, 1]] = level
