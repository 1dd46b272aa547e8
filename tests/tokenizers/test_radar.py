import pytest
import torch

from worldjepa.tokenizers.radar import RadarTokenizer


def amplitude(batch: int = 3, size: int = 6) -> torch.Tensor:
    return torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(0)) + 0.2


def test_tokens_are_patches_of_the_logarithm():
    tokens = RadarTokenizer(6, 2)({"amplitude": amplitude()})
    assert tokens.values.shape == (3, 9, 4) and tokens.coords[5].tolist() == [1.0, 2.0] and tokens.valid.all()
    assert torch.allclose(tokens.values[:, 5], amplitude()[:, 0, 2:4, 4:6].flatten(1).log())


def test_a_gain_is_an_offset():
    tokenizer = RadarTokenizer(6, 3, std=0.5)
    difference = tokenizer({"amplitude": 4 * amplitude()}).values - tokenizer({"amplitude": amplitude()}).values
    assert torch.allclose(difference, torch.tensor(4.0).log() / 0.5, atol=1e-5)


def test_fit_brings_logarithms_to_mean_zero_and_variance_one():
    tokenizer = RadarTokenizer(6, 2)
    tokenizer.fit({"amplitude": amplitude()})
    values = tokenizer({"amplitude": amplitude()}).values
    assert abs(values.mean()) < 1e-5 and abs(values.std() - 1) < 1e-4


def test_refusals_say_what_was_expected():
    dark = amplitude()
    dark[0, 0, 0, 0] = 0
    with pytest.raises(ValueError, match=r"amplitude must be > 0, got 0\.0"):
        RadarTokenizer(6, 2).fit({"amplitude": dark})
    for wrong in (amplitude(size=8), amplitude().double(), amplitude()[:, 0]):
        with pytest.raises(ValueError, match=r"float32 \(B, 1, 6, 6\)"):
            RadarTokenizer(6, 2)({"amplitude": wrong})
