from functools import partial

import pytest
import torch

from worldjepa.encoders.feature_map import ConvTokens, ResNetTokens


@pytest.mark.parametrize(
    ("make", "cells"),
    [(partial(ConvTokens, 32, 8, (4, 8)), 8), (partial(ResNetTokens, 160, 8), 5)],
    ids=["conv", "resnet"],
)
def test_one_token_per_cell_in_reading_order(make, cells):
    """What changes in one corner of a picture changes that corner's token more than the other corners'."""
    torch.manual_seed(0)
    encoder = make()
    size, generator = encoder.normalizer.image_size, torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (4, 3, 3, size, size), generator=generator, dtype=torch.uint8)
    encoder.eval()
    with torch.no_grad():
        tokens = encoder({"pixels": pixels})
        assert tokens.shape == (4, 3, cells * cells, 8) and encoder.num_tokens == cells * cells
        changed = pixels.clone()
        changed[..., -size // cells :, : size // cells] = 255 - changed[..., -size // cells :, : size // cells]
        difference = (encoder({"pixels": changed}) - tokens).abs().mean((0, 1, 3))
    last = cells - 1
    corners = {tuple(place.tolist()): float(d) for place, d in zip(encoder.coords, difference, strict=True)}
    others = [corners[0, 0], corners[0, last], corners[last, last]]
    assert corners[last, 0] > max(others)


def test_a_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="divisible by 16"):
        ConvTokens(100)
