import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from worldjepa.datasets.point_shapes import load_point_folder, read_shape

BOX = np.array([2.0, 1.0, 0.5])  # sides


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def box(path: Path) -> Path:
    trimesh = pytest.importorskip("trimesh")
    path.parent.mkdir(parents=True, exist_ok=True)
    trimesh.creation.box(BOX).export(path)
    return path


def array(path: Path, points) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, points)
    return path


def test_an_array_comes_back_but_for_its_place_size_and_order(tmp_path):
    points = rng().normal(size=(50, 5))
    found = read_shape(array(tmp_path / "a.npy", points), 50, rng())
    centred = points[:, :3] - points[:, :3].mean(0)
    expected = centred / np.linalg.norm(centred, axis=1).max()
    assert found.dtype == np.float32 and found == pytest.approx(expected, abs=1e-6)
    some = read_shape(tmp_path / "a.npy", 20, rng())
    assert some.shape == (20, 3) and np.linalg.norm(some, axis=1).max() == pytest.approx(1)
    assert (read_shape(tmp_path / "a.npy", 20, rng()) == some).all()
    assert (read_shape(tmp_path / "a.npy", 20, rng(1)) != some).any()


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".off"])
def test_a_mesh_is_sampled_by_area(tmp_path, suffix):
    points = read_shape(box(tmp_path / f"a{suffix}"), 6000, rng())
    # back from the unit ball: the longest side is 2
    points = points * 2 / np.ptp(points, axis=0).max()
    points = points - (points.min(0) + points.max(0)) / 2
    assert np.ptp(points, axis=0) == pytest.approx(BOX, abs=0.02)
    on_face = np.abs(np.abs(points) - BOX / 2) < 0.01
    assert on_face.any(1).all(), "every point is on a face"
    areas = BOX.prod() / BOX
    assert on_face.mean(0) == pytest.approx(areas / areas.sum(), abs=0.05)
    again, other = (read_shape(tmp_path / f"a{suffix}", 100, rng(seed)) for seed in (0, 1))
    assert (again == read_shape(tmp_path / f"a{suffix}", 100, rng())).all() and (again != other).any()


def test_bodies_of_one_file_are_one_shape(tmp_path):
    corners = np.array([(x, y, 0) for x in (0, 1) for y in (0, 1)])
    lines = [f"v {x} {y} {z}" for part in (corners, np.add(corners, (9, 0, 0))) for x, y, z in part]
    lines[4:4] = ["o one", "f 1 2 4", "f 1 4 3"]
    path = tmp_path / "two.obj"
    path.write_text("\n".join([*lines, "o two", "f 5 6 8", "f 5 8 7"]))
    pytest.importorskip("trimesh")
    points = read_shape(path, 1000, rng())
    assert (points[:, 0] > 0).mean() == pytest.approx(0.5, abs=0.06)
    assert points[points[:, 0] > 0, 0].mean() == pytest.approx(-points[points[:, 0] < 0, 0].mean(), abs=0.06)


