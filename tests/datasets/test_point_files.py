import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from worldjepa.datasets.point_files import (
    PointFolder,
    load_cloud,
    read_kitti_cloud,
    read_kitti_labels,
    read_nuscenes_cloud,
)
from worldjepa.voxels import KITTI, bev_occupied, points_in_boxes, voxelize

AXES = np.array([[0.0, -1.0, 0.0, 0.1], [0.0, 0.0, -1.0, -0.08], [1.0, 0.0, 0.0, -0.3]])
"""Of a camera that looks ahead: its x is the LiDAR's -y, its y -z, its z x, all but for a shift."""


def write_cloud(path: Path, points) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.asarray(points, "<f4").tobytes())
    return path


def write_text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_calibration(path: Path, move: np.ndarray = AXES, rectify: np.ndarray = np.eye(3)) -> Path:
    listed = {"P0": np.zeros(12), "R0_rect": rectify, "Tr_velo_to_cam": move, "Tr_imu_to_velo": np.zeros(12)}
    return write_text(path, *(f"{name}: {' '.join(map(repr, np.ravel(m).tolist()))}" for name, m in listed.items()), "")


def label(name: str, x, y, z, length, height, width, rotation) -> str:
    return f"{name} 0.00 0 -1.5 10 20 30 40 {height} {width} {length} {x} {y} {z} {rotation}"


def turn(axis: int, angle: float) -> np.ndarray:
    """A rotation about one axis by ``angle``, rad."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    out = np.eye(3)
    out[first, first] = out[second, second] = math.cos(angle)
    out[second, first] = math.sin(angle)
    out[first, second] = -math.sin(angle)
    return out


def corners_of_devkit(x, y, z, length, height, width, rotation) -> np.ndarray:
    """(3,8) in the camera's frame, as KITTI's computeBox3D.m has them."""
    turned = np.array(
        [[math.cos(rotation), 0, math.sin(rotation)], [0, 1, 0], [-math.sin(rotation), 0, math.cos(rotation)]]
    )
    ahead = np.array([1, 1, -1, -1, 1, 1, -1, -1]) * length / 2
    down = np.array([0, 0, 0, 0, -1, -1, -1, -1]) * height
    aside = np.array([1, -1, -1, 1, 1, -1, -1, 1]) * width / 2
    return turned @ np.stack([ahead, down, aside]) + np.array([[x], [y], [z]])


def corners(box: np.ndarray) -> np.ndarray:
    """(8,3) of x, y, z, length, width, height, yaw."""
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T
    return signs * box[3:6] / 2 @ turn(2, box[6]).T + box[:3]


@pytest.mark.filterwarnings("error")  # torch's, that the cloud's memory may not be written
def test_a_kitti_cloud_is_read_as_it_was_written(tmp_path):
    points = np.random.default_rng(0).random((7, 4), np.float32)
    for read in (read_kitti_cloud, load_cloud):
        cloud = read(write_cloud(tmp_path / "a.bin", points))
        assert cloud.dtype == torch.float32 and cloud.tolist() == points.tolist()


def test_a_nuscenes_sweep_is_turned_so_that_x_is_ahead(tmp_path):
    # its x points right and its y ahead
    sweep = [[0, 10, 1, 255, 3], [2, 0, -1, 0, 31], [-4, -5, 0, 51, 7]]
    for read in (read_nuscenes_cloud, load_cloud):
        cloud = read(write_cloud(tmp_path / "a.pcd.bin", sweep))
        assert cloud.dtype == torch.float32 and cloud.is_contiguous()
        torch.testing.assert_close(cloud, torch.tensor([[10.0, 0, 1, 1], [0, -2, -1, 0], [-5, 4, 0, 0.2]]))


@pytest.mark.parametrize("name", ["a.bin", "a.pcd.bin"])
def test_a_file_of_zero_bytes_is_an_empty_cloud(tmp_path, name):
    cloud = load_cloud(write_cloud(tmp_path / name, []))
    assert cloud.shape == (0, 4) and cloud.dtype == torch.float32
    assert len(voxelize([cloud], KITTI)) == 0


@pytest.mark.parametrize(("name", "columns"), [("a.bin", 4), ("a.pcd.bin", 5)])
def test_damaged_clouds_are_refused(tmp_path, name, columns):
    points = np.full((7, columns), 0.5, np.float32)
    path = write_cloud(tmp_path / name, points)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=rf"{name}: expected .*points of {4 * columns} bytes.*got {28 * columns - 4}"):
        load_cloud(path)
    points[2, 0], points[2, 3], points[5, 1] = np.nan, np.inf, -np.inf
    with pytest.raises(ValueError, match=rf"{name}: .*NaN or infinity in 2 of 7; fetch it again"):
        load_cloud(write_cloud(path, points))
    points[:] = -1
    with pytest.raises(ValueError, match="got intensities -1 to -1"):
        load_cloud(write_cloud(path, points))


def test_a_cloud_of_another_kind_is_refused(tmp_path):
    # as many numbers as five KITTI points have
    path = write_cloud(tmp_path / "a.bin", np.tile([1.0, 2.0, 3.0, 40.0, 5.0], (4, 1)))
    with pytest.raises(ValueError, match=r"reflectance 0\.\.1 .*end in \.pcd\.bin.*got intensities 1 to 40"):
        load_cloud(path)
    with pytest.raises(ValueError, match=r"expected a cloud \.bin .*got \.ply"):
        load_cloud(tmp_path / "a.ply")
    with pytest.raises(FileNotFoundError):
        load_cloud(tmp_path / "none.bin")


def test_boxes_come_from_the_camera_to_the_lidar(tmp_path):
    labels = write_text(
        tmp_path / "label.txt",
        label("Car", 2.0, 1.7, 10.0, 4.0, 1.5, 1.8, -math.pi / 2),  # to the right, points ahead
        label("DontCare", -1000, -1000, -1000, -1, -1, -1, -10),
        label("Cyclist", -3.0, 1.6, 20.0, 1.7, 1.6, 0.6, 0.0) + " 0.93",  # points to the right, with a score
    )
    boxes, names = read_kitti_labels(labels, write_calibration(tmp_path / "calib.txt"))
    assert names == ["Car", "Cyclist"] and boxes.dtype == torch.float32
    expected = [
        [10.0 + 0.3, -2.0 + 0.1, -(1.7 - 0.75) - 0.08, 4.0, 1.8, 1.5, 0.0],
        [20.0 + 0.3, 3.0 + 0.1, -(1.6 - 0.8) - 0.08, 1.7, 0.6, 1.6, -math.pi / 2],
    ]
    torch.testing.assert_close(boxes, torch.tensor(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("tilt", "within"), [(0.0, 1e-5), (0.01, 0.06)])
def test_their_corners_are_those_of_the_devkit(tmp_path, tilt, within):
    """Exactly where the camera stands upright as the LiDAR does, and about so where it is tilted, as KITTI's is."""
    rectify = turn(1, 0.03) @ turn(0, tilt)
    calibration = write_calibration(tmp_path / "calib.txt", AXES, rectify)
    for rotation in np.linspace(-3, 3, 7):
        numbers = (4.0, 1.7, 15.0, 4.2, 1.5, 1.8, rotation)
        boxes, _ = read_kitti_labels(write_text(tmp_path / "label.txt", label("Car", *numbers)), calibration)
        camera = np.linalg.inv(rectify) @ corners_of_devkit(*numbers)
        theirs = (AXES[:, :3].T @ (camera - AXES[:, 3:])).T
        gap = np.linalg.norm(corners(boxes[0].double().numpy())[:, None] - theirs, axis=-1)
        assert gap.min(0).max() < within and gap.min(1).max() < within


