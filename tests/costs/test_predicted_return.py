import pytest
import torch

from worldjepa.costs import PredictedReturn

B, N, H, P, D, A = 2, 5, 7, 11, 13, 4


def first_channel_gain(before, after):
    """A head that is easy to predict: how much the first channel of the first token grew, plus where it was."""
    return (after - before)[..., 0, 0] + 10 * before[..., 0, 1]


class Head(torch.nn.Module):
    def forward(self, before, after):
        return first_channel_gain(before, after)


def random_inputs():
    generator = torch.Generator().manual_seed(0)
    latent, start = torch.randn(B, N, H, P, D, generator=generator), torch.randn(B, P, D, generator=generator)
    return latent, start, torch.randn(B, N, H, A, generator=generator)


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_minus_the_discounted_mean_over_the_chain_from_the_present(discount):
    latent, start, action = random_inputs()
    cost = PredictedReturn(Head(), discount)(latent, None, action, start)
    assert cost.shape == (B, N)
    chain = [start[1], *latent[1, 3]]
    weights = [discount**h for h in range(H)]
    rewards = [first_channel_gain(chain[h], chain[h + 1]) for h in range(H)]
    expected = -sum(w * r for w, r in zip(weights, rewards, strict=True)) / sum(weights)
    torch.testing.assert_close(cost[1, 3], expected)


def test_a_model_without_rewards_is_refused():
    with pytest.raises(ValueError, match=r"without rewards.*goal_distance"):
        PredictedReturn(None)
    with pytest.raises(ValueError, match="discount"):
        PredictedReturn(Head(), 0.0)
