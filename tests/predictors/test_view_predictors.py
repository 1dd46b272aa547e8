import pytest
import torch

from worldjepa.predictors.views import IdentityPredictor, SplitPredictor

B, T, N, H, P, D, A = 2, 3, 5, 7, 3, 12, 4


def test_identity_says_that_nothing_changes():
    latent = torch.randn(B, T, P, D)
    predictor = IdentityPredictor(D, A, P)
    assert torch.equal(predictor(latent, torch.randn(B, T, A)), latent)
    rolled = predictor.rollout(latent, torch.randn(B, T - 1, A), torch.randn(B, N, H, A))
    assert torch.equal(rolled, latent[:, None, None, -1].expand(B, N, H, P, D))


def test_half_of_a_split_latent_stays_and_the_other_is_mapped_linearly_by_the_action():
    torch.manual_seed(0)
    predictor, latent, action = SplitPredictor(D, A, P, width=9), torch.randn(B, T, P, D), torch.randn(B, T, A)
    out = predictor(latent, action)
    assert torch.equal(out[..., : D // 2], latent[..., : D // 2])
    matrix = predictor.hypernetwork(action[1, 2]).view(D // 2, D // 2)
    torch.testing.assert_close(out[1, 2, 0, D // 2 :], latent[1, 2, 0, D // 2 :] @ matrix)
    other = predictor(latent, action + 1)
    assert not torch.allclose(other[..., D // 2 :], out[..., D // 2 :])


def test_a_split_roll_out_is_one_step_after_another():
    torch.manual_seed(0)
    predictor, latent, action = SplitPredictor(D, A, P, width=9), torch.randn(B, T, P, D), torch.randn(B, N, H, A)
    rolled = predictor.rollout(latent, torch.randn(B, T - 1, A), action)
    now = latent[:, -1:]
    for h in range(3):
        now = predictor(now, action[:, 4, h : h + 1])
        torch.testing.assert_close(rolled[:, 4, h], now[:, 0])


def test_what_is_not_told_does_not_count():
    torch.manual_seed(0)
    predictor, latent, action = SplitPredictor(D, A, P, told=3), torch.randn(B, T, P, D), torch.randn(B, T, A)
    changed = action.clone()
    changed[..., 3] += 1
    assert torch.equal(predictor(latent, action), predictor(latent, changed))
    with pytest.raises(ValueError, match=r"told must be 1\.\.4"):
        SplitPredictor(D, A, told=5)


def test_an_odd_latent_cannot_be_split():
    with pytest.raises(ValueError, match="must be even, got 7"):
        SplitPredictor(7, A)