def test_a_folder_lists_its_frames_in_order(tmp_path):
    for number in (12, 3, 7):
        write_cloud(tmp_path / "training" / "velodyne" / f"{number:06}.bin", [[number, 0, 0, 0.5]])
    write_text(tmp_path / "training" / "label_2" / "000003.txt", label("Car", 0, 1, 9, 4, 1.5, 2, 0))
    write_calibration(tmp_path / "training" / "calib" / "000003.txt")
    write_text(tmp_path / "training" / "label_2" / "000007.txt", label("DontCare", 0, 0, 0, -1, -1, -1, -10))
    write_calibration(tmp_path / "training" / "calib" / "000007.txt")
    for folder in (tmp_path, tmp_path / "training"):
        frames = PointFolder(folder)
        assert len(frames) == 3 and [path.stem for path in frames.paths] == ["000003", "000007", "000012"]
        assert [frames.cloud(index)[0, 0].item() for index in range(3)] == [3, 7, 12]
        boxes, names = frames.boxes(0)
        assert boxes.shape == (1, 7) and names == ["Car"]
        boxes, names = frames.boxes(1)  # there is nothing, which is not the same as nobody having looked
        assert boxes.shape == (0, 7) and names == []
        assert frames.boxes(2) is None
    with pytest.raises(IndexError):
        frames.cloud(3)


def test_a_folder_of_sweeps_has_no_boxes(tmp_path):
    write_cloud(tmp_path / "b.pcd.bin", [[1, 2, 3, 51, 0]])
    write_cloud(tmp_path / "a.pcd.bin", [])
    frames = PointFolder(tmp_path)
    assert [len(frames.cloud(index)) for index in range(2)] == [0, 1] and frames.boxes(0) is None


def test_folders_without_clouds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a folder with clouds, got none"):
        PointFolder(tmp_path / "none")
    with pytest.raises(ValueError, match="got nothing"):
        PointFolder(tmp_path)
    (tmp_path / "samples").mkdir()
    with pytest.raises(ValueError, match=r"velodyne/\*\.bin.*got samples; of nuScenes give samples/LIDAR_TOP"):
        PointFolder(tmp_path)


