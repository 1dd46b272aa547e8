import pytest
import torch
from torch.nn.functional import conv1d

from worldjepa.encoders.wave_convolutions import WaveConvolutions


def test_a_second_at_128_hz_becomes_one_vector_of_64():
    contents = torch.randn(2, 3, 128, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    embedding = WaveConvolutions(128)
    latent = embedding(contents)
    assert latent.shape == (2, 3, 64)
    assert 0.1 < latent.std() < 10, "of the size of coordinates, whose sines have 0.7"
    assert (
        sum(p.numel() for p in embedding.parameters()) == 8 * 32 + 16 * 8 * 2 + 32 * 16 * 2 + 64 * 32 * 2 + 64 * 64 * 2
    )


def test_windows_do_not_look_at_each_other_and_every_sample_counts():
    embedding = WaveConvolutions(12, [(3, 5, 2), (4, 3, 3), (6, 2, 2)])
    contents = torch.randn(1, 2, 12, requires_grad=True)
    latent = embedding(contents)
    assert latent.shape == (1, 2, 6)
    latent[0, 1].sum().backward()
    assert (contents.grad[0, 0] == 0).all() and (contents.grad[0, 1] != 0).all()


def test_within_a_window_the_first_layer_is_a_plain_convolution():
    embedding = WaveConvolutions(16, [(3, 6, 4), (5, 4, 4)])
    x = torch.randn(1, 1, 16)
    pad, convolution = embedding.layers[:2]
    plain = conv1d(x[..., 3:], convolution.weight, stride=4)  # one zero in front: output 1 begins at sample 3
    assert torch.allclose(convolution(pad(x))[..., 1:3], plain[..., :2], atol=1e-6)


def test_layers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one vector of 128 samples, got windows of 100"):
        WaveConvolutions(100)
    with pytest.raises(ValueError, match="kernel >= stride"):
        WaveConvolutions(4, [(8, 2, 4)])
    with pytest.raises(ValueError, match="at least one"):
        WaveConvolutions(1, [])
