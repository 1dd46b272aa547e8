from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from worldjepa.config import LoopSettings
from worldjepa.datasets import textures
from worldjepa.datasets.textures import GAP, PICTURES, crop_places, load_textures, read_pictures
from worldjepa.pretraining import build_samples_system, open_samples

CONFIGS = Path(__file__).parents[2] / "configs"


def places_as_pixels(height: int, width: int) -> np.ndarray:
    """A picture whose red is the row, green the column and blue 7."""
    rows, columns = np.indices((height, width))
    return np.stack([rows, columns, np.full_like(rows, 7)], -1).astype(np.uint8)


@pytest.mark.parametrize("size", [(40, 200), (220, 50)])
def test_training_and_held_out_crops_share_no_pixel_and_are_a_gap_apart(monkeypatch, size):
    monkeypatch.setattr(textures, "read_pictures", lambda channels: {"any": places_as_pixels(*size)})
    parts = load_textures(0, 2000, 1000, image_size=13, crop_size=13, held_out=0.3)
    used = []
    for part in parts:
        pixels = part.observation["pixels"]
        rows, columns, blue = pixels.unbind(1)
        assert (blue == 7).all() and torch.equal(rows[:, 1:], rows[:, :-1] + 1), "crops stand upright"
        assert torch.equal(columns[..., 1:], columns[..., :-1] + 1)
        used.append([set(axis.flatten().tolist()) for axis in (rows, columns)])
    longer = int(size[1] > size[0])
    train, held_out = (part[longer] for part in used)
    assert len(held_out) == round(0.3 * max(size)) and min(held_out) + max(held_out) == max(size) - 1
    assert min(train) == 0 and max(train) == max(size) - 1 and len(train) + len(held_out) == max(size) - 2 * GAP
    assert min(abs(x - y) for x in train for y in held_out) == GAP + 1
    assert all(part[1 - longer] == set(range(min(size))) for part in used), "along the shorter side all is used"


def test_every_picture_has_places_for_both_parts():
    pictures = read_pictures(1)
    assert list(pictures) == list(PICTURES) and all(x.dtype == np.uint8 and x.shape[2] == 1 for x in pictures.values())
    for name, picture in pictures.items():
        train, held_out = crop_places(name, picture.shape[:2], 64, 0.25)
        assert len(train[0]) * len(train[1]) > 5000 and len(held_out[0]) * len(held_out[1]) > 3000


def test_crops_are_of_the_pictures_they_are_named_after():
    train, held_out = load_textures(0, 26, 15, image_size=32, crop_size=32)
    assert train.names == tuple(PICTURES) and held_out.names == train.names
    assert train.observation["pixels"].shape == (26, 3, 32, 32) and len(held_out) == 15
    assert train.observation["pixels"].dtype == torch.uint8 and train.labels.dtype == torch.int64
    assert train.labels.tolist() == [*range(13)] * 2
    pictures = list(read_pictures(3).values())
    for pixels, label in zip(train.observation["pixels"].numpy(), train.labels, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(pictures[label][..., 0], (32, 32))
        tops, lefts = np.nonzero((windows[:, :, 0, 0] == pixels[0, 0, 0]) & (windows[:, :, 17, 5] == pixels[0, 17, 5]))
        found = [pictures[label][top : top + 32, left : left + 32] for top, left in zip(tops, lefts, strict=True)]
        assert any((crop == pixels.transpose(1, 2, 0)).all() for crop in found)


def test_a_crop_depends_on_the_seed_and_its_part_alone():
    few, many, other = (load_textures(seed, n, n) for seed, n in ((0, 13), (0, 20), (1, 13)))
    pixels = [[part.observation["pixels"][:13] for part in parts] for parts in (few, many, other)]
    for part in (0, 1):
        assert torch.equal(pixels[0][part], pixels[1][part]) and not torch.equal(pixels[0][part], pixels[2][part])
    assert not torch.equal(*pixels[0])


def test_what_is_made_smaller_is_averaged(monkeypatch):
    board = (255 * (np.indices((60, 200)).sum(0) % 2)).astype(np.uint8)[..., None]
    monkeypatch.setattr(textures, "read_pictures", lambda channels: {"board": board})
    train, _ = load_textures(0, 3, 3, image_size=8, channels=1, crop_size=32)
    pixels = train.observation["pixels"]
    assert pixels.shape == (3, 1, 8, 8) and (pixels.float() - 127.5).abs().max() < 16


def test_grey_crops_have_the_colours_luminance():
    grey, colour = (load_textures(3, 13, 1, channels=n)[0].observation["pixels"].float() for n in (1, 3))
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    assert torch.allclose((colour * weights).sum(1), grey[:, 0], atol=2)
    plain = list(PICTURES).index("brick")
    assert torch.equal(colour[plain], grey[plain].expand(3, -1, -1))


def test_what_cannot_be_is_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"channels must be 1 or 3, got 2"):
        load_textures(0, 1, 1, channels=2)
    with pytest.raises(ValueError, match=r"crop_size must be a whole number >= 1, got 0"):
        load_textures(0, 1, 1, crop_size=0)
    with pytest.raises(ValueError, match=r"held_out must be between 0 and 1, got 1"):
        load_textures(0, 1, 1, held_out=1)
    with pytest.raises(ValueError, match=r"page: 191 x 384 px hold no crops of crop_size \(128\) px beside"):
        crop_places("page", (191, 384), 128, 0.25)
    monkeypatch.setitem(PICTURES, "moon", "none.png")
    with pytest.raises(ValueError, match=r"none\.png: expected a picture of scikit-image's wheel, got none"):
        load_textures(0, 1, 1)


@pytest.mark.parametrize("name", ["i_jepa", "dseq_jepa", "sparse_jepa", "lejepa_crops"])
@pytest.mark.parametrize("channels", [1, 3])
def test_models_of_pictures_take_them(name, channels):
    ConfigStore.instance().store("base_pretrain", {"train": LoopSettings})
    words = ["data.source.num_train=13", "data.source.num_held_out=13", f"data.channels={channels}"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("pretrain", [f"model={name}", "data=textures", *words])
    samples, _ = open_samples(config)
    system = build_samples_system(config, samples).eval()
    tokens = system.model.tokenizer(samples.observation)
    assert (~tokens.pinned).sum() == 64 and samples.observation["pixels"].shape == (13, channels, 32, 32)
    assert torch.isfinite(system.model.features(samples.observation)).all()
