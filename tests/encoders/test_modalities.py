import pytest
import torch

from worldjepa.encoders.modalities import ModalityVit
from worldjepa.encoders.vit import Vit
from worldjepa.types import TokenSet

B, P, FIRST, D, WIDTH = 2, 11, 7, 13, 12


def tokens(per_sample_coords: bool = False) -> TokenSet:
    torch.manual_seed(0)
    modality = (torch.arange(P) >= FIRST).float()
    coords = torch.cat([modality[:, None], torch.rand(P, 2) * 5], 1)
    valid = torch.ones(B, P, dtype=torch.bool)
    valid[0, 9:] = False
    if per_sample_coords:
        coords = coords.expand(B, -1, -1)
    return TokenSet(torch.randn(B, P, D), coords, valid, torch.zeros(P, dtype=torch.bool))


@pytest.mark.parametrize("per_sample_coords", [False, True])
def test_each_modality_is_encoded_as_if_it_were_alone(per_sample_coords):
    encoder, full = ModalityVit(D, WIDTH, depth=2, heads=3).eval(), tokens(per_sample_coords)
    plain = Vit(D, WIDTH, depth=2, heads=3).eval()
    plain.load_state_dict(encoder.state_dict())
    together = encoder(full).values
    for part in (slice(0, FIRST), slice(FIRST, P)):
        coords = full.coords[..., part, :]
        alone = plain(TokenSet(full.values[:, part], coords, full.valid[:, part], full.pinned[part])).values
        assert torch.allclose(together[:, part][full.valid[:, part]], alone[full.valid[:, part]], atol=1e-5)
    assert not torch.allclose(together, plain(full).values, atol=1e-2), "a plain one mixes them"


def test_a_picture_without_words_is_no_problem_and_a_context_is_encoded_apart_too():
    encoder, full = ModalityVit(D, WIDTH, depth=2, heads=3).eval(), tokens()
    full.valid[1, FIRST:] = False
    assert torch.isfinite(encoder(full).values[full.valid]).all()
    keep = torch.rand(B, P) < 0.6
    keep[:, 0] = True
    before = encoder(full, keep)
    full.values[:, FIRST:] += 1.0
    after = encoder(full, keep)
    picture = (before.coords[..., 0] == 0) & before.valid
    assert torch.equal(before.values[picture], after.values[picture])
