import pytest
import torch

from worldjepa.layers import (
    Attention,
    Block,
    CrossBlock,
    LearnedCoordinates,
    SinCosCoordinates,
    Transformer,
    block_causal_mask,
    padding_mask,
    sincos_embedding,
)

B, T, P, D, C = 2, 3, 11, 12, 4


def test_block_causal_mask_opens_own_and_earlier_steps():
    mask = block_causal_mask(T, 2)
    assert mask.tolist() == [
        [True, True, False, False, False, False],
        [True, True, False, False, False, False],
        [True, True, True, True, False, False],
        [True, True, True, True, False, False],
        [True, True, True, True, True, True],
        [True, True, True, True, True, True],
    ]


def test_a_step_never_sees_later_steps():
    torch.manual_seed(0)
    model = Transformer(D, depth=2, heads=3, condition_dim=C).eval()
    for parameter in model.parameters():  # AdaLN-zero starts as the identity, which would make this vacuous
        torch.nn.init.normal_(parameter, std=0.3)
    x, condition, mask = torch.randn(B, T * P, D), torch.randn(B, T * P, C), block_causal_mask(T, P)
    before = model(x, condition, mask)
    start = 2 * P
    x[:, start:] += 1.0
    condition[:, start:] += 1.0
    after = model(x, condition, mask)
    assert torch.equal(before[:, :start], after[:, :start])
    assert not torch.allclose(before[:, start:], after[:, start:])


def test_additive_mask_equals_boolean_mask():
    torch.manual_seed(0)
    attention, x, allowed = Attention(D, heads=3), torch.randn(B, 5, D), block_causal_mask(5)
    additive = torch.zeros(5, 5).masked_fill(~allowed, float("-inf"))
    assert torch.allclose(attention(x, allowed), attention(x, additive), atol=1e-6)


def test_padding_does_not_change_the_valid_tokens():
    torch.manual_seed(0)
    model, x = Transformer(D, depth=2, heads=3), torch.randn(B, 5, D)
    padded = torch.cat([x, torch.full((B, 2, D), 7.0)], dim=1)
    valid = torch.tensor([True] * 5 + [False] * 2).expand(B, -1)
    assert torch.allclose(model(padded, mask=padding_mask(valid))[:, :5], model(x), atol=1e-5)


@pytest.mark.parametrize("shape", [(B, C), (B, 5, C)])
def test_adaln_zero_block_is_the_identity_at_initialisation(shape):
    torch.manual_seed(0)
    x = torch.randn(B, 5, D)
    assert torch.equal(Block(D, heads=3, condition_dim=C)(x, torch.randn(shape)), x)


def test_one_condition_for_the_sequence_equals_it_repeated_per_token():
    torch.manual_seed(0)
    block, x, condition = Block(D, heads=3, condition_dim=C), torch.randn(B, 5, D), torch.randn(B, C)
    torch.nn.init.normal_(block.modulation[1].weight)
    assert torch.allclose(block(x, condition), block(x, condition[:, None].expand(-1, 5, -1)), atol=1e-6)


def test_condition_must_match_the_construction():
    x = torch.randn(B, 5, D)
    with pytest.raises(ValueError, match="condition_dim"):
        Block(D, heads=3)(x, torch.randn(B, C))
    with pytest.raises(ValueError, match="needs a condition"):
        Block(D, heads=3, condition_dim=C)(x)


def test_width_must_divide_by_heads_unless_head_dim_is_given():
    with pytest.raises(ValueError, match="multiple of heads"):
        Attention(13, heads=4)
    assert Attention(13, heads=4, head_dim=7)(torch.randn(B, 5, 13)).shape == (B, 5, 13)


def test_bfloat16_autocast_stays_close_to_float32():
    torch.manual_seed(0)
    model, x = Transformer(D, depth=2, heads=3, condition_dim=C), torch.randn(B, 6, D)
    condition = torch.randn(B, 6, C)
    for block in model.blocks:
        torch.nn.init.normal_(block.modulation[1].weight, std=0.1)
    additive = torch.zeros(6, 6).masked_fill(~block_causal_mask(6), float("-inf"))
    expected = model(x, condition, additive)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (model(x, condition, additive).float() - expected).abs().max() < 0.1


def test_sincos_formula_and_leftover_columns():
    row, column = 2.0, 5.0
    embedded = sincos_embedding(torch.tensor([row, column]), width=10)  # 2 frequencies per coordinate: 1 and 1/100
    expected = []
    for x in (row, column):
        angles = torch.tensor([x, x / 100])
        expected += [*angles.sin().tolist(), *angles.cos().tolist()]
    assert torch.allclose(embedded, torch.tensor([*expected, 0.0, 0.0]), atol=1e-6)


def test_sincos_tells_places_apart_and_refuses_too_narrow_a_width():
    grid = torch.cartesian_prod(torch.arange(4.0), torch.arange(5.0))
    distances = torch.cdist(SinCosCoordinates(16)(grid), SinCosCoordinates(16)(grid))
    assert distances[~torch.eye(20, dtype=torch.bool)].min() > 0.1
    with pytest.raises(ValueError, match="2 per coordinate"):
        sincos_embedding(grid, width=3)


@pytest.mark.parametrize("hidden", [None, 6])
def test_learned_coordinates_have_the_width_asked_for(hidden):
    assert LearnedCoordinates(3, 13, hidden)(torch.randn(P, 3)).shape == (P, 13)


def test_attention_to_a_context_equal_to_itself_is_self_attention():
    torch.manual_seed(0)
    attention, x = Attention(D, 3).eval(), torch.randn(B, P, D)
    torch.testing.assert_close(attention(x, context=x), attention(x))


def test_a_cross_block_reads_its_context():
    torch.manual_seed(0)
    block, x, context = CrossBlock(D, 3).eval(), torch.randn(B, P, D), torch.randn(B, 5, D)
    assert block(x, context).shape == x.shape
    assert not torch.allclose(block(x, context), block(x, context + 1))
    order = torch.randperm(5)
    torch.testing.assert_close(block(x, context[:, order]), block(x, context))  # a context is a set


@pytest.mark.parametrize("additive", [False, True])
def test_attention_weights_are_what_the_output_is_made_with(additive):
    torch.manual_seed(0)
    attention, x, context = Attention(D, heads=3), torch.randn(B, 5, D), torch.randn(B, P, D)
    allowed = torch.rand(B, 5, P) < 0.7
    allowed[..., 0] = True
    mask = torch.zeros(B, 5, P).masked_fill(~allowed, -torch.inf) if additive else allowed
    weights = attention.weights(x, mask, context)
    assert weights.shape == (B, 3, 5, P) and torch.allclose(weights.sum(-1), torch.ones(B, 3, 5))
    assert (weights.transpose(0, 1)[:, ~allowed] == 0).all()
    values = torch.nn.functional.linear(context, attention.qkv.weight[-D:], attention.qkv.bias[-D:])
    made = (weights @ values.view(B, P, 3, D // 3).transpose(1, 2)).transpose(1, 2).flatten(2)
    assert torch.allclose(attention.out(made), attention(x, mask, context), atol=1e-5)
    assert torch.allclose(attention.weights(x), attention.weights(x, context=x), atol=1e-6)
