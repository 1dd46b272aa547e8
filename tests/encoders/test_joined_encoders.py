import pytest
import torch

from worldjepa.encoders.convnet import ConvEncoder
from worldjepa.encoders.glimpse import GlimpseEncoder
from worldjepa.encoders.joined import FeltEncoder, JoinedEncoder
from worldjepa.encoders.token_encoder import TokenEncoder
from worldjepa.encoders.vit import Vit
from worldjepa.tokenizers.signals import EegTokenizer
from worldjepa.tokenizers.spectrogram import SpectrogramTokenizer

B, T = 2, 3


def observation(num_inputs=5):
    return {
        "pixels": torch.randint(0, 256, (B, T, 3, 32, 32), dtype=torch.uint8),
        "proprioception": torch.randn(B, T, num_inputs) * 100,
    }


def eyes() -> ConvEncoder:
    return ConvEncoder(32, 7, widths=(8, 8, 8))


def test_what_is_seen_is_kept_and_what_is_felt_is_added():
    for seen in (eyes(), GlimpseEncoder(32, 4, what_dim=3, as_tokens=True)):
        encoder, obs = JoinedEncoder(seen, FeltEncoder(5, latent_dim=2)).eval(), observation()
        latent = encoder(obs)
        assert encoder.latent_dim == seen.latent_dim + 2
        assert latent.shape == (B, T, seen.num_tokens, encoder.latent_dim)
        assert torch.equal(latent[..., :-2], seen(obs))
        moved = {**obs, "proprioception": obs["proprioception"] + 50}
        assert torch.equal(encoder(moved)[..., :-2], latent[..., :-2])
        assert not torch.allclose(encoder(moved)[..., -2:], latent[..., -2:])


def sounds() -> tuple[torch.nn.Module, dict[str, torch.Tensor], str]:
    tokenizer = SpectrogramTokenizer(8000, num_mels=16, patch=4)
    heard = {"wave": torch.randn(B, T, 2400), "length": torch.full((B, T), 2400)}
    return tokenizer, heard, "wave"


def brain_waves() -> tuple[torch.nn.Module, dict[str, torch.Tensor], str]:
    return EegTokenizer([[0, 0, 1], [0, 1, 0], [1, 0, 0]], 20), {"eeg": torch.randn(B, T, 3, 60)}, "eeg"


@pytest.mark.parametrize("made", [sounds, brain_waves])
def test_a_static_models_encoder_hears_beside_what_is_seen(made):
    torch.manual_seed(0)
    tokenizer, heard, name = made()
    beside = TokenEncoder(tokenizer, Vit(tokenizer.token_dim, 12, 1, 2), 6)
    encoder, obs = JoinedEncoder(eyes(), beside).eval(), {**observation(), **heard}
    assert (encoder.takes, encoder.also) == ("pixels", tuple(heard))
    latent = encoder(obs)
    assert latent.shape == (B, T, 1, 7 + 6)
    louder = {**obs, name: heard[name].clone()}
    louder[name][1, 2] *= 3
    changed = (encoder(louder) - latent).abs().amax(2) > 1e-6
    assert changed[..., 7:].any(-1).tolist() == [[False] * T, [False, False, True]] and not changed[..., :7].any()
    with pytest.raises(ValueError, match=f"needs {name}, got .*pixels"):
        encoder({x: obs[x] for x in obs if x != name})


def test_missing_or_wrong_observations_are_refused():
    encoder = JoinedEncoder(eyes(), FeltEncoder(5))
    with pytest.raises(ValueError, match=r"observations=\[pixels,proprioception\]"):
        encoder({"pixels": observation()["pixels"]})
    with pytest.raises(ValueError, match="expected 5 numbers, got 2"):
        encoder(observation(2))
    with pytest.raises(ValueError, match="one token, got 4"):
        JoinedEncoder(eyes(), GlimpseEncoder(32, 4, what_dim=3, as_tokens=True))
