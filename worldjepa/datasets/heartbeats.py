"""ECG of a heart whose beats are known: rhythms and shapes of eight classes, seen by eight leads.

After McSharry et al. 2003 (IEEE Trans. Biomed. Eng. 50:289): the waves of a beat, P to T, are Gaussians in time from
its R peak. As in Sameni et al. 2007 each is a dipole rather than a voltage, and the leads are Dower's (1980) of Frank's
axes: x left, y down, z back. Shapes of the classes are ours, made to have the textbook's signs in the leads named in
the comments; what is generated is no substitute for patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from worldjepa.datasets.numbered import at_least, sample_rng, sample_rngs
from worldjepa.datasets.samples import Samples, generated

# mV in a lead per mV of the dipole along x, y, z; the other limb leads follow from the first two.
LEADS = {
    **{"I": (0.632, -0.235, 0.059), "II": (0.235, 1.066, -0.132), "V1": (-0.515, 0.157, -0.917)},
    **{"V2": (0.044, 0.164, -1.387), "V3": (0.882, 0.098, -1.277), "V4": (1.213, 0.127, -0.601)},
    **{"V5": (1.125, 0.127, -0.086), "V6": (0.831, 0.076, 0.230)},
}
LEAD_NAMES = tuple(LEADS)
LEAD_VECTORS = np.array(list(LEADS.values()))
"""float64 (8,3)."""

# Name -> s after the R peak, width (standard deviation) in s, dipole in mV; at 60 beats per minute.
NORMAL = {
    **{"P": (-0.170, 0.022, 0.08, 0.13, -0.03), "Q": (-0.026, 0.009, -0.15, -0.05, -0.25)},
    **{"R": (0.000, 0.011, 1.00, 0.70, 0.25), "S": (0.027, 0.010, 0.10, -0.10, 0.50)},
    "T": (0.290, 0.045, 0.35, 0.25, -0.20),
}
# No septal Q; broad and notched in V6, deep in V1; T against it.
LEFT_BLOCK = {
    **{"P": NORMAL["P"], "R": (-0.020, 0.020, 0.65, 0.35, 0.50), "S": (0.036, 0.023, 0.70, 0.10, 0.80)},
    "T": (0.310, 0.050, -0.35, -0.05, -0.45),
}
# A normal start, then late to the right and forward: R' in V1, broad S in I and V6; T against it in V1.
RIGHT_BLOCK = NORMAL | {"R'": (0.060, 0.018, -0.60, -0.05, -0.60), "T": (0.300, 0.045, 0.35, 0.25, 0.10)}
# The anterior wall's: V1 to V4 do not come back to the line before T.
RAISED_ST = NORMAL | {"ST": (0.130, 0.050, 0.10, -0.05, -0.38)}
# Broad, along the focus's own direction (here x), no P; T against it.
VENTRICULAR = {
    **{"R": (-0.025, 0.028, 1.20, 0.00, 0.00), "S": (0.040, 0.030, 0.80, 0.00, 0.00)},
    "T": (0.300, 0.060, -0.50, 0.00, 0.00),
}
SLOW_WAVES = ("P", "ST", "T")  # come and last as the square root of the time between beats (Bazett 1920)


@dataclass(frozen=True)
class Rhythm:
    """A class: rates in beats per minute, spread of the time between beats as a share, shape of the beats."""

    rates: tuple[float, float]
    spread: float
    waves: dict[str, tuple[float, ...]]


RHYTHMS = {
    "normal": Rhythm((60, 95), 0.02, NORMAL),
    "bradycardia": Rhythm((38, 50), 0.02, NORMAL),
    "tachycardia": Rhythm((110, 150), 0.01, NORMAL),
    "atrial fibrillation": Rhythm((65, 110), 0.2, {name: wave for name, wave in NORMAL.items() if name != "P"}),
    "premature ventricular beats": Rhythm((60, 95), 0.02, NORMAL),
    "left bundle branch block": Rhythm((60, 95), 0.02, LEFT_BLOCK),
    "right bundle branch block": Rhythm((60, 95), 0.02, RIGHT_BLOCK),
    "raised ST": Rhythm((60, 95), 0.02, RAISED_ST),
}
CLASS_NAMES = tuple(RHYTHMS)
"""What the labels 0, 1, ... stand for."""
FIBRILLATION, PREMATURE = CLASS_NAMES.index("atrial fibrillation"), CLASS_NAMES.index("premature ventricular beats")

REACH = (0.45, 0.80)  # s before and after an R peak in which its waves are drawn
RESPIRATION = (0.15, 0.35)  # Hz
WANDER = (0.05, 0.25)  # mV, of the baseline of each lead
NOISE = (0.01, 0.04)  # mV, rms in each lead


@dataclass(frozen=True)
class Heartbeats:
    """What is to be found in an ECG.

    Attributes:
        label: index into ``CLASS_NAMES``.
        rate: beats per minute that were asked for.
        times: (beats,) s of the R peaks from the recording's start, ascending.
        ventricular: bool (beats,) True of premature beats from a ventricle.
        dipole: (3,samples) mV, without noise and wander.
    """

    label: int
    rate: float
    times: np.ndarray
    ventricular: np.ndarray
    dipole: np.ndarray


def heartbeats_of_sample(seed: int, number: int, rate: int = 250, seconds: int = 10) -> Heartbeats:
    """The truth behind ECG ``number`` of :func:`random_ecg`.

    Raises:
        ValueError: a seed, number or size that cannot be.
    """
    _check_sizes(rate, seconds)
    return _heartbeats(sample_rng(seed, number), rate, seconds)


def random_ecg(count: int, seed: int, rate: int = 250, seconds: int = 10) -> tuple[dict[str, Tensor], Tensor]:
    """ECG of hearts of random class, rate, position and shape, with the wander of breathing and noise.

    Args:
        count: N, >= 1.
        seed: sample i of a seed is the same whatever ``count``.
        rate: samples per second, >= 100.
        seconds: length, >= 4.

    Returns:
        - ``ecg`` float32 (N,8,rate * seconds), mV, leads ``LEAD_NAMES``.
        - labels int64 (N,), indices into ``CLASS_NAMES``.

    Raises:
        ValueError: a size or seed that cannot be.
    """
    _check_sizes(rate, seconds)
    recordings, labels = [], []
    for rng in sample_rngs(seed, count):
        truth = _heartbeats(rng, rate, seconds)
        ecg = LEAD_VECTORS @ truth.dipole
        # Wander and noise arise at the electrodes: no dipole explains them.
        phase = 2 * np.pi * rng.uniform(*RESPIRATION) * np.arange(rate * seconds) / rate
        for part in (phase, 0.37 * phase):
            ecg += rng.uniform(*WANDER) * rng.standard_normal((len(ecg), 1)) * np.sin(part + rng.uniform(0, 2 * np.pi))
        ecg += rng.uniform(*NOISE) * rng.standard_normal(ecg.shape)
        recordings.append(ecg.astype(np.float32))
        labels.append(truth.label)
    return {"ecg": torch.from_numpy(np.stack(recordings))}, torch.tensor(labels)


def load_heartbeats(
    seed: int, num_train: int, num_held_out: int, rate: int = 250, seconds: int = 10
) -> tuple[Samples, Samples]:
    """(train, held_out) of :func:`random_ecg`.

    Raises:
        ValueError: a size or seed that cannot be.
    """
    return generated(partial(random_ecg, rate=rate, seconds=seconds), seed, num_train, num_held_out, CLASS_NAMES)


def _check_sizes(rate: int, seconds: int) -> None:
    at_least("rate", rate, 100)
    at_least("seconds", seconds, 4)


def _heartbeats(rng: np.random.Generator, rate: int, seconds: int) -> Heartbeats:
    label = int(rng.integers(len(CLASS_NAMES)))
    rhythm = RHYTHMS[CLASS_NAMES[label]]
    pulse = rng.uniform(*rhythm.rates)
    interval = 60 / pulse
    times = _beat_times(rng, interval, rhythm.spread, seconds)
    ventricular = np.zeros(len(times), bool)
    if label == PREMATURE:
        ventricular = _made_early(rng, times, interval, seconds)
    waves, focus = _drawn(rng, rhythm.waves, interval), _drawn(rng, VENTRICULAR, interval)
    direction = rng.standard_normal(3)
    focus[:, 2:] = focus[:, 2:3] * direction / np.linalg.norm(direction)
    dipole = np.zeros((3, rate * seconds))
    for time, early in zip(times, ventricular, strict=True):
        _add_beat(dipole, rate, time, focus if early else waves)
    if label == FIBRILLATION:
        dipole += _fibrillation(rng, np.arange(rate * seconds) / rate)
    dipole = rng.uniform(0.8, 1.25) * _turn(0.12 * rng.standard_normal(3)) @ dipole
    inside = (times >= 0) & (times < seconds)
    return Heartbeats(label, pulse, times[inside], ventricular[inside], dipole)


def _beat_times(rng: np.random.Generator, interval: float, spread: float, seconds: int) -> np.ndarray:
    """s of R peaks from before the start to after the end."""
    count = int(1.5 * (seconds + 2) / interval) + 4
    breathing = 0.02 * np.sin(2 * np.pi * rng.uniform(*RESPIRATION) * interval * np.arange(count))
    between = interval * np.exp(spread * rng.standard_normal(count) - spread**2 / 2 + breathing)
    times = np.cumsum(between.clip(0.33)) - rng.uniform(1, 2) * interval
    return times[times < seconds + REACH[0]]


def _made_early(rng: np.random.Generator, times: np.ndarray, interval: float, seconds: int) -> np.ndarray:
    """Moves every second to fifth beat ahead, in place; bool (beats,) which. The pause after it makes up for it."""
    step = int(rng.integers(2, 6))
    inside = np.flatnonzero((times > interval) & (times < seconds - 0.2))
    chosen = inside[int(rng.integers(min(step, len(inside)))) :: step]
    times[chosen] -= rng.uniform(0.35, 0.45) * interval
    return np.isin(np.arange(len(times)), chosen)


def _drawn(rng: np.random.Generator, waves: dict[str, tuple[float, ...]], interval: float) -> np.ndarray:
    """(waves,5) of one heart: rows as of ``NORMAL``, each a little its own, and as slow as the time between beats."""
    table = np.array(list(waves.values()))
    table[:, 0] += 0.003 * rng.standard_normal(len(table))
    table[:, 1] *= np.exp(0.08 * rng.standard_normal(len(table)))
    table[:, 2:] *= 1 + 0.12 * rng.standard_normal((len(table), 1))
    table[[name in SLOW_WAVES for name in waves], :2] *= np.sqrt(interval)
    return table


def _add_beat(dipole: np.ndarray, rate: int, time: float, waves: np.ndarray) -> None:
    first, last = (int(np.clip((time + reach) * rate, 0, dipole.shape[1])) for reach in (-REACH[0], REACH[1]))
    after = np.arange(first, last) / rate - time
    shapes = np.exp(-0.5 * ((after - waves[:, :1]) / waves[:, 1:2]) ** 2)
    dipole[:, first:last] += waves[:, 2:].T @ shapes


def _fibrillation(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """(3,samples) mV: the atria's waves, 5 to 8 a second, most of them in V1."""
    pitch = 2 * np.pi * rng.uniform(5, 8) * time + 1.5 * np.sin(2 * np.pi * rng.uniform(0.1, 0.5) * time)
    waves = np.sin(pitch + rng.uniform(0, 2 * np.pi)) + 0.3 * np.sin(2 * pitch + rng.uniform(0, 2 * np.pi))
    return rng.uniform(0.05, 0.1) * np.array([[-0.3], [0.3], [-0.9]]) * waves


def _turn(vector: np.ndarray) -> np.ndarray:
    """(3,3): a turn about the vector's direction, by its length in rad (Rodrigues)."""
    angle = np.linalg.norm(vector)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
