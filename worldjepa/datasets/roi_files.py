"""The user's own courses of brain regions: a folder with one file per subject, and a list of subjects with labels.

Such files come from NIfTI pictures by an atlas, for instance by nilearn's NiftiLabelsMasker and numpy.save. An atlas's
connectivity, measured by others, is read here too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from worldjepa.datasets.samples import Samples, split_samples
from worldjepa.datasets.tables import read_column, read_labels
from worldjepa.files import in_data

SUFFIXES = (".npy", ".csv")
SCHAEFER = "fmri/schaefer_400_mean_connectivity_matrix.csv"
SCHAEFER_SOURCE = "https://github.com/MICA-MNI/BrainSpace"


def load_roi_folder(
    seed: int,
    folder: str | Path,
    labels: str | Path,
    label: str,
    num_samples: int,
    volumes_first: bool = True,
    held_out: float = 0.25,
) -> tuple[Samples, Samples]:
    """Courses of regions of the subjects in a list.

    Args:
        seed: of the split.
        folder: holds ``<subject>.npy`` or ``<subject>.csv`` for every subject in the list.
        labels: a CSV or Parquet file with a column ``subject``.
        label: its column that probes shall read off: classes or a quantity, see
            :func:`worldjepa.datasets.tables.load_table`.
        num_samples: T, the first so many volumes of everybody are taken.
        volumes_first: whether rows of the files are volumes, as nilearn writes them, or regions.
        held_out: share of the second part.

    Returns:
        training and held-out subjects, rois float32 (N,R,T), NaN where a file has it.

    Raises:
        ValueError: a file that is not there, holds no such table, or has fewer volumes or other regions than the rest.
    """
    courses = []
    for path in subject_files(folder, labels):
        rois = read_courses(path, volumes_first)
        if rois.shape[1] < num_samples:
            raise ValueError(
                f"{path}: has {rois.shape[1]} volumes, expected num_samples ({num_samples}) or more; leave the subject "
                "out, lower data.num_samples, or set data.volumes_first if the file is the other way round"
            )
        if courses and len(rois) != len(courses[0]):
            raise ValueError(f"{path}: has {len(rois)} regions, the files before it {len(courses[0])}; use one atlas")
        courses.append(rois[:, :num_samples])
    found, names = read_labels(read_column(labels, label), f"{labels}: label {label!r}")
    return split_samples(Samples({"rois": torch.from_numpy(np.stack(courses))}, found, names), seed, held_out)


def count_regions(folder: str | Path, labels: str | Path, volumes_first: bool = True) -> int:
    """R of the first subject; arguments and errors as of :func:`load_roi_folder`."""
    return len(read_courses(subject_files(folder, labels)[0], volumes_first))


def folder_connectivity(
    folder: str | Path, labels: str | Path, volumes_first: bool = True, matrix: str | Path | None = None
) -> np.ndarray:
    """float64 (R,R): correlations of regions, the mean of all subjects of a folder, or those in a file.

    Subjects that are held out have a part in the mean, without their labels.

    Args:
        folder, labels, volumes_first: see :func:`load_roi_folder`.
        matrix: ``.npy`` or ``.csv`` of an atlas's connectivity in the same order of regions, in place of the folder's.

    Raises:
        ValueError: files as in :func:`load_roi_folder`, a region that is missing or constant in all subjects, or a
            matrix that is not square.
    """
    if matrix is not None:
        return read_connectivity(matrix)
    total, count = 0.0, 0
    for path in subject_files(folder, labels):
        rois = read_courses(path, volumes_first).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.corrcoef(rois)  # NaN where a region is missing or constant
        if np.shape(total) not in ((), found.shape):
            raise ValueError(f"{path}: has {len(found)} regions, the files before it {len(total)}; use one atlas")
        total, count = total + np.nan_to_num(found), count + np.isfinite(found)
    if not count.all():
        raise ValueError(
            f"{folder}: region {int((count == 0).sum(1).argmax())} (from 0) is missing or constant in all subjects, or "
            "wherever another is not; leave it out"
        )
    return total / count


def measured_connectivity(matrix: str | Path | None = None, num_rois: int | None = None) -> np.ndarray:
    """float64 (R,R): correlations of regions in a file, such as the mean of many people at rest.

    Args:
        matrix: ``.npy`` or ``.csv``; None takes ``SCHAEFER`` in the folder ``WORLDJEPA_DATA``: Schaefer's 400 parcels,
            seven networks of the left hemisphere, then of the right (BrainSpace, BSD-3; from the HCP).
        num_rois: R, regions spread evenly over the file's, every fourth if these are 100 of 400; None takes all.

    Raises:
        ValueError: no such file, no finite square matrix, or fewer regions in it.
    """
    path = in_data(SCHAEFER) if matrix is None else Path(matrix)
    if path is None:
        raise ValueError(
            f"no measured connectivity: set WORLDJEPA_DATA to a folder with {SCHAEFER}, or data.matrix to a .csv or "
            f".npy of correlations (from {SCHAEFER_SOURCE}); data=rois needs no files"
        )
    if not path.is_file():
        raise ValueError(
            f"{path}: expected a measured connectivity, found no file; get it from {SCHAEFER_SOURCE}, or set "
            "data.matrix to a .csv or .npy of correlations; data=rois needs no files"
        )
    found = read_connectivity(path)
    if num_rois is None:
        return found
    if not 1 <= num_rois <= len(found):
        raise ValueError(
            f"{path}: has {len(found)} regions, expected num_rois ({num_rois}); set data.num_rois to fewer"
        )
    taken = np.arange(num_rois) * len(found) // num_rois
    return found[np.ix_(taken, taken)]


def read_connectivity(path: str | Path) -> np.ndarray:
    """float64 (R,R), finite, of a ``.npy``, or a ``.csv`` separated by commas, whose first line may name the columns.

    Raises:
        ValueError: no such matrix.
    """
    found = _read(Path(path))
    if found.shape[0] != found.shape[1] or not np.isfinite(found).all():
        raise ValueError(f"{path}: expected a finite square matrix, one row per region, got {found.shape}")
    return found


def subject_files(folder: str | Path, labels: str | Path) -> list[Path]:
    """The file of every subject in the list, in its order.

    Raises:
        ValueError: no list, no column ``subject``, or a subject that is there twice or has no file.
    """
    subjects = [str(subject) for subject in read_column(labels, "subject").to_pylist()]
    twice = sorted({subject for subject in subjects if subjects.count(subject) > 1})
    if twice:
        raise ValueError(f"{labels}: subject {twice[0]!r} is there more than once")
    paths = []
    for subject in subjects:
        there = [path for suffix in SUFFIXES if (path := Path(folder) / f"{subject}{suffix}").is_file()]
        if len(there) != 1:
            raise ValueError(
                f"{Path(folder) / subject}: expected one of {subject}.npy and {subject}.csv, found {len(there)}; "
                f"{labels} names the subject"
            )
        paths += there
    return paths


def read_courses(path: str | Path, volumes_first: bool = True) -> np.ndarray:
    """float32 (R,T) of one subject's file, NaN where it has it.

    Args:
        path: ``.npy``, or ``.csv`` separated by commas, whose first line may name the columns.
        volumes_first: whether its rows are volumes.

    Raises:
        ValueError: no such table of numbers, infinite ones, or none at all.
    """
    table = _read(Path(path))
    if np.isinf(table).any():
        raise ValueError(f"{path}: holds infinite numbers; give nan where a region is missing")
    if np.isnan(table).all():
        raise ValueError(f"{path}: every region is missing; leave the subject out")
    return np.ascontiguousarray(table.T if volumes_first else table, np.float32)


def _read(path: Path) -> np.ndarray:
    try:
        if path.suffix == ".npy":
            table = np.load(path, allow_pickle=False)
        else:
            with open(path, encoding="utf-8-sig") as file:
                first = file.readline()
                if not first.strip():
                    raise ValueError("its first line is empty")
                named = not _is_numbers(first)
                file.seek(0)
                table = np.loadtxt(file, delimiter=",", skiprows=int(named), ndmin=2)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as a table of numbers ({error})") from None
    if table.ndim != 2 or not table.size or not np.issubdtype(table.dtype, np.number) or np.iscomplexobj(table):
        raise ValueError(f"{path}: expected a table of volumes and regions, got {table.dtype} {table.shape}")
    return table.astype(np.float64)


def _is_numbers(line: str) -> bool:
    try:
        [float(word) for word in line.split(",")]
    except ValueError:
        return False
    return True
