import pytest
import torch

from worldjepa.tokenizers.image_text import ImageTextTokenizer

B, SIZE, PATCH, NUM_WORDS, MAX_WORDS = 2, 6, 2, 5, 4
PATCHES, PATCH_DIM = 9, 12


def observation() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (B, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    return {"pixels": pixels, "caption": torch.tensor([[2, 4, 1, 0], [3, 3, 0, 0]])}


def tokenizer() -> ImageTextTokenizer:
    return ImageTextTokenizer(SIZE, PATCH, NUM_WORDS, MAX_WORDS)


def test_patches_and_words_have_contents_and_coordinates_of_their_own():
    whole, given = tokenizer(), observation()
    tokens = whole(given)
    assert tokens.values.shape == (B, PATCHES + MAX_WORDS, whole.token_dim) and whole.token_dim == PATCH_DIM + 4
    assert torch.equal(tokens.values[:, :PATCHES, :PATCH_DIM], whole.image(given).values)
    assert (tokens.values[:, :PATCHES, PATCH_DIM:] == 0).all() and (tokens.values[:, PATCHES:, :PATCH_DIM] == 0).all()
    words = tokens.values[:, PATCHES:, PATCH_DIM:]
    assert (words.argmax(-1) + 1)[tokens.valid[:, PATCHES:]].tolist() == [2, 4, 1, 3, 3]
    assert torch.equal(words.square().mean(-1), (given["caption"] > 0).float()), "of mean square 1; padding is empty"
    assert tokens.valid.sum(1).tolist() == [PATCHES + 3, PATCHES + 2] and not tokens.pinned.any()
    assert tokens.coords[5].tolist() == [0, 1, 2] and tokens.coords[PATCHES + 2].tolist() == [1, 2, 0]


def test_a_token_depends_on_its_own_part_alone():
    changed = observation()
    changed["pixels"][:, :, :2, :2] = 255 - changed["pixels"][:, :, :2, :2] // 2
    changed["caption"][:, 1] = 1
    differs = (tokenizer()(observation()).values != tokenizer()(changed).values).any(-1).any(0)
    assert differs.nonzero()[:, 0].tolist() == [0, PATCHES + 1]


def test_statistics_are_the_pixels():
    whole, given = tokenizer(), observation()
    whole.fit(given)
    values = whole(given).values[:, :PATCHES, :PATCH_DIM]
    assert abs(float(values.mean())) < 1e-4 and float(values.std()) == pytest.approx(1.0, abs=1e-3)
    assert "image.mean" in whole.state_dict()


def test_captions_of_another_kind_are_refused():
    for wrong in (torch.zeros(B, 3, dtype=torch.int64), torch.zeros(B, MAX_WORDS)):
        with pytest.raises(ValueError, match=r"caption must be int64 \(B, 4\)"):
            tokenizer()({**observation(), "caption": wrong})
    with pytest.raises(ValueError, match=r"words must be 0 to 4, got 0 to 5; set num_words"):
        tokenizer()({**observation(), "caption": observation()["caption"] + 1 * (observation()["caption"] > 3)})
    with pytest.raises(ValueError, match="num_words must be >= 2"):
        ImageTextTokenizer(SIZE, PATCH, 1, MAX_WORDS)
