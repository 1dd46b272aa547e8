import pytest
import torch

from worldjepa.encoders.resnet import ResNetEncoder


@pytest.mark.parametrize(("size", "dim", "cells"), [(32, 512, 4), (64, 7, 2)])
def test_one_latent_per_frame_and_small_pictures_keep_their_cells(size, dim, cells):
    torch.manual_seed(0)
    encoder = ResNetEncoder(size, dim).eval()
    maps = []
    encoder.trunk.layer4.register_forward_hook(lambda module, inputs, output: maps.append(output.shape[-1]))
    pixels = torch.randint(0, 256, (2, 3, 3, size, size), dtype=torch.uint8)
    latent = encoder({"pixels": pixels})
    assert latent.shape == (2, 3, 1, dim) and maps == [cells]
    alone = encoder({"pixels": pixels[1:, 2:]})
    torch.testing.assert_close(latent[1, 2], alone[0, 0], atol=1e-5, rtol=1e-4)
