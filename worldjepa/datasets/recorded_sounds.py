"""Recorded sounds of known classes: the Free Spoken Digit Dataset, and folders of your own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from worldjepa.datasets.samples import Samples, split_samples
from worldjepa.files import in_data

FSDD_FOLDER = "fsdd/recordings"
FSDD_RATE = 8000  # Hz
FSDD_NAME = re.compile(r"([0-9])_([a-z]+)_([0-9]+)\.wav")
FSDD_NUM_HELD_OUT = 5
FSDD_SOURCE = "https://github.com/Jakobovski/free-spoken-digit-dataset"
NEED_SOUNDFILE = "reading sound needs soundfile: pip install 'worldjepa[signals]'"


def load_fsdd(seed: int, folder: str | Path | None = None, seconds: float = 1.0) -> tuple[Samples, Samples]:
    """3,000 spoken digits by 6 speakers at 8 kHz (Free Spoken Digit Dataset, CC BY-SA 4.0).

    Args:
        seed: has no effect, the split is the official one.
        folder: of the ``{digit}_{speaker}_{index}.wav``; ``fsdd/recordings`` in ``WORLDJEPA_DATA`` when None.
        seconds: longer recordings are cut off there (20 of them are longer than 1 s).

    Returns:
        recordings 5 to 49 of every digit and speaker, and recordings 0 to 4: ``wave`` float32 (N,samples) in [-1, 1],
        zero after ``length`` int64 (N,) samples; labels are the digits.

    Raises:
        ValueError: no such folder, a file of another name, or one that cannot be read as sound at 8 kHz.
        ModuleNotFoundError: soundfile is missing.
    """
    place = find_fsdd(folder)
    named = []
    for path in place.glob("*.wav"):
        name = FSDD_NAME.fullmatch(path.name)
        if name is None:
            raise ValueError(f"{path}: expected a name such as 7_jackson_32.wav; move other files elsewhere")
        named.append(name)
    named.sort(key=lambda name: (int(name[3]), name[0]))  # the first ones of a part are of all digits and speakers
    paths = [place / name[0] for name in named]
    labels = torch.tensor([int(name[1]) for name in named])
    held_out = torch.tensor([int(name[3]) < FSDD_NUM_HELD_OUT for name in named])
    if not held_out.any() or held_out.all():
        raise ValueError(f"{place} has {len(paths)} recordings, none to train on or none held out (0 to 4); copy all")
    samples = Samples(_read_all(paths, FSDD_RATE, seconds), labels, tuple("0123456789"))
    return samples[~held_out], samples[held_out]


def find_fsdd(folder: str | Path | None = None) -> Path:
    """The folder of the Free Spoken Digit Dataset's recordings, which has some.

    Args:
        folder: to look in; ``fsdd/recordings`` in the folder ``WORLDJEPA_DATA`` when None.

    Raises:
        ValueError: none there.
    """
    place = in_data(FSDD_FOLDER) if folder is None else Path(folder)
    if place is None:
        raise ValueError(
            f"no spoken digits: set WORLDJEPA_DATA to a folder with {FSDD_FOLDER}, or data.source.folder to the "
            f"recordings (from {FSDD_SOURCE}); data=tones needs no files"
        )
    if next(place.glob("*.wav"), None) is None:
        raise ValueError(f"no spoken digits in {place}: expected .wav files, get them from {FSDD_SOURCE}")
    return place


def load_wav_folder(
    seed: int, folder: str | Path | None, held_out: float = 0.25, rate: int = 16000, seconds: float = 2.0
) -> tuple[Samples, Samples]:
    """Your own recordings, one sub-folder of ``.wav`` files per class.

    Args:
        seed: of the split, which is stratified by class.
        folder: of the sub-folders; their names are those of the classes.
        held_out: share of the second part.
        rate: samples per second that every file must have.
        seconds: longer recordings are cut off there. Several channels become their mean.

    Returns:
        training and held-out recordings, as of :func:`load_fsdd`.

    Raises:
        ValueError: no such folder, a class of fewer than two files, a file that cannot be read, is empty or has another
            rate.
        ModuleNotFoundError: soundfile is missing.
    """
    if folder is None or not Path(folder).is_dir():
        raise ValueError(f"expected a folder of recordings, got {folder}; set data.source.folder")
    classes = {path.name: sorted(path.glob("*.wav")) for path in sorted(Path(folder).iterdir()) if path.is_dir()}
    if len(classes) < 2:
        raise ValueError(f"{folder}: expected a sub-folder of .wav files per class, got {len(classes)} of them")
    for name, paths in classes.items():
        if len(paths) < 2:
            raise ValueError(f"{Path(folder) / name}: expected at least 2 .wav files to split, got {len(paths)}")
    labels = torch.tensor([label for label, paths in enumerate(classes.values()) for _ in paths])
    observation = _read_all([path for paths in classes.values() for path in paths], rate, seconds)
    return split_samples(Samples(observation, labels, tuple(classes)), seed, held_out)


def _read_all(paths: Sequence[Path], rate: int, seconds: float) -> dict[str, torch.Tensor]:
    """``wave`` and ``length`` of files."""
    num_samples = round(rate * seconds)
    if num_samples < 1:
        raise ValueError(f"seconds must be at least one sample at {rate} Hz, got {seconds}")
    wave, length = np.zeros((len(paths), num_samples), np.float32), np.zeros(len(paths), np.int64)
    for row, path in enumerate(paths):
        sound = _read(path, rate, num_samples)
        wave[row, : len(sound)], length[row] = sound, len(sound)
    return {"wave": torch.from_numpy(wave), "length": torch.from_numpy(length)}


def _read(path: Path, rate: int, num_samples: int) -> np.ndarray:
    """float32 (samples,), at most ``num_samples`` of them."""
    try:
        import soundfile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{NEED_SOUNDFILE} ({error})") from None
    try:
        sound, found = soundfile.read(path, num_samples, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: cannot be read as sound ({error}); remove or convert it") from None
    if found != rate:
        raise ValueError(f"{path}: expected {rate} samples per second, got {found}; resample it or set the rate")
    if len(sound) == 0:
        raise ValueError(f"{path}: is empty; remove it")
    if not np.isfinite(sound).all():
        raise ValueError(f"{path}: holds numbers that are not finite; remove or repair it")
    return sound.mean(1)
