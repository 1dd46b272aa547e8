import pytest
import torch

from worldjepa.objectives import TemporalVariance
from worldjepa.types import Prediction


def cost(latent: torch.Tensor, **arguments) -> torch.Tensor:
    return TemporalVariance(**arguments)(Prediction(latent, latent, latent[:, 1:], latent[:, 1:], torch.zeros(1)))


def test_what_stands_still_costs_and_the_same_numbers_in_motion_do_not():
    still = torch.randn(256, 1, 1, 8, generator=torch.Generator().manual_seed(0)).expand(-1, 6, -1, -1)
    moving = still.flatten(0, 1)[torch.randperm(256 * 6, generator=torch.Generator().manual_seed(1))].view(256, 6, 1, 8)
    assert cost(still).item() == pytest.approx(0.7, abs=0.011)
    assert cost(moving).item() == 0


def test_every_channel_counts_on_its_own():
    half = torch.randn(256, 6, 1, 8, generator=torch.Generator().manual_seed(0))
    half[..., :4] = half[:, :1, :, :4]
    assert cost(half, least=0.5).item() == pytest.approx(0.5 * 0.5, abs=0.01)


def test_the_standard_deviation_is_unbiased_by_the_length_of_clips():
    short, long = (0.5 * torch.randn(20_000, t, 1, 1, generator=torch.Generator().manual_seed(t)) for t in (2, 12))
    assert cost(short).item() == pytest.approx(0.2, abs=0.01) and cost(long).item() == pytest.approx(0.2, abs=0.01)


def test_gradients_are_finite_where_nothing_moves_at_all():
    latent = torch.zeros(4, 3, 1, 2, requires_grad=True)
    cost(latent).backward()
    assert torch.isfinite(latent.grad).all()


def test_a_threshold_that_nothing_could_meet_is_refused():
    with pytest.raises(ValueError, match="least"):
        TemporalVariance(least=1.5)