def test_labels_need_their_calibration(tmp_path):
    write_cloud(tmp_path / "velodyne" / "000003.bin", [])
    write_text(tmp_path / "label_2" / "000003.txt", label("Car", 0, 1, 9, 4, 1.5, 2, 0))
    frames, path = PointFolder(tmp_path), tmp_path / "calib" / "000003.txt"
    with pytest.raises(ValueError, match=r"calib/000003\.txt: expected the calibration of .*got no such file.*fetch"):
        frames.boxes(0)
    write_text(path, "R0_rect: 1 0 0 0 1 0 0 0 1", "Tr_velo_to_cam: 1 2 3")
    with pytest.raises(ValueError, match=r"000003\.txt: expected a line 'Tr_velo_to_cam' of 12 .* got 3 numbers"):
        frames.boxes(0)
    write_calibration(path, rectify=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="'R0_rect' of 9 finite numbers with a rotation"):
        frames.boxes(0)
    write_calibration(path, np.where(np.arange(4) == 3, np.nan, AXES))
    with pytest.raises(ValueError, match="'Tr_velo_to_cam' of 12 finite"):
        frames.boxes(0)


@pytest.mark.parametrize(
    "line",
    [
        "Car 0.00 0 -1.5 10 20 30 40 1.5",
        label("Car", 0, 1, 9, 4, 1.5, 2, "nan"),
        label("Car", 0, 1, 9, 4, 1.5, 2, "left"),
        label("Car", 0, 1, 9, -4, 1.5, 2, 0),
    ],
)
def test_damaged_labels_are_refused(tmp_path, line):
    path = write_text(tmp_path / "label.txt", "", label("Car", 0, 1, 9, 4, 1.5, 2, 0), line)
    with pytest.raises(ValueError, match=r"label\.txt, line 3: expected a class, 14 or 15 finite numbers.*got 'Car"):
        read_kitti_labels(path, write_calibration(tmp_path / "calib.txt"))


def test_points_of_a_made_frame_lie_in_its_boxes(tmp_path):
    """Generated stand-in for the real frame: a plain and things on it, labelled through the camera."""
    rng = np.random.default_rng(0)
    plain = np.column_stack([rng.uniform(5, 60, 500), rng.uniform(-20, 20, 500), np.full(500, -1.7), rng.random(500)])
    clouds, lines, counts = [plain], [], (211, 97, 31)
    for count, x, y, yaw in zip(counts, (10, 25, 40), (-4, 6, 0), (0.3, -2.0, 3.0), strict=True):
        inside = rng.uniform(-0.5, 0.5, (count, 3)) * (3.9, 1.5, 1.4) @ turn(2, yaw).T + (x, y, -0.95)
        clouds.append(np.column_stack([inside, rng.random(count)]))
        camera = AXES @ (x, y, -0.95, 1)
        lines.append(label("Car", camera[0], camera[1] + 0.75, camera[2], 4.0, 1.5, 1.6, -yaw - math.pi / 2))
    write_cloud(tmp_path / "velodyne" / "000001.bin", np.concatenate(clouds))
    write_text(tmp_path / "label_2" / "000001.txt", *lines)
    write_calibration(tmp_path / "calib" / "000001.txt")
    frames = PointFolder(tmp_path)
    boxes, _ = frames.boxes(0)
    assert points_in_boxes(frames.cloud(0), boxes).sum(0).tolist() == list(counts)
    assert ((boxes[:, 6] >= -math.pi) & (boxes[:, 6] <= math.pi)).all()


def test_the_real_frame_when_at_hand(tmp_path):
    folder = Path(os.environ.get("WORLDJEPA_DATA") or Path(__file__).parents[3] / "shared" / "data") / "lidar"
    if not (folder / "kitti_000008.bin").is_file():
        pytest.skip(f"no real LiDAR frame: {folder} is missing; set WORLDJEPA_DATA to a folder that holds lidar/")
    told = json.loads((folder / "kitti_000008.json").read_text())
    write_cloud(tmp_path / "velodyne" / "000008.bin", np.fromfile(folder / "kitti_000008.bin", "<f4"))
    lines = (label(thing["class"], *thing["bbox_3d"]) for thing in told["objects"])
    write_text(tmp_path / "label_2" / "000008.txt", *lines)
    write_calibration(tmp_path / "calib" / "000008.txt", np.array(told["lidar2cam"])[:3])
    frames = PointFolder(tmp_path)
    cloud, (boxes, names) = frames.cloud(0), frames.boxes(0)
    counts = [thing["num_points"] for thing in told["objects"] if thing["class"] != "DontCare"]
    found = points_in_boxes(cloud, boxes).sum(0)
    assert names == ["Car"] * 6 and boxes.shape == (6, 7)
    # mmdet3d, which counted them, moves the floor's middle and raises it in the LiDAR's frame; we move the centre
    np.testing.assert_allclose(found, counts, rtol=0.1, atol=2)
    voxels = voxelize([cloud], KITTI)
    assert voxels.num_points.sum() > 0.9 * len(cloud) and bev_occupied(voxels, 8).float().mean() < 0.1
