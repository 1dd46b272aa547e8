"""LiDAR clouds as they lie on disk: KITTI's object folder with its boxes, and sweeps of nuScenes.

A cloud is float32 (N,4): x ahead, y left, z up from the sensor, m, and intensity 0..1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

HELD = {
    "KITTI": (4, 1.0, "x, y, z and reflectance 0..1 (nuScenes's files end in .pcd.bin; scale reflectances of others)"),
    "nuScenes": (5, 255.0, "x, y, z, intensity 0..255 and ring (KITTI's files end in .bin alone)"),
}
"""Numbers per point, the highest intensity, and what they are; every number is a little-endian float32."""


def load_cloud(path: Path) -> Tensor:
    """A cloud by its suffix: ``.pcd.bin`` is nuScenes's, any other ``.bin`` KITTI's.

    Returns:
        float32 (N,4), see above; a file of zero bytes is a cloud without points, (0,4).

    Raises:
        ValueError: another suffix, a truncated file, NaN or infinite numbers, intensities out of range.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if path.name.endswith(".pcd.bin"):
        return read_nuscenes_cloud(path)
    if path.suffix == ".bin":
        return read_kitti_cloud(path)
    raise ValueError(f"{path}: expected a cloud .bin (KITTI) or .pcd.bin (nuScenes), got {path.suffix or 'no suffix'}")


def read_kitti_cloud(path: Path) -> Tensor:
    """KITTI's .bin: x, y, z and reflectance, in the frame used here; see :func:`load_cloud`.

    Source: Geiger et al. 2012; readme of the object devkit.
    """
    return torch.from_numpy(_points(Path(path), "KITTI"))


def read_nuscenes_cloud(path: Path) -> Tensor:
    """nuScenes's .pcd.bin, turned: its x points right and its y ahead. The ring is left out; see :func:`load_cloud`.

    Source: Caesar et al. 2020, arXiv:1903.11027; nuscenes-devkit, LidarPointCloud.
    """
    x, y, z, intensity, _ = _points(Path(path), "nuScenes").T
    return torch.from_numpy(np.column_stack([y, -x, z, intensity / np.float32(255)]))


def read_kitti_labels(labels: Path, calibration: Path) -> tuple[Tensor, list[str]]:
    """KITTI's boxes, taken from the frame of the rectified camera to the LiDAR's. DontCare is dropped.

    Only things in the left colour camera's picture are labelled; the LiDAR sees all around.

    Args:
        labels: label_2's text: class, truncated, occluded, alpha, picture box (4), height, width, length,
            x, y, z of the middle of the floor, rotation around y; and perhaps a score, which is left out.
        calibration: calib's text, of which R0_rect and Tr_velo_to_cam are used.

    Returns:
        boxes float32 (M,7): centre x, y, z, length, width, height, m, and yaw, rad from x to y, -pi..pi;
        M names of classes.

    Raises:
        ValueError: a line of another form, sizes that are not positive, no or another calibration.
        FileNotFoundError: no such labels.
    """
    labels, calibration = Path(labels), Path(calibration)
    names, rows = [], []
    for number, line in enumerate(labels.read_text().splitlines(), 1):
        name, *words = line.split() or ["DontCare"]
        if name == "DontCare":
            continue
        row = _numbers(words)
        if len(row) not in (14, 15) or not np.isfinite(row).all() or min(row[7:10]) <= 0:
            raise ValueError(
                f"{labels}, line {number}: expected a class, 14 or 15 finite numbers, of which 8 to 10 are a height, "
                f"width and length above 0 m, got {line.strip()!r}; fetch it again"
            )
        names.append(name)
        rows.append(row[7:14])
    to_lidar = np.linalg.inv(_lidar_to_camera(labels, calibration))
    if not rows:
        return torch.zeros(0, 7), []
    height, width, length, x, y, z, rotation = np.array(rows).T
    # The camera's y points down. Centres, not floors, are moved, and directions with the calibration's own small turns.
    centre = to_lidar @ np.stack([x, y - height / 2, z, np.ones_like(x)])
    ahead = to_lidar[:3, :3] @ np.stack([np.cos(rotation), np.zeros_like(x), -np.sin(rotation)])
    boxes = np.column_stack([*centre[:3], length, width, height, np.arctan2(ahead[1], ahead[0])])
    return torch.from_numpy(boxes.astype(np.float32)), names


