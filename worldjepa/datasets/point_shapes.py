"""Shapes of one's own: clouds, meshes and LiDAR frames in folders, one folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from worldjepa.datasets.numbered import at_least, sample_rng
from worldjepa.datasets.point_files import load_cloud
from worldjepa.datasets.samples import Samples, split_samples

SUFFIXES = (".npy", ".bin", ".ply", ".obj", ".off")


def load_point_folder(
    seed: int, folder: str | Path, num_points: int = 1024, held_out: float = 0.2
) -> tuple[Samples, Samples]:
    """Shapes of ``folder/<class>/``: ``.npy`` (N,3 or more), LiDAR's ``.bin``, and meshes through trimesh.

    ``.pcd.bin`` are sweeps of nuScenes and any other ``.bin`` are KITTI's, of which the places are taken and the
    intensities left out, see :mod:`worldjepa.datasets.point_files`. Meshes are ``.ply``, ``.obj`` and ``.off``.

    Of a cloud with more points than asked for, some are taken by chance, so that of a LiDAR frame most are near the
    sensor; meshes are sampled by area. Every shape is centred at the mean of its points and scaled so that the farthest
    lies at distance 1; its axes stay. Sizes and, of LiDAR frames, where the sensor was are lost. Other files are left
    alone.

    Args:
        seed: of the points and of the split, which is stratified by class.
        folder: of one folder per class, whose files are shapes.
        num_points: per shape.
        held_out: share of the second part.

    Returns:
        training and held-out shapes, ``points`` float32 (N,num_points,3) in the unit ball, labels of the folders.

    Raises:
        ValueError: no such folders, too few shapes for the split, a file that cannot be read or has too few points.
        ImportError: files that need trimesh, which is not installed.
    """
    at_least("num_points", num_points, 1)
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder of classes, got none; set data.folder")
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise ValueError(f"{folder}: expected one folder per class, got none; put shapes into {folder}/<class>/")
    clouds, labels = [], []
    for label, place in enumerate(classes):
        paths = sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES)
        if not paths:
            raise ValueError(f"{place}: expected shapes ({', '.join(SUFFIXES)}), got none; fill or remove the folder")
        for path in paths:
            clouds.append(read_shape(path, num_points, sample_rng(seed, len(clouds))))
            labels.append(label)
    names = tuple(place.name for place in classes)
    samples = Samples({"points": torch.from_numpy(np.stack(clouds))}, torch.tensor(labels), names)
    try:
        return split_samples(samples, seed, held_out)
    except ValueError as error:
        raise ValueError(
            f"{folder}: no share of {held_out} of {len(clouds)} shapes of {len(classes)} classes can be held out "
            f"({error}); give every class at least 2 shapes, or change held_out"
        ) from error


def read_shape(path: Path, num_points: int, rng: np.random.Generator) -> np.ndarray:
    """float32 (num_points,3) in the unit ball, from one file; see :func:`load_point_folder`.

    Raises:
        ValueError: naming the file, if it cannot be read or has too few points, no extent, NaN or infinity.
        ImportError: trimesh is needed and not installed.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        points = _cloud(path)
    elif suffix == ".bin":
        points = load_cloud(path)[:, :3].double().numpy()
    else:
        points = _geometry(path, num_points, rng)
    if not np.isfinite(points).all():
        raise ValueError(f"{path}: expected finite points, got NaN or infinity; write it without them")
    if len(points) < num_points:
        raise ValueError(f"{path}: expected >= {num_points} points, got {len(points)}; lower num_points or remove it")
    if len(points) > num_points:
        points = points[rng.choice(len(points), num_points, replace=False)]
    points = points - points.mean(0)
    radius = np.linalg.norm(points, axis=1).max()
    if radius == 0:
        raise ValueError(f"{path}: expected a shape, got {len(points)} points at one place; remove it")
    return (points / radius).astype(np.float32)


def _cloud(path: Path) -> np.ndarray:
    """float64 (N,3)."""
    try:
        points = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read as a NumPy array ({error}); write it with numpy.save") from error
    if points.ndim != 2 or points.shape[1] < 3 or points.dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected numbers (N, 3 or more), got {points.dtype} {points.shape}")
    return points[:, :3].astype(np.float64)


def _geometry(path: Path, num_points: int, rng: np.random.Generator) -> np.ndarray:
    """float64 (num_points,3) on the surface of a mesh, or all points (N,3) of a file without faces."""
    try:
        import trimesh
    except ImportError as error:
        raise ImportError(f"{path}: meshes need the extra `meshes`: uv sync --extra meshes") from error
    try:
        # Scenes of several bodies become one; looks are not needed.
        loaded = trimesh.load_scene(path, process=False, skip_materials=True)
        bodies = loaded.dump()
    except Exception as error:  # readers of trimesh raise anything on broken files
        raise ValueError(f"{path}: cannot be read as a {path.suffix} ({error}); write it again") from error
    meshes = [body for body in bodies if isinstance(body, trimesh.Trimesh) and len(body.faces)]
    if not meshes:
        found = [np.asarray(body.vertices, np.float64) for body in bodies if hasattr(body, "vertices")]
        return np.concatenate(found) if found else np.empty((0, 3))
    mesh = trimesh.util.concatenate(meshes)
    if not np.isfinite(mesh.vertices).all() or not mesh.area > 0:
        raise ValueError(f"{path}: expected a mesh with an area, got one of {mesh.area}; repair or remove it")
    points, _ = trimesh.sample.sample_surface(mesh, num_points, seed=int(rng.integers(2**32)))
    return np.asarray(points, np.float64)
