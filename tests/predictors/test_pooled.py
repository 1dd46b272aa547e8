import pytest
import torch

from worldjepa.predictors.pooled import PooledHypernetwork, PooledIdentity, PooledLinear
from worldjepa.types import TokenSet

B, K, M, Q, D = 3, 6, 2, 4, 8


def context() -> TokenSet:
    generator = torch.Generator().manual_seed(0)
    valid, pinned = torch.ones(B, K, dtype=torch.bool), torch.zeros(K, dtype=torch.bool)
    valid[1, 4:], pinned[0] = False, True
    return TokenSet(torch.randn(B, K, D, generator=generator), torch.zeros(B, K, 2), valid, pinned)


def asked() -> tuple[torch.Tensor, torch.Tensor]:
    places = torch.arange(B * M * Q * 2, dtype=torch.float32).view(B, M, Q, 2)
    return places, torch.ones(B, M, Q, dtype=torch.bool)


def test_the_identity_says_the_mean_of_what_is_visible():
    said = PooledIdentity(D)(context(), *asked())
    values = context().values
    expected = torch.stack([values[0, 1:].mean(0), values[1, 1:4].mean(0), values[2, 1:].mean(0)])
    torch.testing.assert_close(said, expected[:, None, None].expand(B, M, Q, D))
    alone = context()
    alone.pinned[:] = True
    torch.testing.assert_close(PooledIdentity(D)(alone, *asked())[0, 0, 0], values[0].mean(0))


@pytest.mark.parametrize("kind", [PooledLinear, PooledHypernetwork])
def test_what_is_predicted_is_affine_in_what_is_visible_and_depends_on_the_place(kind):
    torch.manual_seed(0)
    predictor, places = kind(D), asked()
    first, second = context(), context()
    second.values = second.values.flip(0).clone()
    second.valid = first.valid
    middle = context()
    middle.values = 0.25 * first.values + 0.75 * second.values
    said = [predictor(one, *places) for one in (first, second, middle)]
    torch.testing.assert_close(said[2], 0.25 * said[0] + 0.75 * said[1])
    assert not torch.allclose(said[0][:, :, 0], said[0][:, :, 1], atol=1e-3)
    hidden = context()
    hidden.values[1, 4:] = 50.0  # padding
    torch.testing.assert_close(predictor(hidden, *places), said[0])
    nothing = [predictor.at(torch.zeros(B, M, Q, D), places[0]), predictor.at(torch.ones(B, M, Q, D), places[0])]
    change = nothing[1] - nothing[0]
    one_map = torch.allclose(change, change[:1, :1, :1].expand_as(change), atol=1e-5)
    assert one_map == (kind is PooledLinear), "a hypernetwork has another map for every place, a linear one the same"
