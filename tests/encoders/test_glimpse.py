import pytest
import torch

from worldjepa.encoders.convnet import ConvEncoder
from worldjepa.encoders.glimpse import WHERE_SCALE, GlimpseEncoder

B, T, K = 2, 3, 5


def pictures(size=32, dx=0):
    """A dark square on white, ``dx`` pixels right of the middle."""
    pixels = torch.full((B, T, 3, size, size), 255, dtype=torch.uint8)
    pixels[..., size // 2 - 3 : size // 2 + 3, size // 2 - 3 + dx : size // 2 + 3 + dx] = 40
    return pixels


@pytest.mark.parametrize(("image_size", "widths"), [(32, (8, 12)), (64, (8, 12, 16)), (96, (8, 12))])
@pytest.mark.parametrize("as_tokens", [False, True])
def test_shapes_for_any_size_and_number_of_glimpses(image_size, widths, as_tokens):
    encoder = GlimpseEncoder(image_size, K, what_dim=4, window_size=10, trunk_widths=widths, as_tokens=as_tokens)
    latent = encoder({"pixels": torch.randint(0, 256, (B, T, 3, image_size, image_size), dtype=torch.uint8)})
    assert latent.shape == (B, T, encoder.num_tokens, encoder.latent_dim)
    assert (encoder.num_tokens, encoder.latent_dim) == ((K, 6) if as_tokens else (1, K * 6))


def test_tokens_and_the_flat_latent_hold_the_same_numbers():
    torch.manual_seed(0)
    flat = GlimpseEncoder(32, K).eval()
    tokens = GlimpseEncoder(32, K, as_tokens=True).eval()
    tokens.load_state_dict(flat.state_dict())
    obs = {"pixels": torch.randint(0, 256, (B, T, 3, 32, 32), dtype=torch.uint8)}
    assert torch.equal(flat(obs).flatten(2), tokens(obs).flatten(2))


def test_what_is_measured_in_a_frame_that_moves_along():
    """A scene shifted by whole feature-map cells moves the keypoints by as much and leaves the contents alone."""
    torch.manual_seed(0)
    encoder = GlimpseEncoder(64, K, window=0.3, as_tokens=True).eval()
    encoder.normalizer.fit(torch.full((3, 64, 64), 255.0))
    with torch.no_grad():
        encoder.temperature.fill_(1e5)  # the maps' maxima alone: borders weigh nothing
        here, there = encoder({"pixels": pictures(64)}), encoder({"pixels": pictures(64, dx=8)})
    cell = 2 * 4 / 63  # 4 px, in coordinates where the border pixels' centres are +-1
    shift = (there - here)[0, 0, :, 0] / WHERE_SCALE
    moved = shift > cell  # keypoints on the square; those on the blank background stay
    assert moved.any()
    torch.testing.assert_close(shift[moved], torch.full_like(shift[moved], 2 * cell), atol=1e-3, rtol=0)
    torch.testing.assert_close(there[0, 0, moved, 2:], here[0, 0, moved, 2:], atol=1e-3, rtol=0)


def test_gradient_reaches_where_through_what():
    torch.manual_seed(0)
    encoder = GlimpseEncoder(32, K, as_tokens=True)
    contents = encoder({"pixels": torch.randint(0, 256, (B, T, 3, 32, 32), dtype=torch.uint8)})[..., 2:]
    contents.square().sum().backward()
    assert encoder.keypoint_maps[-1].weight.grad.abs().sum() > 0


def test_an_encoding_does_not_depend_on_the_rest_of_the_batch():
    for encoder in (GlimpseEncoder(32, K).eval(), ConvEncoder(32, 7, widths=(8, 8, 8)).eval()):
        obs = torch.randint(0, 256, (B, T, 3, 32, 32), dtype=torch.uint8)
        torch.testing.assert_close(encoder({"pixels": obs})[:1, 1:2], encoder({"pixels": obs[:1, 1:2]}))


def test_refuses_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="trunk_widths"):
        GlimpseEncoder(66)
    with pytest.raises(ValueError, match="window"):
        GlimpseEncoder(64, window=1.5)
    with pytest.raises(ValueError, match="render the environment at the size"):
        GlimpseEncoder(64)({"pixels": torch.zeros(1, 1, 3, 32, 32, dtype=torch.uint8)})
