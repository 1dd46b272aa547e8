from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate

from worldjepa.config import LoopSettings
from worldjepa.datasets.drawn_screens import END, PAD, START, VOCABULARY, random_screens
from worldjepa.datasets.samples import Samples
from worldjepa.encoders.vit import Vit
from worldjepa.evaluation.intents import IntentDecoder, encode_tokens, measure_intents, sentence_scores, train_decoder
from worldjepa.systems.masked import TokenModel
from worldjepa.tokenizers.video import VideoTokenizer

B, K, D, L, WORDS = 7, 5, 11, 4, 13


def decoder() -> IntentDecoder:
    torch.manual_seed(0)
    return IntentDecoder(D, WORDS, L, width=16).eval()


def test_a_word_depends_on_those_before_it_and_on_the_latents():
    model, latents, valid = decoder(), torch.randn(B, K, D), torch.ones(B, K, dtype=torch.bool)
    words = torch.randint(3, WORDS, (B, L))
    changed = words.clone()
    changed[:, 2] = 3 + (changed[:, 2] - 2) % (WORDS - 3)
    with torch.no_grad():
        before, after = model(latents, valid, words), model(latents, valid, changed)
        assert torch.equal(before[:, :2], after[:, :2])
        assert not torch.allclose(before[:, 2:], after[:, 2:], atol=1e-4)
        assert not torch.allclose(before[:, 0], model(latents + 1, valid, words)[:, 0], atol=1e-4)


def test_padding_of_the_latents_has_no_part_in_a_sentence():
    model, latents, valid = decoder(), torch.randn(B, K, D), torch.ones(B, K, dtype=torch.bool)
    valid[:, 3:] = False
    words = torch.randint(3, WORDS, (B, L))
    changed = latents.clone()
    changed[:, 3:] = 100.0
    with torch.no_grad():
        assert torch.equal(model(latents, valid, words), model(changed, valid, words))
        assert torch.allclose(model(latents, valid, words), model(latents[:, :3], valid[:, :3], words), atol=1e-5)


def test_naming_is_greedy_word_by_word_and_ends_once():
    model, latents, valid = decoder(), torch.randn(200, K, D), torch.ones(200, K, dtype=torch.bool)
    with torch.no_grad():
        model.leave[1].bias[END] += 1.0  # so that some sentences end early
        named = model.name(latents, valid)
        given = torch.cat([torch.full((200, 1), START), named[:, :-1]], 1)
        greedy = model(latents, valid, given).argmax(-1)
    ended = ((named == END).cumsum(1) - (named == END).int()) > 0
    assert named.shape == (200, L) and ended.any() and not ended.all()
    assert (named[ended] == PAD).all() and torch.equal(named[~ended], greedy[~ended])


def test_a_decoder_learns_to_name_what_latents_say():
    """Two slots, each said by another token of the latents, in sentences of different lengths."""
    generator = torch.Generator().manual_seed(0)
    verbs, things = torch.randint(0, 4, (600,), generator=generator), torch.randint(0, 5, (600,), generator=generator)
    codes = torch.randn(9, D, generator=generator)
    latents = torch.stack([codes[verbs], codes[4 + things], torch.randn(600, D, generator=generator)], 1)
    sentences = torch.stack([3 + verbs, 7 + things, torch.full((600,), END), torch.full((600,), PAD)], 1)
    short = verbs == 0  # a verb without a thing
    sentences[short] = torch.tensor([3, END, PAD, PAD])
    valid = torch.ones(600, 3, dtype=torch.bool)
    settings = {"width": 16, "depth": 1, "steps": 120, "batch_size": 64, "learning_rate": 1e-2}
    trained = train_decoder(latents[:500], valid[:500], sentences[:500], 12, seed=0, **settings)
    exact, words = sentence_scores(trained.name(latents[500:], valid[500:]), sentences[500:])
    assert exact > 0.95 and words > 0.97


def test_scores_count_whole_sentences_and_words_in_their_places():
    wanted = torch.tensor([[5, 6, END, PAD], [5, END, PAD, PAD]])
    named = torch.tensor([[5, 7, END, PAD], [5, END, PAD, PAD]])
    assert sentence_scores(named, wanted) == (0.5, pytest.approx(4 / 5))
    assert sentence_scores(torch.tensor([[5, 6, END, 4]]), wanted[:1])[0] == 0.0, "what follows the end counts"


def make_model() -> TokenModel:
    tokenizer = VideoTokenizer(8, 64, 1, patch_size=32, tubelet_size=4)
    torch.manual_seed(1)
    return TokenModel(tokenizer, Vit(tokenizer.token_dim, 16, 1, 2))


def test_latents_are_of_single_tokens_and_the_measure_leaves_the_model_as_it_is():
    parts = [random_screens(24, seed, num_frames=8) for seed in (0, 1)]
    train, held_out = (Samples(observation, labels) for observation, labels in parts)
    model = make_model()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    latents, valid = encode_tokens(model, train.observation)
    with torch.no_grad():
        alone = model.encoder(model.tokenizer({"video": train.observation["video"][3:4]})).values
    assert latents.shape == (24, 8, 16) and valid.all() and torch.allclose(latents[3:4], alone, atol=1e-5)

    found = measure_intents(model, make_model(), train, held_out, seed=0, width=16, depth=1, steps=3, batch_size=4)
    again = measure_intents(model, make_model(), train, held_out, seed=0, width=16, depth=1, steps=3, batch_size=4)
    assert found == again and all(0 <= value <= 1 for value in found.values())
    assert set(found) == {f"{who}intent_{what}" for who in ("", "random_", "commonest_") for what in ("exact", "words")}
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_the_commonest_sentence_is_always_named():
    observation, labels = random_screens(8, 0, num_frames=8)
    sentence = observation["intent"][0]
    observation["intent"][:5] = sentence
    found = measure_intents(
        make_model(), make_model(), *2 * (Samples(observation, labels),), seed=0, width=8, depth=1, steps=1
    )
    assert found["commonest_intent_exact"] == pytest.approx(
        float((observation["intent"] == sentence).all(1).float().mean())
    )
    assert found["commonest_intent_words"] >= found["commonest_intent_exact"] and len(VOCABULARY) == 40


def test_samples_without_sentences_are_refused():
    observation, labels = random_screens(2, 0, num_frames=8)
    silent = Samples({"video": observation["video"]}, labels)
    with pytest.raises(ValueError, match="sentences 'intent', got video; take data=drawn_screens"):
        measure_intents(make_model(), make_model(), silent, silent, seed=0)


def test_the_configuration_of_ui_jepa_measures_intents():
    ConfigStore.instance().store("base_pretrain", {"train": LoopSettings})
    with initialize_config_dir(str(Path(__file__).parents[2] / "configs"), version_base="1.3"):
        config = compose("pretrain", ["model=ui_jepa", "measures.intents.steps=1", "measures.intents.width=8"])
    observation, labels = random_screens(8, 0, num_frames=8)
    measure = instantiate(config.measures)["intents"]
    assert "intent_exact" in measure(make_model(), make_model(), *2 * (Samples(observation, labels),), config.seed)
