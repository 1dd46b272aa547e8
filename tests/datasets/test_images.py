import pytest
import torch

from worldjepa.datasets.images import load_digits


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
