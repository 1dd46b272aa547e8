import cv2
import numpy as np
import pytest
import torch

from worldjepa.datasets.images import load_digits, load_image_folder


def test_digits_are_split_without_overlap_and_by_class():
    train, held_out = load_digits(seed=3)
    assert (len(train), len(held_out)) == (1347, 450)
    assert (
        train.observation["pixels"].dtype == torch.uint8
        and train.observation["pixels"].shape[1:] == (1, 8, 8)
        and train.observation["pixels"].max() == 255
    )
    assert torch.bincount(held_out.labels).tolist() == pytest.approx([45] * 10, abs=3)
    seen = {tuple(row) for row in train.observation["pixels"].flatten(1).tolist()}
    assert not any(tuple(row) in seen for row in held_out.observation["pixels"].flatten(1).tolist())


def test_the_seed_makes_the_split():
    first, again, other = (load_digits(seed)[1].observation["pixels"] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_share_outside_0_1_is_refused():
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        load_digits(0, held_out=1.5)


def write_pictures(folder, count: int = 4):
    for name, colour in (("red", (0, 0, 255)), ("blue", (255, 0, 0))):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture = np.full((40, 60, 3), colour, np.uint8)
            picture[:, :10] = 255  # beside the middle square
            cv2.imwrite(str(folder / name / f"{number}.png"), picture)


def test_a_folder_of_pictures_keeps_its_colours_and_classes(tmp_path):
    write_pictures(tmp_path)
    train, held_out = load_image_folder(0, tmp_path, image_size=16, held_out=0.25)
    assert train.names == ("blue", "red") and (len(train), len(held_out)) == (6, 2)
    for pixels, label in zip(train.observation["pixels"], train.labels, strict=True):
        assert pixels.shape == (3, 16, 16)
        assert pixels.flatten(1).unique(dim=1).flatten().tolist() == ([255, 0, 0] if label == 1 else [0, 0, 255])
    grey, _ = load_image_folder(0, tmp_path, image_size=16, channels=1)
    assert grey.observation["pixels"].shape[1:] == (1, 16, 16)


def test_folders_that_hold_no_pictures_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one sub-folder of pictures per class"):
        load_image_folder(0, tmp_path / "nothing")
    write_pictures(tmp_path)
    (tmp_path / "red" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png: expected a picture"):
        load_image_folder(0, tmp_path)
