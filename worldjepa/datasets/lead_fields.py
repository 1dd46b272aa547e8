"""EEG of current dipoles in a sphere: which region of the cortex oscillates, in which band, is known.

The head is one homogeneous sphere, without the skull that smears real potentials. Places are in the head's radius: x
right, y front, z up. Moments are in nA m, potentials in uV against the mean over the channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from worldjepa.datasets.numbered import at_least, sample_rng, sample_rngs
from worldjepa.datasets.samples import Samples, generated
from worldjepa.datasets.splits import check_known

RATE = 128  # Hz
RADIUS = 0.09  # m, of the head
CONDUCTIVITY = 0.33  # S/m, of the brain
NUM_BACKGROUND = 40  # dipoles
# Distances of the background's dipoles from the middle; the cortex lies at the second, nearer to the middle than a real
# one: so does the dipole in one sphere that explains a potential smeared by a skull (Ary et al. 1981).
DEPTHS = (0.3, 0.65)
BACKGROUND = 20.0  # nA m, rms of each of them
STRENGTHS = (60.0, 120.0)  # nA m, of the oscillation
NOISE = 1.0  # uV, rms of the sensors

# Inclination from the top and azimuth from the right, degrees; a negative inclination is on the left. Positions of the
# 10-20 system as in BESA's spherical head.
ELECTRODES = {
    **{"Fp1": (-92, -72), "Fp2": (92, 72), "F7": (-92, -36), "F3": (-60, -51), "Fz": (46, 90), "F4": (60, 51)},
    **{"F8": (92, 36), "T7": (-92, 0), "C3": (-46, 0), "Cz": (0, 0), "C4": (46, 0), "T8": (92, 0), "P7": (-92, 36)},
    **{"P3": (-60, 51), "Pz": (46, -90), "P4": (60, -51), "P8": (92, -36), "O1": (-92, 72), "O2": (92, -72)},
}
REGIONS = {
    **{"left frontal": (-60, -51), "right frontal": (60, 51), "left motor": (-46, 0), "right motor": (46, 0)},
    **{"left occipital": (-85, 72), "right occipital": (85, -72)},
}
BANDS = {"alpha": (8.0, 12.0), "beta": (16.0, 24.0)}  # Hz


def _places(angles: dict[str, tuple[float, float]]) -> np.ndarray:
    inclination, azimuth = np.radians(list(angles.values())).T
    return np.stack(
        [np.sin(inclination) * np.cos(azimuth), np.sin(inclination) * np.sin(azimuth), np.cos(inclination)], 1
    )


ELECTRODE_NAMES = tuple(ELECTRODES)
ELECTRODE_PLACES = _places(ELECTRODES)
"""float64 (19,3), on the unit sphere."""
REGION_NAMES = tuple(REGIONS)
REGION_PLACES = _places(REGIONS)
"""float64 (6,3), middles of the regions, on the unit sphere."""
CLASS_NAMES = tuple(f"{region} {band}" for region in REGIONS for band in BANDS)
"""What the labels 0, 1, ... stand for."""
OLDER_NAMES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
"""Of the same places, before 1991."""


def electrode_places(names: Sequence[str]) -> list[list[float]]:
    """Rows (x, y, z) in radii of the head, of electrodes of the 10-20 system, in any order.

    Raises:
        ValueError: another name; ``mne.channels.make_standard_montage`` knows more places.
    """
    known = {name.lower(): place.tolist() for name, place in zip(ELECTRODE_NAMES, ELECTRODE_PLACES, strict=True)}
    known |= {old.lower(): known[new.lower()] for old, new in OLDER_NAMES.items()}
    for name in names:
        if name.lower() not in known:
            check_known(name, [*ELECTRODE_NAMES, *OLDER_NAMES], "electrode of the 10-20 system")
    return [known[name.lower()] for name in names]


def load_eeg(seed: int, num_train: int, num_held_out: int, num_samples: int = 256) -> tuple[Samples, Samples]:
    """(train, held_out) of :func:`random_eeg`, ``eeg`` float32 (N,19,num_samples) at 128 Hz, uV.

    Raises:
        ValueError: a size or seed that cannot be.
    """
    return generated(partial(random_eeg, num_samples=num_samples), seed, num_train, num_held_out, CLASS_NAMES)


def lead_field(places: np.ndarray, electrodes: np.ndarray = ELECTRODE_PLACES) -> np.ndarray:
    """Potential on the surface of a homogeneous sphere per moment of a dipole in it.

    In closed form: the gradient, by the place of a current source, of the potential 2 / d - ln((1 - r . s + d) / 2) on
    the insulated unit sphere (Frank 1952; Brody et al. 1973; Yao 2000), d = |r - s|. Its mean over the sphere is 0.

    Args:
        places: (D,3), of the dipoles, radii of the head, in the open unit ball.
        electrodes: (E,3), on the unit sphere.

    Returns:
        float64 (E,D,3), uV per nA m along x, y, z.

    Raises:
        ValueError: a dipole not inside of the head, or an electrode not on it.
    """
    places, electrodes = np.asarray(places, np.float64), np.asarray(electrodes, np.float64)
    if not (np.linalg.norm(places, axis=-1) < 1).all():
        raise ValueError("dipoles must lie within the unit ball, in radii of the head; divide their places by it, m")
    if not np.allclose(np.linalg.norm(electrodes, axis=-1), 1):
        raise ValueError("electrodes must lie on the unit sphere; divide their places by their lengths")
    to = electrodes[:, None] - places
    d = np.linalg.norm(to, axis=-1, keepdims=True)
    surface = (electrodes[:, None] + to / d) / (1 - electrodes @ places.T + d[..., 0])[..., None]
    volt_per_ampere_metre = (2 * to / d**3 + surface) / (4 * np.pi * CONDUCTIVITY * RADIUS**2)
    return volt_per_ampere_metre * 1e-3  # uV per nA m


@dataclass(frozen=True)
class Oscillation:
    """What is to be found in an EEG.

    Attributes:
        label: index into ``CLASS_NAMES``.
        place: (3,), of the dipole, radii of the head.
        moment: (3,) nA m, its peak.
        course: (samples,), its time course within [-1, 1].
    """

    label: int
    place: np.ndarray
    moment: np.ndarray
    course: np.ndarray


def oscillation_of_sample(seed: int, number: int, num_samples: int = 256) -> Oscillation:
    """The truth behind EEG ``number`` of :func:`random_eeg`.

    Raises:
        ValueError: a seed, number or size that cannot be.
    """
    at_least("num_samples", num_samples, RATE)
    return _oscillation(sample_rng(seed, number), num_samples)


def random_eeg(count: int, seed: int, num_samples: int = 256) -> tuple[dict[str, Tensor], Tensor]:
    """EEG in which one region oscillates over the 1/f activity of dipoles anywhere and the noise of the sensors.

    Args:
        count: N, >= 1.
        seed: sample i of a seed is the same whatever ``count``.
        num_samples: T at 128 Hz, >= 128.

    Returns:
        - ``eeg`` float32 (N,19,T), uV against the mean of the channels ``ELECTRODE_NAMES``.
        - labels int64 (N,), indices into ``CLASS_NAMES``.

    Raises:
        ValueError: a size or seed that cannot be.
    """
    at_least("num_samples", num_samples, RATE)
    recordings, labels = [], []
    for rng in sample_rngs(seed, count):
        truth = _oscillation(rng, num_samples)
        directions = _directions(rng, 2 * NUM_BACKGROUND)
        places = rng.uniform(*DEPTHS, (NUM_BACKGROUND, 1)) * directions[:NUM_BACKGROUND]
        fields = lead_field(np.vstack([truth.place, places]))
        moments = np.vstack([truth.moment, BACKGROUND * directions[NUM_BACKGROUND:]])
        courses = np.vstack([truth.course, _pink(rng, NUM_BACKGROUND, num_samples)])
        eeg = (fields * moments).sum(-1) @ courses + NOISE * rng.standard_normal((len(fields), num_samples))
        recordings.append((eeg - eeg.mean(0)).astype(np.float32))
        labels.append(truth.label)
    return {"eeg": torch.from_numpy(np.stack(recordings))}, torch.tensor(labels)


def _oscillation(rng: np.random.Generator, num_samples: int) -> Oscillation:
    """A dipole near the middle of a region, about radial, whose amplitude waxes and wanes."""
    label = int(rng.integers(len(CLASS_NAMES)))
    region, band = divmod(label, len(BANDS))
    place = REGION_PLACES[region] + 0.1 * rng.standard_normal(3)
    place /= np.linalg.norm(place)
    moment = place + 0.3 * rng.standard_normal(3)
    moment *= rng.uniform(*STRENGTHS) / np.linalg.norm(moment)
    time = np.arange(num_samples) / RATE
    phase, slow_phase = rng.uniform(0, 2 * np.pi, 2)
    envelope = 0.7 + 0.3 * np.sin(2 * np.pi * rng.uniform(0.3, 1.0) * time + slow_phase)
    course = envelope * np.sin(2 * np.pi * rng.uniform(*list(BANDS.values())[band]) * time + phase)
    return Oscillation(label, DEPTHS[1] * place, moment, course)


def _directions(rng: np.random.Generator, number: int) -> np.ndarray:
    vectors = rng.standard_normal((number, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _pink(rng: np.random.Generator, number: int, num_samples: int) -> np.ndarray:
    """(number, num_samples) of rms about 1, whose power falls as 1/f and has no mean."""
    frequencies = np.fft.rfftfreq(num_samples, 1 / RATE)
    size = np.r_[0, frequencies[1:] ** -0.5]
    spectrum = size * (rng.standard_normal((number, len(size))) + 1j * rng.standard_normal((number, len(size))))
    return np.fft.irfft(spectrum, num_samples) * num_samples / (2 * np.linalg.norm(size))