def test_a_ply_of_points_without_faces_is_a_cloud(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    points = rng().normal(size=(30, 3))
    trimesh.PointCloud(points).export(tmp_path / "a.ply")
    found = read_shape(tmp_path / "a.ply", 30, rng())
    centred = points - points.mean(0)
    assert found == pytest.approx(centred / np.linalg.norm(centred, axis=1).max(), abs=1e-5)


def test_a_folder_of_classes_becomes_two_sets_with_names(tmp_path):
    for name, stretch in (("tall", (1, 1, 9)), ("flat", (9, 9, 1))):
        for number in range(5):
            array(tmp_path / name / f"{number}.npy", rng(number).normal(size=(40, 3)) * stretch)
    (tmp_path / "tall" / "notes.txt").write_text("left alone")
    (tmp_path / ".cache").mkdir()
    train, held_out = load_point_folder(3, tmp_path, num_points=32, held_out=0.4)
    assert train.names == ("flat", "tall") and len(train) == 6 and len(held_out) == 4
    assert train.observation["points"].shape == (6, 32, 3) and train.observation["points"].dtype == torch.float32
    for part in (train, held_out):
        assert part.labels.dtype == torch.int64 and part.labels.bincount().tolist() == [len(part) // 2] * 2
        assert part.observation["points"].norm(dim=-1).amax(1) == pytest.approx(1)
        spread = part.observation["points"].std(1)
        assert torch.equal(spread[:, 2] > spread[:, 0], part.labels == 1)
    again, _ = load_point_folder(3, tmp_path, num_points=32, held_out=0.4)
    assert torch.equal(train.observation["points"], again.observation["points"])


def test_broken_files_are_refused_by_name(tmp_path):
    for points, said in (
        (np.zeros((9, 2)), r"a\.npy: expected numbers \(N, 3 or more\), got float64 \(9, 2\)"),
        (np.full((9, 3), np.nan), r"a\.npy: expected finite points"),
        (np.ones((9, 3)), r"a\.npy: expected a shape, got 9 points at one place"),
        (np.eye(3), r"a\.npy: expected >= 9 points, got 3; lower num_points"),
        (np.array([["a"] * 3] * 9), r"a\.npy: expected numbers"),
        (np.array([[None] * 3] * 9), r"a\.npy: cannot be read as a NumPy array"),
    ):
        with pytest.raises(ValueError, match=said):
            read_shape(array(tmp_path / "a.npy", points), 9, rng())
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.npy: cannot be read as a NumPy array"):
        read_shape(tmp_path / "a.npy", 9, rng())


def test_broken_meshes_are_refused_by_name(tmp_path):
    pytest.importorskip("trimesh")
    for name, text in (("a.ply", "ply\nnonsense"), ("a.off", "no OFF"), ("empty.obj", ""), ("a.obj", "v 0 0\nf 1 2 3")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=name):
            read_shape(tmp_path / name, 9, rng())
    (tmp_path / "line.obj").write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3")
    with pytest.raises(ValueError, match=r"line\.obj: expected a mesh with an area"):
        read_shape(tmp_path / "line.obj", 9, rng())


def test_a_mesh_without_trimesh_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    (tmp_path / "a.obj").write_text("v 0 0 0")
    with pytest.raises(ImportError, match=r"a\.obj.*extra `meshes`"):
        read_shape(tmp_path / "a.obj", 9, rng())


def test_folders_that_cannot_be_split_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a folder of classes, got none"):
        load_point_folder(0, tmp_path / "none")
    with pytest.raises(ValueError, match="expected one folder per class, got none"):
        load_point_folder(0, tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match=r"a: expected shapes \(\.npy, .*got none"):
        load_point_folder(0, tmp_path)
    for name in ("a", "b"):
        array(tmp_path / name / "0.npy", rng().normal(size=(9, 3)))
    with pytest.raises(ValueError, match=r"0\.5 of 2 shapes of 2 classes .*give every class at least 2 shapes"):
        load_point_folder(0, tmp_path, num_points=9, held_out=0.5)


def test_real_meshes_become_clouds(tmp_path):
    """Twelve common test models, in two made-up classes."""
    pytest.importorskip("trimesh")
    places = (os.environ.get("WORLDJEPA_DATA"), Path(__file__).parents[3] / "shared" / "data")
    found = [Path(place) / "meshes" for place in places if place and (Path(place) / "meshes").is_dir()]
    if not found:
        pytest.skip("no folder meshes with OBJ files in WORLDJEPA_DATA or ../shared/data")
    for number, path in enumerate(sorted(found[0].glob("*.obj"))[1:7]):
        place = tmp_path / "odd" if number % 2 else tmp_path / "even"
        place.mkdir(exist_ok=True)
        shutil.copy(path, place)
    train, held_out = load_point_folder(0, tmp_path, num_points=256, held_out=0.34)
    points = torch.cat([train.observation["points"], held_out.observation["points"]])
    assert points.shape == (6, 256, 3) and torch.isfinite(points).all()
    assert points.mean(1).abs().max() < 1e-5 and points.norm(dim=-1).amax(1) == pytest.approx(1)
    assert len(points.std(1).unique(dim=0)) == 6


def frame(path: Path, points: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(points.astype("<f4").tobytes())
    return path


def test_places_of_lidar_frames_are_taken_and_intensities_left_out(tmp_path):
    places, bright = rng().normal(size=(40, 3)) * (30, 20, 1), rng(1).uniform(size=(40, 1))
    kitti = frame(tmp_path / "a.bin", np.hstack([places, bright]))
    turned = np.stack([-places[:, 1], places[:, 0], places[:, 2]], 1)  # nuScenes's x points right
    nuscenes = frame(tmp_path / "a.pcd.bin", np.hstack([turned, 255 * bright, np.zeros((40, 1))]))
    as_array = array(tmp_path / "a.npy", places)
    for count in (40, 13):
        found = read_shape(kitti, count, rng())
        assert found.dtype == np.float32 and found.shape == (count, 3)
        assert found == pytest.approx(read_shape(as_array, count, rng()), abs=1e-5)
        assert found == pytest.approx(read_shape(nuscenes, count, rng()), abs=1e-5)


def test_a_folder_holds_lidar_frames_beside_other_shapes(tmp_path):
    for number in range(4):
        points = rng(number).normal(size=(40, 3))
        frame(tmp_path / "wall" / f"{number}.bin", np.hstack([points * (0.1, 9, 9), np.full((40, 1), 0.5)]))
        array(tmp_path / "pole" / f"{number}.npy", points * (0.1, 0.1, 9))
    train, held_out = load_point_folder(0, tmp_path, num_points=32, held_out=0.25)
    assert train.names == ("pole", "wall") and len(train) == 6 and len(held_out) == 2
    for part in (train, held_out):
        spread = part.observation["points"].std(1)
        assert torch.equal(spread[:, 1] > 0.5 * spread[:, 2], part.labels == 1) and (spread[:, 0] < 0.05).all()


def test_broken_lidar_frames_are_refused_by_name(tmp_path):
    points = np.hstack([rng().normal(size=(9, 3)), np.full((9, 1), 0.5)])
    path = frame(tmp_path / "a" / "7.bin", points)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"7\.bin: expected KITTI's points of 16 bytes.* got 139 bytes.* truncated"):
        load_point_folder(0, tmp_path, num_points=5)
    with pytest.raises(ValueError, match=r"7\.bin: expected >= 10 points, got 9"):
        read_shape(frame(path, points), 10, rng())
    with pytest.raises(ValueError, match=r"7\.bin: expected >= 5 points, got 0"):
        read_shape(frame(path, points[:0]), 5, rng())
    with pytest.raises(ValueError, match=r"7\.bin: expected finite points, got NaN or infinity in 9 of 9"):
        read_shape(frame(path, points * np.nan), 5, rng())


def test_a_real_lidar_frame_becomes_clouds(tmp_path):
    """KITTI's: as a whole, and its near and far points in two classes of four clouds."""
    root = os.environ.get("WORLDJEPA_DATA")
    if not root:
        pytest.skip("WORLDJEPA_DATA is not set: set it to a folder with lidar/*.bin of KITTI")
    paths = sorted((Path(root) / "lidar").glob("*.bin"))
    if not paths:
        pytest.skip(f"no KITTI frame: {root} has no lidar/*.bin")
    points = np.fromfile(paths[0], "<f4").reshape(-1, 4)
    assert len(points) > 10_000
    chosen = points[rng().choice(len(points), 1024, replace=False), :3].astype(np.float64)
    chosen -= chosen.mean(0)
    wanted = chosen / np.linalg.norm(chosen, axis=1).max()
    assert read_shape(paths[0], 1024, rng()) == pytest.approx(wanted, abs=1e-5)
    near = np.hypot(points[:, 0], points[:, 1]) < np.median(np.hypot(points[:, 0], points[:, 1]))
    for name, part in (("near", points[near]), ("far", points[~near])):
        for number in range(4):
            frame(tmp_path / name / f"{number}.bin", part[number::4])
    train, held_out = load_point_folder(0, tmp_path, num_points=1024, held_out=0.25)
    clouds = torch.cat([train.observation["points"], held_out.observation["points"]])
    assert clouds.shape == (8, 1024, 3) and clouds.mean(1).abs().max() < 1e-5
    assert clouds.norm(dim=-1).amax(1) == pytest.approx(1)
    assert len(clouds.std(1).unique(dim=0)) == 8
