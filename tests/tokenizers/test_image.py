import pytest
import torch

from worldjepa.tokenizers import ImageTokenizer

B = 2


def pixels(size: int = 6, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (B, channels, size, size), dtype=torch.uint8, generator=generator)


def test_patches_are_at_their_rows_and_columns():
    tokens = ImageTokenizer(6, 2, mean=0.0, std=1 / 255)({"pixels": pixels()})
    assert tokens.values.shape == (B, 9, 12) and tokens.valid.all() and not tokens.pinned.any()
    row, column = tokens.coords[5].long().tolist()
    assert (row, column) == (1, 2)
    patch = pixels()[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten(1)
    assert torch.allclose(tokens.values[:, 5], patch.float(), atol=1e-3)


def test_scaling_of_pixels():
    values = ImageTokenizer(6, 2, mean=0.2, std=0.5)({"pixels": torch.full((B, 3, 6, 6), 51, dtype=torch.uint8)}).values
    assert torch.allclose(values, torch.zeros_like(values), atol=1e-6)


@pytest.mark.parametrize("normalize_patches", [False, True])
def test_a_token_depends_on_its_own_patch_alone(normalize_patches):
    tokenizer = ImageTokenizer(6, 2, normalize_patches=normalize_patches)
    changed = pixels()
    changed[:, :, :2, :2] = 255 - changed[:, :, :2, :2] // 2
    differs = (tokenizer({"pixels": pixels()}).values != tokenizer({"pixels": changed}).values).any(-1).any(0)
    assert differs.tolist() == [True] + [False] * 8


def test_normalized_patches_have_mean_zero_and_variance_one():
    values = ImageTokenizer(6, 3, std=0.01, normalize_patches=True)({"pixels": pixels()}).values
    assert values.mean(-1).abs().max() < 1e-5 and (values.var(-1, correction=0) - 1).abs().max() < 1e-3


def test_pinned_tokens_come_first_and_are_empty():
    tokens = ImageTokenizer(6, 2, num_pinned=2)({"pixels": pixels()})
    assert tokens.pinned.tolist() == [True, True] + [False] * 9
    assert (tokens.values[:, :2] == 0).all() and tokens.coords[:3].tolist() == [[-1, -1], [-1, -1], [0, 0]]


def test_refusals_say_what_was_expected():
    with pytest.raises(ValueError, match=r"multiple of patch_size \(4\), got 6"):
        ImageTokenizer(6, 4)
    for wrong in (pixels(8), pixels(channels=1), pixels().float()):
        with pytest.raises(ValueError, match=r"uint8 \(B, 3, 6, 6\)"):
            ImageTokenizer(6, 2)({"pixels": wrong})
