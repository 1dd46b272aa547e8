import pytest
import torch

from worldjepa.predictors.aggregate import AggregatePredictor
from worldjepa.predictors.causal import CausalPredictor
from worldjepa.predictors.residual_mlp import ResidualMlpPredictor

B, T, N, H, D, A = 2, 6, 5, 3, 13, 4


def build(name: str):
    torch.manual_seed(0)
    if name == "residual_mlp":
        predictor, num_tokens = ResidualMlpPredictor(D, A, width=24, condition_dim=8), 1
    elif name == "aggregate":
        predictor, num_tokens = AggregatePredictor(D, A, action_width=7, depth=2, heads=4, hidden=17), 1
    else:
        num_tokens = 1 if name == "causal" else 3
        predictor = CausalPredictor(D, A, num_tokens, width=24, depth=2, heads=2, num_history=3)
    for parameter in predictor.parameters():  # zero-initialised gates would hide everything
        torch.nn.init.normal_(parameter, std=0.2)
    return predictor.eval(), torch.randn(B, T, num_tokens, D), torch.randn(B, T, A)


NAMES = ("residual_mlp", "causal", "causal_tokens", "aggregate")


@pytest.mark.parametrize("name", NAMES)
def test_the_future_never_leaks_into_predictions(name):
    predictor, latent, action = build(name)
    before = predictor(latent, action)
    changed_latent, changed_action = latent.clone(), action.clone()
    changed_latent[:, 3] += 1
    changed_action[:, 3] += 1
    for after in (predictor(changed_latent, action), predictor(latent, changed_action)):
        assert torch.equal(before[:, :3], after[:, :3])
        assert not torch.allclose(before[:, 3], after[:, 3])


@pytest.mark.parametrize("name", NAMES)
def test_history_ends_where_it_is_said_to(name):
    predictor, latent, action = build(name)
    old = latent.clone()
    old[:, 0] += 1
    seen = (predictor(latent, action) - predictor(old, action)).abs().amax((0, 2, 3)) > 0
    assert seen.tolist() == [t < predictor.num_history for t in range(T)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("past", [1, 2, 3])
def test_rollout_is_forward_fed_with_its_own_predictions(name, past):
    predictor, latent, action = build(name)
    candidates = torch.randn(B, N, H, A)
    rolled = predictor.rollout(latent[:, :past], action[:, : past - 1], candidates)
    for n in range(N):
        frames, actions = latent[:, :past], torch.cat([action[:, : past - 1], candidates[:, n]], 1)
        for h in range(H):
            following = predictor(frames, actions[:, : past + h])[:, -1:]
            torch.testing.assert_close(rolled[:, n, h], following[:, 0], atol=1e-5, rtol=1e-4)
            frames = torch.cat([frames, following], 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_longer_history_than_needed_changes_nothing(name):
    predictor, latent, action = build(name)
    candidates, keep = torch.randn(B, N, H, A), predictor.num_history
    whole = predictor.rollout(latent, action[:, :-1], candidates)
    recent = predictor.rollout(latent[:, -keep:], action[:, T - keep : -1], candidates)
    torch.testing.assert_close(whole, recent)


def test_residual_mlp_refuses_several_tokens():
    with pytest.raises(ValueError, match="predictor=causal"):
        ResidualMlpPredictor(D, A, num_tokens=4)