class PointFolder:
    """Frames of a folder, sorted by name; nothing is read before it is asked for.

    KITTI's object folder, or its ``training``, holds ``velodyne/000008.bin``, ``label_2/000008.txt`` and
    ``calib/000008.txt``. Any other folder is searched for ``*.bin`` and ``*.pcd.bin`` of its own, such as nuScenes's
    ``samples/LIDAR_TOP``, and has no boxes: those of nuScenes lie in tables, which are not read.

    Attributes:
        paths: of the clouds.

    Raises:
        ValueError: no such folder, or none of these files in it.
    """

    def __init__(self, folder: Path):
        folder = Path(folder)
        if not folder.is_dir():
            raise ValueError(f"{folder}: expected a folder with clouds, got none")
        places = (folder / "velodyne", folder / "training" / "velodyne")
        self.paths = sorted(next((place for place in places if place.is_dir()), folder).glob("*.bin"))
        if not self.paths:
            inside = sorted(entry.name for entry in folder.iterdir())
            listed = ", ".join(inside[:6]) + (" ..." if len(inside) > 6 else "") or "nothing"
            raise ValueError(
                f"{folder}: expected KITTI's [training/]velodyne/*.bin, *.bin or *.pcd.bin, got {listed}; "
                "of nuScenes give samples/LIDAR_TOP"
            )

    def __len__(self) -> int:
        return len(self.paths)

    def cloud(self, index: int) -> Tensor:
        """float32 (N,4), see :func:`load_cloud`."""
        return load_cloud(self.paths[index])

    def boxes(self, index: int) -> tuple[Tensor, list[str]] | None:
        """Boxes (M,7) and M names, see :func:`read_kitti_labels`; None where a frame has no labels at all.

        Raises:
            ValueError: see :func:`read_kitti_labels`; labels without a calibration are one such.
        """
        path = self.paths[index]
        if path.parent.name != "velodyne":
            return None
        labels, calibration = (path.parents[1] / kind / f"{path.stem}.txt" for kind in ("label_2", "calib"))
        return read_kitti_labels(labels, calibration) if labels.is_file() else None


def _points(path: Path, layout: str) -> np.ndarray:
    """float32 (N, numbers per point), checked."""
    columns, brightest, held = HELD[layout]
    content = path.read_bytes()
    if len(content) % (4 * columns):
        raise ValueError(
            f"{path}: expected {layout}'s points of {4 * columns} bytes, {held}, got {len(content)} bytes, which is no "
            "whole number of points; the file is truncated or of another kind, fetch it again"
        )
    points = np.frombuffer(content, "<f4").reshape(-1, columns).astype(np.float32)
    broken = int((~np.isfinite(points)).any(1).sum())
    if broken:
        raise ValueError(
            f"{path}: expected finite points, got NaN or infinity in {broken} of {len(points)}; fetch it again, or "
            "write it without them"
        )
    bright = points[:, 3]
    if len(points) and not 0 <= bright.min() <= bright.max() <= brightest:
        raise ValueError(
            f"{path}: expected {layout}'s {held}, got intensities {bright.min():g} to {bright.max():g}; is it of "
            "another kind?"
        )
    return points


def _lidar_to_camera(labels: Path, path: Path) -> np.ndarray:
    """float64 (4,4), from the LiDAR's frame to that of the rectified camera."""
    if not path.is_file():
        raise ValueError(
            f"{path}: expected the calibration of {labels}, got no such file; without it boxes cannot be taken to the "
            "LiDAR's frame: fetch KITTI's calib, or remove the labels"
        )
    lines = [line.partition(":") for line in path.read_text().splitlines()]
    held = {name.strip(): _numbers(numbers.split()) for name, _, numbers in lines if name.strip()}
    rectify, move = np.eye(4), np.eye(4)
    for matrix, name, rows, columns in ((rectify, "R0_rect", 3, 3), (move, "Tr_velo_to_cam", 3, 4)):
        numbers = held.get(name, [])
        if len(numbers) == rows * columns:
            matrix[:rows, :columns] = np.reshape(numbers, (rows, columns))
        turns = np.isfinite(matrix).all() and abs(np.linalg.det(matrix[:3, :3]) - 1) < 0.01
        if len(numbers) != rows * columns or not turns:
            raise ValueError(
                f"{path}: expected a line {name!r} of {rows * columns} finite numbers with a rotation, got "
                f"{len(numbers)} numbers; fetch KITTI's calib of the object benchmark again"
            )
    return rectify @ move


def _numbers(words: list[str]) -> list[float]:
    """Of words that are numbers; of others none, which no reader takes."""
    try:
        return [float(word) for word in words]
    except ValueError:
        return []
