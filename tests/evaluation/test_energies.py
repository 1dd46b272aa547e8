import numpy as np
import pytest
import torch
import torch.nn.functional as F

from worldjepa.datasets.captions import VOCABULARY, load_captions
from worldjepa.datasets.samples import Samples
from worldjepa.encoders.modalities import ModalityVit
from worldjepa.evaluation.energies import measure_energies, measure_without, mismatched, pair_energies
from worldjepa.evaluation.frozen import measure_features
from worldjepa.predictors.masked import MaskedPredictor
from worldjepa.samplers.captioned import Captioned
from worldjepa.samplers.multiblock import MultiBlock
from worldjepa.systems.masked import TokenModel
from worldjepa.tokenizers.image_text import ImageTextTokenizer
from worldjepa.tokens import positions, take

WIDTH, PATCHES, NUM_WORDS = 12, 16, len(VOCABULARY) - 1
SAMPLER = Captioned(MultiBlock(num_targets=2, target_scale=(0.4, 0.6), context_scale=(1.0, 1.0), min_keep=1))


def model() -> TokenModel:
    torch.manual_seed(0)
    tokenizer = ImageTextTokenizer(32, 8, len(VOCABULARY), 28)
    encoder = ModalityVit(tokenizer.token_dim, WIDTH, depth=1, heads=3)
    return TokenModel(tokenizer, encoder, MaskedPredictor(WIDTH, 8, 1, 2))


def test_energy_is_the_error_of_hidden_tokens_over_several_masks():
    whole, (_, held_out) = model(), load_captions(0, 2, 5)
    found = pair_energies(whole, held_out.observation, SAMPLER, num_masks=3, seed=1)
    generator, expected = torch.Generator().manual_seed(1), torch.zeros(5)
    with torch.no_grad():
        tokens = whole.tokenizer(held_out.observation)
        latent = F.layer_norm(whole.encoder(tokens).values, (WIDTH,))
        for _ in range(3):
            masks = SAMPLER(tokens, generator)
            prediction, index, valid = whole.predict(tokens, masks)
            for b in range(5):
                errors = [
                    (prediction[b, m][valid[b, m]] - latent[b, index[b, m][valid[b, m]]]).square().mean(-1)
                    for m in range(2)
                ]
                expected[b] += torch.cat(errors).mean() / 3
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(found, pair_energies(whole, held_out.observation, SAMPLER, num_masks=3, seed=1))
    assert whole.training, "left as it was"


def test_what_only_captions_tell_is_not_read_without_them():
    """Pictures are noise, and a caption says one of two words, again and again."""
    generator, whole = torch.Generator().manual_seed(0), model()
    labels = torch.randint(0, 2, (200,), generator=generator)
    pixels = torch.randint(0, 256, (200, 3, 32, 32), dtype=torch.uint8, generator=generator)
    captions = (5 + labels)[:, None].repeat(1, 28)
    both = Samples({"pixels": pixels, "caption": captions}, labels)
    parts = both[:120], both[120:]
    assert measure_features(whole, *parts)["linear"] > 0.95
    found = measure_without(whole, model(), *parts, seed=0, name="caption")
    assert set(found) == {f"{prefix}probe_without_caption" for prefix in ("", "random_", "raw_")}
    assert all(0.3 < score < 0.7 for score in found.values())


def test_a_model_that_knows_captions_tells_them_apart_and_a_new_one_does_not():
    whole, (train, held_out) = model(), load_captions(0, 2, 60)
    _, first = np.unique(held_out.observation["caption"].numpy(), axis=0, return_index=True)
    held_out = held_out[torch.from_numpy(first)]
    with torch.no_grad():
        latent = F.layer_norm(whole.encoder(whole.tokenizer(held_out.observation)).values, (WIDTH,))
    by_caption = {tuple(words.tolist()): z for words, z in zip(held_out.observation["caption"], latent, strict=True)}

    def predict(tokens, masks):
        """The latents of the picture that a caption belongs to."""
        index, valid = positions(masks.targets)
        captions = torch.where(tokens.valid, tokens.values[..., -NUM_WORDS:].argmax(-1) + 1, 0)[:, PATCHES:]
        return take(torch.stack([by_caption[tuple(words.tolist())] for words in captions]), index), index, valid

    whole.predict = predict
    found = measure_energies(whole, model(), train, held_out, seed=0, sampler=SAMPLER, num_masks=2)
    assert (found["energy_auc"], found["energy_choice"]) == pytest.approx((1.0, 1.0))
    assert found["energy_excess_auc"] > 0.95 and abs(found["random_energy_excess_auc"] - 0.5) < 0.25
    assert abs(found["random_energy_auc"] - 0.5) < 0.15 and abs(found["random_energy_choice"] - 0.5) < 0.35


def test_mismatched_captions_differ_and_are_drawn_by_the_seed():
    captions = torch.tensor([[1, 2], [1, 2], [1, 2], [3, 0], [1, 3]])
    for seed in range(20):
        other = mismatched(captions, seed)
        assert (captions != captions[other]).any(1).all()
        assert torch.equal(other, mismatched(captions, seed))
    assert len({tuple(mismatched(captions, seed).tolist()) for seed in range(20)}) > 3
    with pytest.raises(ValueError, match="captions must differ, got 1 different ones of 4"):
        mismatched(torch.ones(4, 3, dtype=torch.int64), 0)
