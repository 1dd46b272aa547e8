"""Recordings of people, WFDB records and EDF files, cut into windows with labels for probes.

What lies early in a recording is trained on, what lies late is held out; a window that reaches across that moment is
left out. So no window shares a sample with one on the other side, and every person is on both sides: what is measured
is new moments of known people. For new people, give a folder of other people in another run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from worldjepa.datasets.samples import Samples
from worldjepa.datasets.splits import check_known

BEAT_GROUPS = {"N": "NLRBejn", "S": "AaJS", "V": "VEr", "F": "F", "Q": "/fQ?"}
"""Annotated beats by their origin (ANSI/AAMI EC57): sinus and escape beats, supraventricular and ventricular ectopic
ones, fusions, paced and unknown ones. Other symbols (rhythms, noise) mark no beat."""
GROUP_OF = {symbol: group for group, symbols in BEAT_GROUPS.items() for symbol in symbols}
NEEDS = "reading {} needs {}: pip install 'worldjepa[signals]' ({})"


@dataclass(frozen=True)
class _Recording:
    """float32 (channels,samples), and where windows start; with labels, or None where nothing is annotated."""

    path: Path
    signal: np.ndarray
    starts: np.ndarray
    labels: list[str] | None


def load_wfdb(
    seed: int,
    folder: str | Path,
    leads: Sequence[str],
    rate: int = 500,
    seconds: float = 2.0,
    held_out: float = 0.25,
    records: Sequence[str] | None = None,
    annotator: str = "atr",
) -> tuple[Samples, Samples]:
    """ECG of WFDB records such as PhysioNet's, see the top of this file for the split.

    Where beats are annotated there is one window around each of them, labelled by its group in ``BEAT_GROUPS``; else
    windows follow each other, and the record is the label.

    Args:
        seed: has no part in it.
        folder: with ``*.hea`` files, also in folders of its own.
        leads: names in the headers, upper or lower case; in this order.
        rate: samples per second to bring all records to.
        seconds: length of a window.
        held_out: share of every record's time, at its end.
        records: names within the folder without ``.hea``; all when None.
        annotator: suffix of the annotations.

    Returns:
        (train, held_out), ``ecg`` float32 (N,leads,rate * seconds) in the records' unit (mV as a rule).

    Raises:
        ValueError: no records; one without a header, cut short or broken, without one of the leads; some records with
            annotated beats and some without; a part without windows.
        ModuleNotFoundError: wfdb is missing.
    """
    folder = _folder(folder)
    window = _window(rate, seconds, held_out)
    paths = sorted(folder.rglob("*.hea")) if records is None else [folder / f"{name}.hea" for name in records]
    if not paths:
        raise ValueError(f"{folder}: expected WFDB records, got no header (*.hea) in it; fetch them with the signals")
    read = [_read_wfdb(path, leads, rate, window, annotator) for path in paths]
    if records is None:
        lonely = sorted(set(folder.rglob("*.dat")).difference(*(files for _, files in read)))
        if lonely:
            raise ValueError(f"{lonely[0]}: no header (*.hea) in {folder} describes it; fetch that too or name records")
    return _cut("ecg", [recording for recording, _ in read], window, held_out, tuple(BEAT_GROUPS))


def load_edf(
    seed: int,
    folder: str | Path,
    channels: Sequence[str],
    rate: int = 128,
    seconds: float = 4.0,
    held_out: float = 0.25,
    labels: Sequence[str] | None = None,
) -> tuple[Samples, Samples]:
    """EEG of EDF and EDF+ files, see the top of this file for the split.

    Where there are annotations, windows follow each other within each of them (an annotation shorter than a window has
    one, from where it starts), labelled by its text; else within the whole file, and the file is the label.

    Args:
        seed: has no part in it.
        folder: with ``*.edf`` files, also in folders of its own.
        channels: names in the files, upper or lower case; in this order.
        rate: samples per second to bring all files to.
        seconds: length of a window.
        held_out: share of every file's time, at its end.
        labels: the annotations that count; all when None.

    Returns:
        (train, held_out), ``eeg`` float32 (N,channels,rate * seconds), uV.

    Raises:
        ValueError: no files; one that is cut short, broken, or without one of the channels; some with annotations and
            some without; a part without windows.
        ModuleNotFoundError: mne is missing.
    """
    folder = _folder(folder)
    window = _window(rate, seconds, held_out)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".edf")
    if not paths:
        raise ValueError(f"{folder}: expected EDF files, got no *.edf in it")
    found = [_read_edf(path, channels, rate, window, labels) for path in paths]
    texts = {label for recording in found for label in recording.labels or ()}
    return _cut("eeg", found, window, held_out, tuple(sorted(texts)))


def _folder(folder: str | Path) -> Path:
    if folder is None or not Path(folder).is_dir():
        raise ValueError(f"expected a folder of recordings, got {folder}; set data.folder")
    return Path(folder)


def _window(rate: int, seconds: float, held_out: float) -> int:
    window = round(rate * seconds)
    if rate < 1 or window < 1 or not 0 < held_out < 1:
        raise ValueError(
            f"rate and rate * seconds must be >= 1 and held_out in (0, 1), got {rate}, {window} and {held_out}"
        )
    return window


def _cut(
    key: str, recordings: list[_Recording], window: int, held_out: float, texts: tuple[str, ...]
) -> tuple[Samples, Samples]:
    plain = [recording.path for recording in recordings if recording.labels is None]
    if plain and len(plain) < len(recordings):
        raise ValueError(
            f"{plain[0]} has no annotations that are labels, and {len(recordings) - len(plain)} others have; put them "
            "into folders of their own"
        )
    names = tuple(recording.path.stem for recording in recordings) if plain else texts
    parts: tuple[list, list] = [], []
    classes: tuple[list[int], list[int]] = [], []
    for number, recording in enumerate(recordings):
        moment = round((1 - held_out) * recording.signal.shape[1])
        for index, start in enumerate(recording.starts.tolist()):
            piece = recording.signal[:, start : start + window]
            # Off the ends, across the moment, or with samples that were never taken.
            if start < 0 or piece.shape[1] < window or start < moment < start + window or not np.isfinite(piece).all():
                continue
            parts[start >= moment].append(piece)
            classes[start >= moment].append(number if plain else names.index(recording.labels[index]))
    for part, name in zip(parts, ("trained on", "held out"), strict=True):
        if not part:
            raise ValueError(
                f"{recordings[0].path.parent}: no window of {window} samples to be {name}; take longer recordings, "
                "fewer seconds or another held_out"
            )
    train, test = (
        Samples({key: torch.from_numpy(np.stack(part))}, torch.tensor(labels), names)
        for part, labels in zip(parts, classes, strict=True)
    )
    return train, test


def _at_rate(signal: np.ndarray, before: float, after: int) -> np.ndarray:
    """(channels,samples) with a low-pass filter against what the new rate cannot hold."""
    from scipy.signal import resample_poly

    ratio = Fraction(after / before).limit_denominator(1000)
    if ratio != 1:
        signal = resample_poly(signal, ratio.numerator, ratio.denominator, axis=1)
    return np.ascontiguousarray(signal, np.float32)


def _following(first: float, last: float, window: int) -> np.ndarray:
    """Starts of windows one after the other within these samples."""
    return np.arange(round(first), max(round(last) - window, round(first) - 1) + 1, window)


def _names(path: Path, asked: Sequence[str], there: Sequence[str]) -> list[str]:
    """As they are spelled in the file."""
    spelled = {name.lower(): name for name in there}
    for name in asked:
        if name.lower() not in spelled:
            check_known(name, list(there), f"channel of {path}")
    return [spelled[name.lower()] for name in asked]


def _read_wfdb(
    path: Path, leads: Sequence[str], rate: int, window: int, annotator: str
) -> tuple[_Recording, set[Path]]:
    """The recording, and all files of signals its header names."""
    try:
        import wfdb
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(NEEDS.format("WFDB records", "wfdb", error)) from None
    if not path.is_file():
        raise ValueError(f"{path}: no such header; fetch it with its signals")
    record, marks = str(path.with_suffix("")), path.with_suffix(f".{annotator}")
    try:
        header = wfdb.rdheader(record)
        there = list(header.sig_name)
    except Exception as error:  # wfdb raises anything on broken files
        raise ValueError(f"{path}: is no whole WFDB header ({error}); fetch it again") from None
    names = _names(path, leads, there)
    try:
        signal = wfdb.rdrecord(record, channel_names=names)
        order = [signal.sig_name.index(name) for name in names]
        values = signal.p_signal.T[order]
    except Exception as error:
        raise ValueError(f"{path}: its signals are missing or cut short ({error}); fetch them again") from None
    files = {path.parent / name for name in header.file_name}
    if not marks.is_file():
        values = _at_rate(values, header.fs, rate)
        return _Recording(path, values, _following(0, values.shape[1], window), None), files
    if not marks.stat().st_size:
        raise ValueError(f"{marks}: is empty; fetch it again, or remove it to read the record without annotations")
    try:
        notes = wfdb.rdann(record, annotator)
    except Exception as error:
        raise ValueError(f"{marks}: are no WFDB annotations ({error}); fetch them again") from None
    beats = [index for index, symbol in enumerate(notes.symbol) if symbol in GROUP_OF]
    values = _at_rate(values, header.fs, rate)
    if not beats:
        return _Recording(path, values, _following(0, values.shape[1], window), None), files
    starts = np.round(np.asarray(notes.sample)[beats] * (rate / header.fs)).astype(int) - window // 2
    return _Recording(path, values, starts, [GROUP_OF[notes.symbol[index]] for index in beats]), files


def _read_edf(path: Path, channels: Sequence[str], rate: int, window: int, labels: Sequence[str] | None) -> _Recording:
    try:
        import mne
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(NEEDS.format("EDF files", "mne", error)) from None
    names = _names(path, channels, _edf_channels(path))
    try:
        # Only these: mne would bring all to the fastest channel's rate.
        raw = mne.io.read_raw_edf(path, include=names, stim_channel=None, verbose="error")
        values = raw.get_data(picks=names, verbose="error") * 1e6
    except Exception as error:  # mne raises anything on broken files
        raise ValueError(f"{path}: cannot be read as EDF ({error}); fetch it again") from None
    values = _at_rate(values, raw.info["sfreq"], rate)
    starts: list[int] = []
    texts: list[str] = []
    for note in raw.annotations:
        text, onset = str(note["description"]), rate * note["onset"]
        if labels is not None and text not in labels:
            continue
        new = _following(onset, onset + max(rate * note["duration"], window), window).tolist()
        starts += new
        texts += [text] * len(new)
    if not texts:
        return _Recording(path, values, _following(0, values.shape[1], window), None)
    return _Recording(path, values, np.array(starts), texts)


def _edf_channels(path: Path) -> list[str]:
    """Names of the signals; mne itself takes a file that was cut short for a shorter recording.

    Layout: Kemp et al. 1992, a header of 256 bytes and of 256 for every signal, then records of 16-bit samples.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(256)
        try:
            length, records, signals = int(start[184:192]), int(start[236:244]), int(start[252:256])
            fields = file.read(256 * signals)
            names = [fields[16 * i : 16 * i + 16].decode("latin-1").strip() for i in range(signals)]
            # Names, sensors, units, four limits and filters come first: 216 bytes of each signal.
            samples = sum(int(fields[216 * signals + 8 * i :][:8]) for i in range(signals))
        except ValueError:
            raise ValueError(f"{path}: has no whole EDF header in its {size} bytes; fetch it again") from None
    if start[192:197] == b"EDF+D":
        raise ValueError(f"{path}: has gaps in time (EDF+D), which mne closes up; cut it into whole files (EDF+C)")
    expected = length + 2 * samples * records
    if records > 0 and size < expected:
        raise ValueError(f"{path}: expected {expected} bytes as its header says, got {size}; fetch it again")
    return [name for name in names if name != "EDF Annotations"]
