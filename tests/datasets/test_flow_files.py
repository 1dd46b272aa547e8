import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from worldjepa.datasets.flow_files import (
    LAYOUTS,
    find_flow_pairs,
    read_flo,
    read_kitti_flow,
    write_flo,
    write_kitti_flow,
)

HEIGHT, WIDTH = 7, 11


@pytest.fixture
def flow():
    return np.random.default_rng(0).normal(0, 30, (HEIGHT, WIDTH, 2)).astype(np.float32)


@pytest.fixture
def known():
    return np.random.default_rng(1).random((HEIGHT, WIDTH)) < 0.7


def write_picture(path: Path, value: int = 0, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    """A picture that is (value, 100, 200) in red, green and blue."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*size, 3), (200, 100, value), np.uint8))
    return path


def write_mask(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), 255 * mask.astype(np.uint8))


def in_folder(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_flo_is_kept_bit_for_bit(tmp_path, flow):
    write_flo(tmp_path / "a.flo", flow)
    content = (tmp_path / "a.flo").read_bytes()
    assert content[:4] == b"PIEH" and content[4:12] == bytes([WIDTH, 0, 0, 0, HEIGHT, 0, 0, 0])
    assert np.frombuffer(content, "<f4", 2, 12).tolist() == flow[0, 0].tolist()  # x first
    back, valid = read_flo(tmp_path / "a.flo")
    assert back.dtype == np.float32 and back.tobytes() == flow.tobytes() and valid.all()
    assert [path.name for path in tmp_path.iterdir()] == ["a.flo"]


def test_flo_marks_what_is_unknown(tmp_path, flow, known):
    spoilt = flow.copy()
    spoilt[~known] = np.nan
    write_flo(tmp_path / "a.flo", spoilt, known)
    back, valid = read_flo(tmp_path / "a.flo")
    np.testing.assert_array_equal(valid, known)
    np.testing.assert_array_equal(back, np.where(known[..., None], flow, 0))
    # what Middlebury's own files hold, and NaN; one bad number is enough
    content = bytearray((tmp_path / "a.flo").read_bytes())
    content[12:] = np.where(known[..., None], flow, [1.0, 1666666752.0]).astype("<f4").tobytes()
    (tmp_path / "b.flo").write_bytes(content)
    np.testing.assert_array_equal(read_flo(tmp_path / "b.flo")[1], known)
    content[12:] = np.where(known[..., None], flow, [np.nan, 1.0]).astype("<f4").tobytes()
    (tmp_path / "c.flo").write_bytes(content)
    np.testing.assert_array_equal(read_flo(tmp_path / "c.flo")[1], known)
    with pytest.raises(ValueError, match="mark them not valid"):
        write_flo(tmp_path / "d.flo", spoilt)


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (lambda content: content[:-1], "expected 628 bytes for 11 x 7 px, got 627"),
        (lambda content: content + b"0", "expected 628 bytes for 11 x 7 px, got 629"),
        (lambda content: content[:7], "got 7 bytes, less than its header"),
        (lambda content: content[3::-1] + content[4:], "begins with 202021.25"),
    ],
)
def test_damaged_flo_is_refused(tmp_path, flow, spoil, sentence):
    write_flo(tmp_path / "a.flo", flow)
    (tmp_path / "a.flo").write_bytes(spoil((tmp_path / "a.flo").read_bytes()))
    with pytest.raises(ValueError, match=sentence) as error:
        read_flo(tmp_path / "a.flo")
    assert "a.flo" in str(error.value)


def test_kitti_keeps_half_a_step(tmp_path, flow, known):
    write_kitti_flow(tmp_path / "a.png", np.where(known[..., None], flow, np.nan), known)
    back, valid = read_kitti_flow(tmp_path / "a.png")
    np.testing.assert_array_equal(valid, known)
    assert np.abs(back - flow)[known].max() <= 1 / 128 and (back[~known] == 0).all() and back.dtype == np.float32


def test_kitti_is_red_x_green_y_blue_valid(tmp_path):
    """Read by PIL's rule of channels rather than ours: PNG's bytes are red, green, blue, each high byte first."""
    write_kitti_flow(tmp_path / "a.png", np.array([[[1.0, -2.5]]]))
    import struct
    import zlib

    content = (tmp_path / "a.png").read_bytes()
    start = content.index(b"IDAT")
    line = zlib.decompress(content[start + 4 : start + 4 + struct.unpack(">I", content[start - 4 : start])[0]])
    assert line[0] in (0, 1, 2, 3, 4)  # its filter, which changes nothing in a single pixel
    assert struct.unpack(">HHH", line[1:]) == (2**15 + 64, 2**15 - 160, 1)


def test_kitti_ends_at_its_range(tmp_path):
    ends = np.array([[[-512.0, 65535 / 64 - 512]]])
    write_kitti_flow(tmp_path / "a.png", ends)
    np.testing.assert_array_equal(read_kitti_flow(tmp_path / "a.png")[0], ends)
    for beyond in (-512.1, 512.0, np.nan):
        with pytest.raises(ValueError, match=r"-512 to 511\.98 px"):
            write_kitti_flow(tmp_path / "b.png", np.full((1, 1, 2), beyond))


def test_kitti_refuses_other_pictures(tmp_path, flow):
    write_picture(tmp_path / "picture.png")
    with pytest.raises(ValueError, match=r"16-bit png of 3 channels.* got uint8"):
        read_kitti_flow(tmp_path / "picture.png")
    cv2.imwrite(str(tmp_path / "disparity.png"), np.zeros((HEIGHT, WIDTH), np.uint16))
    with pytest.raises(ValueError, match=r"got uint16 \(7, 11\)"):
        read_kitti_flow(tmp_path / "disparity.png")
    write_kitti_flow(tmp_path / "a.png", flow)
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:-40])
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("cut.png", "empty.png"):
        with pytest.raises(ValueError, match=f"{name}: expected a picture"):
            read_kitti_flow(tmp_path / name)


def test_writers_refuse_what_is_no_flow(tmp_path, flow):
    for write, name in ((write_flo, "a.flo"), (write_kitti_flow, "a.png")):
        with pytest.raises(ValueError, match="channels last"):
            write(tmp_path / name, flow.transpose(2, 0, 1))
        with pytest.raises(ValueError, match="valid of shape"):
            write(tmp_path / name, flow, np.ones((WIDTH, HEIGHT), bool))


def test_sintel(tmp_path, flow, known):
    training = tmp_path / "training"
    for kind, value in (("clean", 10), ("final", 20)):
        for scene in ("alley_1", "cave_2"):
            for number in (1, 2, 3):
                write_picture(training / kind / scene / f"frame_{number:04}.png", value + number)
    for scene in ("alley_1", "cave_2"):
        for number in (1, 2):
            write_flo(in_folder(training / "flow" / scene / f"frame_{number:04}.flo"), flow + number)
            write_mask(training / "occlusions" / scene / f"frame_{number:04}.png", ~known)
    pairs = find_flow_pairs(tmp_path)
    names = [
        f"{kind}/{scene}/frame_000{i}" for kind in ("clean", "final") for scene in ("alley_1", "cave_2") for i in "12"
    ]
    assert [pair.name for pair in pairs] == names and {pair.layout for pair in pairs} == {"Sintel"}
    assert find_flow_pairs(training) == pairs
    sample = pairs[-1].read()
    assert sample.first[0, 0].tolist() == [22, 100, 200] and sample.second[0, 0].tolist() == [23, 100, 200]
    np.testing.assert_array_equal(sample.flow, flow + 2)
    np.testing.assert_array_equal(sample.visible, known)
    assert sample.valid.all() and sample.valid.dtype == bool and sample.first.dtype == np.uint8


def test_sintel_without_truth_and_with_a_gap(tmp_path):
    for number in (1, 2, 3):
        write_picture(tmp_path / "test" / "clean" / "bamboo_3" / f"frame_{number:04}.png", number)
    pairs = find_flow_pairs(tmp_path / "test")
    assert [pair.name for pair in pairs] == ["clean/bamboo_3/frame_0001", "clean/bamboo_3/frame_0002"]
    sample = pairs[0].read()
    assert sample.flow is None and sample.visible is None and sample.valid.shape == (HEIGHT, WIDTH)
    assert not sample.valid.any()
    pairs[1].first.unlink()
    with pytest.raises(ValueError, match=r"frame_0001.png: expected its second picture frame_0002.png"):
        find_flow_pairs(tmp_path / "test")


@pytest.mark.parametrize("images", ["image_2", "colored_0", "image_0"])
def test_kitti(tmp_path, flow, known, images):
    training = tmp_path / "training"
    visible = known & (np.random.default_rng(2).random(known.shape) < 0.5)
    for number in (0, 4):
        for time in (10, 11, 12):
            write_picture(training / images / f"{number:06}_{time}.png", number + time)
        write_kitti_flow(in_folder(training / "flow_occ" / f"{number:06}_10.png"), flow, known)
        write_kitti_flow(in_folder(training / "flow_noc" / f"{number:06}_10.png"), flow, visible)
    pairs = find_flow_pairs(tmp_path)
    assert [(pair.name, pair.layout) for pair in pairs] == [("000000", "KITTI"), ("000004", "KITTI")]
    sample = pairs[1].read()
    assert sample.first[0, 0, 0] == 14 and sample.second[0, 0, 0] == 15
    np.testing.assert_array_equal(sample.valid, known)
    np.testing.assert_array_equal(sample.visible, visible)
    np.testing.assert_allclose(sample.flow[known], flow[known], atol=1 / 128)


def test_kitti_in_grey(tmp_path, flow):
    for time in (10, 11):
        write_mask(tmp_path / "image_0" / f"000000_{time}.png", np.eye(HEIGHT, WIDTH))
    sample = find_flow_pairs(tmp_path)[0].read()
    assert sample.first.shape == (HEIGHT, WIDTH, 3) and (sample.first[3, 3] == 255).all() and sample.flow is None


def test_flying_chairs(tmp_path, flow):
    for number in (1, 2):
        write_picture(tmp_path / "data" / f"{number:05}_img1.ppm", number)
        write_picture(tmp_path / "data" / f"{number:05}_img2.ppm", number + 10)
        write_flo(tmp_path / "data" / f"{number:05}_flow.flo", flow * number)
    pairs = find_flow_pairs(tmp_path)
    assert pairs == find_flow_pairs(tmp_path / "data")
    assert [(pair.name, pair.layout) for pair in pairs] == [("00001", "FlyingChairs"), ("00002", "FlyingChairs")]
    sample = pairs[1].read()
    assert (sample.first[0, 0, 0], sample.second[0, 0, 0], sample.visible) == (2, 12, None)
    np.testing.assert_array_equal(sample.flow, flow * 2)
    pairs[0].second.unlink()
    with pytest.raises(ValueError, match=r"00001_img1.ppm: expected its second picture 00001_img2.ppm"):
        find_flow_pairs(tmp_path)


def test_flying_chairs_occ(tmp_path, flow, known):
    for number in (0, 1):
        write_picture(tmp_path / f"{number:07}-img_0.png", number)
        write_picture(tmp_path / f"{number:07}-img_1.png", number + 10)
    write_flo(tmp_path / "0000001-flow_01.flo", flow)
    write_mask(tmp_path / "0000001-occ_01.png", ~known)
    bare, full = find_flow_pairs(tmp_path)
    assert (bare.flow, bare.hidden, full.name, full.layout) == (None, None, "0000001", "FlyingChairsOcc")
    sample = full.read()
    np.testing.assert_array_equal(sample.flow, flow)
    np.testing.assert_array_equal(sample.visible, known)


def test_middlebury(tmp_path, flow, known):
    for scene in ("Dimetrodon", "Walking"):
        for number in (10, 11):
            write_picture(tmp_path / "other-data" / scene / f"frame{number}.png", number)
    write_flo(in_folder(tmp_path / "other-gt-flow" / "Dimetrodon" / "flow10.flo"), flow, known)
    with_truth, without = find_flow_pairs(tmp_path)
    assert (with_truth.name, without.name, without.flow) == ("Dimetrodon", "Walking", None)
    sample = with_truth.read()
    np.testing.assert_array_equal(sample.valid, known)
    assert with_truth.layout == "Middlebury" and sample.visible is None and sample.second[0, 0, 0] == 11


def test_sizes_must_agree(tmp_path, flow, known):
    write_picture(tmp_path / "1_img1.ppm")
    write_picture(tmp_path / "1_img2.ppm", size=(WIDTH, HEIGHT))
    (pair,) = find_flow_pairs(tmp_path)
    with pytest.raises(ValueError, match=r"1_img2.ppm: expected height and width \(7, 11\) .* got \(11, 7\)"):
        pair.read()
    write_picture(tmp_path / "1_img2.ppm")
    write_flo(tmp_path / "1_flow.flo", flow[1:])
    (pair,) = find_flow_pairs(tmp_path)
    with pytest.raises(ValueError, match=r"1_flow.flo: expected height and width \(7, 11\) .* got \(6, 11\)"):
        pair.read()


def test_unknown_layouts_are_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="expected a folder"):
        find_flow_pairs(tmp_path / "none")
    with pytest.raises(ValueError, match="got nothing"):
        find_flow_pairs(tmp_path)
    write_picture(tmp_path / "training" / "image_2" / "000000.png")  # KITTI's objects, not its flow
    with pytest.raises(ValueError, match="got training") as error:
        find_flow_pairs(tmp_path)
    assert all(f"{name}: {files}" in str(error.value) for name, files in LAYOUTS.items())


def test_real_samples_when_at_hand(tmp_path):
    folder = Path(os.environ.get("WORLDJEPA_DATA") or Path(__file__).parents[3] / "shared" / "data") / "flow"
    if not folder.is_dir():
        pytest.skip(f"no real optical flow: {folder} is missing; set WORLDJEPA_DATA to a folder that holds flow/")
    pairs = find_flow_pairs(folder)
    assert [(pair.name, pair.layout) for pair in pairs] == [("00001", "FlyingChairs"), ("0000000", "FlyingChairsOcc")]
    for pair in pairs:
        sample = pair.read()
        assert sample.first.shape == sample.second.shape == (50, 50, 3) and sample.valid.all()
        write_flo(tmp_path / "copy.flo", sample.flow)
        assert (tmp_path / "copy.flo").read_bytes() == pair.flow.read_bytes()
    chairs, occluded = (pair.read() for pair in pairs)
    assert chairs.visible is None and (~occluded.visible).any()
