import pytest
import torch

from worldjepa.encoders.convnet import ConvEncoder
from worldjepa.encoders.glimpse import GlimpseEncoder
from worldjepa.encoders.proprioceptive import ProprioceptiveEncoder

B, T = 2, 3


def observation(num_inputs=5):
    return {
        "pixels": torch.randint(0, 256, (B, T, 3, 32, 32), dtype=torch.uint8),
        "proprioception": torch.randn(B, T, num_inputs) * 100,
    }


def test_what_is_seen_is_kept_and_what_is_felt_is_added():
    for pixels in (ConvEncoder(32, 7, widths=(8, 8, 8)), GlimpseEncoder(32, 4, what_dim=3, as_tokens=True)):
        encoder, obs = ProprioceptiveEncoder(pixels, 5, dim=2).eval(), observation()
        latent = encoder(obs)
        assert latent.shape == (B, T, pixels.num_tokens, pixels.latent_dim + 2)
        assert torch.equal(latent[..., :-2], pixels(obs))
        moved = {**obs, "proprioception": obs["proprioception"] + 50}
        assert torch.equal(encoder(moved)[..., :-2], latent[..., :-2])
        assert not torch.allclose(encoder(moved)[..., -2:], latent[..., -2:])


def test_missing_or_wrong_proprioception_is_refused():
    encoder = ProprioceptiveEncoder(ConvEncoder(32, 7, widths=(8, 8, 8)), 5)
    with pytest.raises(ValueError, match=r"observations=\[pixels,proprioception\]"):
        encoder({"pixels": observation()["pixels"]})
    with pytest.raises(ValueError, match="expected 5 numbers, got 2"):
        encoder(observation(2))
