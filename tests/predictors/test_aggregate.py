"""The aggregate is of a set of views and the actions between them; the next action is for the prediction alone."""

import pytest
import torch

from worldjepa.predictors.aggregate import AggregatePredictor

B, T, D, A, WIDTH = 2, 5, 13, 4, 7


def build(**changes):
    torch.manual_seed(0)
    predictor = AggregatePredictor(D, A, action_width=WIDTH, depth=2, heads=4, hidden=17, **changes)
    for parameter in predictor.parameters():  # biases that start at zero would hide much
        torch.nn.init.normal_(parameter, std=0.3)
    return predictor.eval(), torch.randn(B, T, 1, D), torch.randn(B, T, A)


def test_prediction_is_the_head_of_the_aggregate_and_the_next_action():
    predictor, latent, action = build()
    for seen in (1, 2, 3):
        aggregate = predictor.aggregate(latent[:, :seen], action[:, : seen - 1])
        embedded = predictor.action_embedding(action[:, seen - 1])
        expected = predictor.head(torch.cat([aggregate, embedded], -1))
        torch.testing.assert_close(predictor(latent, action)[:, seen - 1, 0], expected)


def test_a_residual_prediction_starts_from_the_last_view():
    plain, latent, action = build()
    residual, _, _ = build(residual=True)
    torch.testing.assert_close(residual(latent, action), latent + plain(latent, action))


def test_the_aggregate_does_not_know_the_next_action():
    predictor, latent, action = build()
    tokens = []
    predictor.transformer.register_forward_pre_hook(lambda module, inputs: tokens.append(inputs[0]))
    predictor(latent[:, :3], action[:, :3])
    windows = tokens[0].unflatten(0, (B, 3))  # (B,3,1+3,D+WIDTH): AGG and three views
    assert (windows[:, :, -1, D:] == 0).all() and (windows[:, -1, 1:-1, D:] != 0).all()


def test_views_have_no_order_but_by_their_actions():
    predictor, latent, action = build(acts=False)
    turned = latent[:, [2, 0, 3, 1, 4]]
    torch.testing.assert_close(predictor.aggregate(latent, action[:, :4]), predictor.aggregate(turned, action[:, :4]))
    acting, latent, action = build()
    swapped = action[:, [1, 0, 2, 3]]
    assert not torch.allclose(acting.aggregate(latent, action[:, :4]), acting.aggregate(latent, swapped))


def test_statistics_of_actions_leave_padding_out():
    predictor, latent, action = build(num_history=3)
    predictor.train()
    predictor(latent, 5 + action)
    linear, norm = predictor.action_embedding
    seen = linear(5 + action).flatten(0, 1)
    torch.testing.assert_close(norm.running_mean, norm.momentum * seen.mean(0))
    predictor.rollout(latent[:, :1], action[:, :0], action[:, None])  # a history of one frame has no past action


def test_any_number_of_views_can_be_aggregated():
    predictor, latent, action = build(num_history=2)
    found = [predictor.aggregate(latent[:, :n], action[:, : n - 1]) for n in (1, 2, 5)]
    assert {x.shape for x in found} == {(B, D + WIDTH)}
    assert not torch.allclose(found[1], found[2])


def test_the_ablation_never_looks_at_actions():
    predictor, latent, action = build(acts=False)
    torch.testing.assert_close(predictor(latent, action), predictor(latent, 2 - action))
    assert not [name for name, _ in predictor.named_parameters() if "action" in name]


def test_several_tokens_are_refused():
    with pytest.raises(ValueError, match="one token per view, got num_tokens = 3"):
        AggregatePredictor(D, A, num_tokens=3)
