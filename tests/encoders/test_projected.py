import pytest
import torch

from worldjepa.encoders.convnet import ConvEncoder
from worldjepa.encoders.glimpse import GlimpseEncoder
from worldjepa.encoders.projected import ProjectedEncoder

B, T = 2, 3


def test_the_loss_sees_the_projection_and_users_what_is_before_it():
    torch.manual_seed(0)
    inner = ConvEncoder(32, 7, widths=(4, 4), hidden=8, stem_stride=4)
    encoder = ProjectedEncoder(inner, latent_dim=11, hidden=5).eval()
    obs = {"pixels": torch.randint(0, 256, (B, T, 3, 32, 32), dtype=torch.uint8)}
    assert torch.equal(encoder.represent(obs), inner(obs))
    expected = encoder.projector(inner(obs).reshape(B * T, 7)).reshape(B, T, 1, 11)
    torch.testing.assert_close(encoder(obs), expected)
    assert (encoder.latent_dim, encoder.representation_dim, encoder.num_tokens) == (11, 7, 1)
    assert encoder.normalizer is inner.normalizer


def test_a_stem_of_stride_four_leaves_a_map_half_as_wide():
    pixels = {"pixels": torch.zeros(1, 1, 3, 32, 32, dtype=torch.uint8)}
    for stride, size in ((2, 8), (4, 4)):
        encoder = ConvEncoder(32, 7, widths=(4, 5), hidden=8, stem_stride=stride).eval()
        assert encoder.trunk(encoder.normalizer(pixels["pixels"])).shape == (1, 5, size, size)
    with pytest.raises(ValueError, match="divisible by 8"):
        ConvEncoder(36, 7, widths=(4, 5), stem_stride=4)


def test_several_tokens_are_refused():
    with pytest.raises(ValueError, match="one token per frame"):
        ProjectedEncoder(GlimpseEncoder(32, 4, as_tokens=True))
