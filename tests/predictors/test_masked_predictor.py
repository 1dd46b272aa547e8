import torch

from worldjepa.predictors.masked import MaskedPredictor
from worldjepa.types import TokenSet

B, K, M, Q, D = 2, 7, 3, 5, 13


def inputs():
    torch.manual_seed(0)
    valid = torch.ones(B, K, dtype=torch.bool)
    valid[1, 4:] = False
    context = TokenSet(torch.randn(B, K, D), torch.rand(B, K, 2) * 6, valid, torch.zeros(K, dtype=torch.bool))
    asked = torch.ones(B, M, Q, dtype=torch.bool)
    asked[0, 2, 3:] = False
    return context, torch.rand(B, M, Q, 2) * 6, asked


def predictor() -> MaskedPredictor:
    return MaskedPredictor(D, width=12, depth=2, heads=3)


def test_padding_in_context_and_targets_is_ignored():
    model, (context, coords, asked) = predictor(), inputs()
    before = model(context, coords, asked)
    assert before.shape == (B, M, Q, D)
    context.values[~context.valid] = 50.0
    coords[~asked] = 50.0
    after = model(context, coords, asked)
    assert torch.equal(before[asked], after[asked])


def test_each_target_set_is_predicted_apart():
    model, (context, coords, asked) = predictor(), inputs()
    before = model(context, coords, asked)
    alone = model(context, coords[:, 1:2], asked[:, 1:2])
    assert torch.allclose(before[:, 1:2], alone, atol=1e-5)


def test_prediction_depends_on_the_context_and_on_the_place():
    model, (context, coords, asked) = predictor(), inputs()
    before = model(context, coords, asked)
    assert not torch.allclose(before[0, 0, 0], before[0, 0, 1], atol=1e-3)
    context.values[0] += 1.0
    after = model(context, coords, asked)
    assert not torch.allclose(before[0], after[0], atol=1e-3) and torch.equal(before[1], after[1])
