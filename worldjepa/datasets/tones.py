"""Words that sound like spoken digits, by six speakers: their formants and pitch are known.

A word is a path through sounds. Each has three formants, resonances of the mouth, and a loudness of the voice, of a
hiss above 2.5 kHz and of a breath of all frequencies. The voice is a sum of the pitch's harmonics, which fall by 6 dB
per octave and are raised where a formant is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldjepa.datasets.numbered import at_least, sample_rng, sample_rngs
from worldjepa.datasets.samples import Samples, generated

RATE = 8000  # Hz
FRAME = 80  # samples from one moment of a word's path to the next
HIGHEST = 3800.0  # Hz, of a harmonic
BANDWIDTHS = np.array([70.0, 90.0, 130.0])  # Hz, of the formants
DURATIONS = (0.25, 0.65)  # s
GLIDE = 0.35  # of a sound's duration passes from its beginning to its plateau, and as much from there to its end
NOISE = (-1.3, -0.2)  # logarithm (base 10) of the rms of what is heard besides the word, over the voice's

# Formants in Hz, and loudness of voice, hiss and breath. Vowels: Peterson and Barney 1952, means of men.
SOUNDS = {
    **{"iy": ((270, 2290, 3010), 1, 0, 0), "ih": ((390, 1990, 2550), 1, 0, 0), "eh": ((530, 1840, 2480), 1, 0, 0)},
    **{"ah": ((640, 1190, 2390), 1, 0, 0), "aa": ((730, 1090, 2440), 1, 0, 0), "ao": ((570, 840, 2410), 1, 0, 0)},
    **{"uw": ((300, 870, 2240), 1, 0, 0), "er": ((490, 1350, 1690), 1, 0, 0), "n": ((250, 1300, 2300), 0.4, 0, 0)},
    **{"s": ((320, 1700, 2600), 0, 0.5, 0.02), "z": ((280, 1700, 2600), 0.3, 0.3, 0)},
    **{"f": ((340, 1100, 2300), 0, 0.02, 0.1), "v": ((300, 1200, 2300), 0.4, 0, 0.05)},
    **{"t": ((300, 1800, 2700), 0, 0.3, 0.3), "gap": ((300, 1800, 2700), 0, 0, 0)},
}
# The sounds of each word and their shares of its duration.
WORDS = {
    "zero": (("z", 1), ("iy", 2), ("er", 1), ("ao", 2), ("uw", 1)),
    "one": (("uw", 1.5), ("ah", 2), ("n", 2)),
    "two": (("t", 0.7), ("iy", 0.5), ("uw", 3)),
    "three": (("f", 1), ("er", 1), ("iy", 3)),
    "four": (("f", 1.5), ("ao", 3), ("er", 1.5)),
    "five": (("f", 1.3), ("aa", 2), ("ih", 1), ("v", 1)),
    "six": (("s", 1.5), ("ih", 1), ("gap", 0.8), ("s", 1.5)),
    "seven": (("s", 1.3), ("eh", 1), ("v", 0.6), ("ah", 1), ("n", 1.2)),
    "eight": (("eh", 1.2), ("iy", 1.2), ("gap", 0.8), ("t", 0.7)),
    "nine": (("n", 1.2), ("aa", 1.6), ("ih", 1), ("n", 1.4)),
}
WORD_NAMES = tuple(WORDS)
"""What the labels 0, 1, ... stand for."""
SPEAKERS = ((95.0, 0.94), (112.0, 1.0), (130.0, 1.03), (165.0, 1.09), (195.0, 1.14), (225.0, 1.19))
"""Pitch in Hz, and formants over those of the table."""


@dataclass(frozen=True)
class Word:
    """One spoken word, at moments ``FRAME`` samples apart from its beginning to at least its end.

    Attributes:
        label: index into ``WORD_NAMES``.
        speaker: index into ``SPEAKERS``.
        num_samples: at ``RATE``.
        pitch: (frames,) Hz.
        formants: (frames,3) Hz.
        loudness: (frames,3) of voice, hiss and breath, rms.
    """

    label: int
    speaker: int
    num_samples: int
    pitch: np.ndarray
    formants: np.ndarray
    loudness: np.ndarray

    def speak(self, rng: np.random.Generator) -> np.ndarray:
        """float64 (num_samples,); ``rng`` draws the noises alone."""
        moment = np.arange(self.num_samples) / FRAME
        frame, share = moment.astype(int), moment % 1
        pitch = np.interp(moment, np.arange(len(self.pitch)), self.pitch)
        harmonics = self._harmonics(np.arange(1, int(HIGHEST / self.pitch.min()) + 1))
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        # sin((k + 1) a) = 2 cos(a) sin(k a) - sin((k - 1) a)
        twice, before, now = 2 * np.cos(phase), np.zeros(self.num_samples), np.sin(phase)
        voice = np.zeros(self.num_samples)
        for size in harmonics.T:
            voice += (size[frame] + share * np.diff(size)[frame]) * now
            before, now = now, twice * now - before
        hiss, breath = (column[frame] + share * np.diff(column)[frame] for column in self.loudness.T[1:])
        noise = rng.standard_normal((2, self.num_samples))
        spectrum = np.fft.rfft(noise[0])
        spectrum[np.fft.rfftfreq(self.num_samples, 1 / RATE) < 2500] = 0
        return voice + hiss * np.fft.irfft(spectrum, self.num_samples) + breath * noise[1]

    def _harmonics(self, number: np.ndarray) -> np.ndarray:
        """Peaks (frames,K) of the voice's harmonics ``number`` (K,)."""
        frequency = self.pitch[:, None] * number
        f, place = frequency[..., None], self.formants[:, None]
        raised = place**2 / np.sqrt((place**2 - f**2) ** 2 + (BANDWIDTHS * f) ** 2)
        sizes = raised.prod(-1) / number * (frequency < HIGHEST)
        return self.loudness[:, :1] * sizes / np.sqrt((sizes**2).sum(1, keepdims=True) / 2)


