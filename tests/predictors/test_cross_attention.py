import torch
from torch import nn

from worldjepa.predictors.cross_attention import CrossAttentionPredictor
from worldjepa.types import TokenSet

B, K, M, Q, C, D = 2, 7, 3, 5, 3, 13


def inputs():
    torch.manual_seed(0)
    valid = torch.ones(B, K, dtype=torch.bool)
    valid[1, 4:] = False
    context = TokenSet(torch.randn(B, K, D), torch.rand(B, K, C) * 6, valid, torch.zeros(K, dtype=torch.bool))
    asked = torch.ones(B, M, Q, dtype=torch.bool)
    asked[0, 2, 3:] = False
    return context, torch.rand(B, M, Q, C) * 6, asked


def predictor(depth: int = 2, out_dim: int | None = None) -> CrossAttentionPredictor:
    return CrossAttentionPredictor(D, width=12, depth=depth, heads=3, out_dim=out_dim)


def test_padding_in_context_and_targets_is_ignored():
    model, (context, coords, asked) = predictor(), inputs()
    before = model(context, coords, asked)
    assert before.shape == (B, M, Q, D)
    context.values[~context.valid] = 50.0
    context.coords[~context.valid] = 50.0
    coords[~asked] = 50.0
    after = model(context, coords, asked)
    assert torch.equal(before[asked], after[asked])


def test_each_target_set_is_predicted_apart_from_its_own_sample():
    model, (context, coords, asked) = predictor(), inputs()
    before = model(context, coords, asked)
    alone = model(context, coords[:, 1:2], asked[:, 1:2])
    assert torch.allclose(before[:, 1:2], alone, atol=1e-5)
    context.values[0] += 1.0
    after = model(context, coords, asked)
    assert not torch.allclose(before[0], after[0], atol=1e-3) and torch.equal(before[1], after[1])


def test_tokens_of_one_target_see_each_other_and_places_matter():
    model, (context, coords, asked) = predictor(), inputs()
    before = model(context, coords, asked)
    assert not torch.allclose(before[0, 0, 0], before[0, 0, 1], atol=1e-3)
    coords[0, 0, 4] += 1.0
    after = model(context, coords, asked)
    assert not torch.allclose(before[0, 0, 0], after[0, 0, 0], atol=1e-5)
    assert torch.equal(before[0, 1:], after[0, 1:])


def test_every_layer_is_given_the_context_as_it_came():
    model, (context, coords, asked) = predictor(depth=3), inputs()
    given = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, values, __: given.append(values[1]))
    model(context, coords, asked)
    assert len(given) == 3 and all(torch.equal(given[0], seen) for seen in given[1:])
    for block in model.blocks[:2]:  # the last layer alone still reads it
        nn.init.zeros_(block.cross.out[0].weight)
    before = model(context, coords, asked)
    context.values[0] += 1.0
    assert not torch.allclose(model(context, coords, asked)[0], before[0], atol=1e-3)


def test_the_context_is_a_set_and_the_output_may_be_something_else():
    model, (context, coords, asked) = predictor(out_dim=4), inputs()
    order = torch.randperm(K)
    turned = TokenSet(context.values[:, order], context.coords[:, order], context.valid[:, order], context.pinned)
    before = model(context, coords, asked)
    assert before.shape == (B, M, Q, 4)
    torch.testing.assert_close(model(turned, coords, asked)[asked], before[asked])