def word_of_sample(seed: int, number: int) -> Word:
    """The truth behind recording ``number`` of :func:`random_tones`.

    Raises:
        ValueError: a seed or number below 0.
    """
    return _draw_word(sample_rng(seed, number))


def random_tones(count: int, seed: int, seconds: float = 0.75) -> tuple[dict[str, Tensor], Tensor]:
    """Words of random classes, speakers, speeds and loudness, over noise.

    Args:
        count: N, >= 1.
        seed: sample i of a seed is the same whatever ``count``.
        seconds: of each recording, >= 0.65; words are shorter.

    Returns:
        - ``wave`` float32 (N,samples) at 8 kHz in [-1, 1], zero after ``length`` int64 (N,) samples.
        - labels int64 (N,), indices into ``WORD_NAMES``.

    Raises:
        ValueError: a size or seed that cannot be.
    """
    if seconds < DURATIONS[1]:
        raise ValueError(f"seconds must be >= {DURATIONS[1]}, the longest word's, got {seconds}")
    at_least("count", count, 1)
    wave, length, labels = np.zeros((count, round(RATE * seconds)), np.float32), [], []
    for row, rng in enumerate(sample_rngs(seed, count)):
        word = _draw_word(rng)
        sound = word.speak(rng) + 10 ** rng.uniform(*NOISE) * rng.standard_normal(word.num_samples)
        wave[row, : word.num_samples] = (10 ** rng.uniform(-1.6, -0.8) * sound).clip(-1, 1)
        length.append(word.num_samples)
        labels.append(word.label)
    return {"wave": torch.from_numpy(wave), "length": torch.tensor(length)}, torch.tensor(labels)


def load_tones(seed: int, num_train: int, num_held_out: int, seconds: float = 0.75) -> tuple[Samples, Samples]:
    """Generated words to learn from and others held out, see :func:`random_tones`."""
    return generated(lambda count, part: random_tones(count, part, seconds), seed, num_train, num_held_out, WORD_NAMES)


def _draw_word(rng: np.random.Generator) -> Word:
    label, speaker = int(rng.integers(len(WORDS))), int(rng.integers(len(SPEAKERS)))
    num_samples = round(RATE * rng.uniform(*DURATIONS))
    sounds = WORDS[WORD_NAMES[label]]
    shares = np.array([share for _, share in sounds]) * rng.uniform(0.5, 2.0, len(sounds))
    ends = np.cumsum(shares) / shares.sum()
    begins = np.r_[0, ends[:-1]]
    # Each sound has a plateau; from one to the next everything glides.
    plateaus = np.stack([begins + GLIDE * (ends - begins), ends - GLIDE * (ends - begins)], 1).ravel()
    table = np.array([[*SOUNDS[name][0], *SOUNDS[name][1:]] for name, _ in sounds], float).repeat(2, 0)
    table[:, :3] *= rng.uniform(0.9, 1.1, (len(sounds), 3)).repeat(2, 0)  # nobody says a sound twice alike
    table[:, 3:] *= 10 ** rng.uniform(-0.3, 0.3, (len(sounds), 3)).repeat(2, 0)
    moment = np.linspace(0, 1, num_samples // FRAME + 2)
    path = np.stack([np.interp(moment, plateaus, column) for column in table.T], 1)
    pitch, scale = SPEAKERS[speaker]
    # A statement's pitch falls; every utterance of a speaker is a little different.
    pitch = pitch * rng.uniform(0.92, 1.08) * (1.12 - 0.24 * moment)
    return Word(label, speaker, num_samples, pitch, scale * path[:, :3], path[:, 3:])
