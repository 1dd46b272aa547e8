import pytest
import torch

from worldjepa.objectives import SigReg, VicReg, WeightedSum
from worldjepa.objectives.prediction import OneStepError
from worldjepa.types import Prediction

GAUSSIAN_MEAN, COLLAPSE_PER_SAMPLE = 1.0525, 0.40205  # METHODS: exact values of the Epps-Pulley statistic


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("num_samples", "dim"), [(50, 4), (300, 33)])
def test_gaussian_latents_score_the_same_whatever_n_and_d(num_samples, dim):
    sigreg, random = SigReg(num_directions=200), generator()
    scores = [sigreg(torch.randn(num_samples, dim, generator=random), random) for _ in range(200)]
    # Directions of one batch are correlated at D = 4; the mean over 200 batches has a standard error of about 0.01.
    assert torch.stack(scores).mean().item() == pytest.approx(GAUSSIAN_MEAN, abs=0.05)


def test_total_collapse_scores_in_proportion_to_n():
    for num_samples in (10, 70):
        score = SigReg()(torch.zeros(num_samples, 5), generator())
        assert score.item() == pytest.approx(COLLAPSE_PER_SAMPLE * num_samples, rel=2e-4)


def test_matches_the_definition_written_out():
    sigreg, x = SigReg(num_directions=7), torch.randn(11, 5, generator=generator(1))
    directions = torch.randn(5, 7, generator=generator(2))
    projected = x @ (directions / directions.norm(dim=0))
    t = torch.linspace(0, 3, 17, dtype=torch.float64)
    characteristic = torch.exp(1j * projected.double()[..., None] * t).mean(0)
    squared_error = (characteristic - torch.exp(-t.square() / 2)).abs().square() * torch.exp(-t.square() / 2)
    expected = 2 * 11 * torch.trapezoid(squared_error, t, dim=-1).mean()
    assert sigreg(x, generator(2)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_expected_score_of_gaussian_latents():
    """Of n samples of a normal distribution, E|phi_n - phi|^2 = (1 - exp(-t^2)) / n."""
    t = torch.linspace(0, 3, 17, dtype=torch.float64)
    expected = 2 * torch.trapezoid((1 - torch.exp(-t.square())) * torch.exp(-t.square() / 2), t)
    assert expected.item() == pytest.approx(GAUSSIAN_MEAN, abs=1e-4)
    sigreg = SigReg()
    weights, knots = sigreg.weights.double(), sigreg.knots.double()
    assert (weights * (1 - torch.exp(-knots.square()))).sum().item() == pytest.approx(GAUSSIAN_MEAN, abs=1e-4)


def test_groups_are_judged_apart():
    sigreg = SigReg(num_directions=9)
    a, b = torch.randn(13, 4, generator=generator(1)), 3 * torch.randn(13, 4, generator=generator(2))
    both = sigreg(torch.stack([a, b]), generator(5))
    assert both.item() == pytest.approx((sigreg(a, generator(5)) + sigreg(b, generator(5))).item() / 2, rel=1e-5)


def test_descent_on_sigreg_makes_latents_gaussian():
    x = torch.rand(256, 3, generator=generator(1)) * 0.1
    x.requires_grad_()
    optimizer, sigreg = torch.optim.Adam([x], lr=0.03), SigReg(32)
    for step in range(150):
        optimizer.zero_grad()
        sigreg(x, generator(step)).backward()
        optimizer.step()
    assert x.std(0).detach().tolist() == pytest.approx([1, 1, 1], abs=0.15)
    assert x.detach().T.corrcoef().fill_diagonal_(0).abs().max() < 0.2


def test_vicreg_of_a_collapsed_batch_is_the_full_hinge():
    assert VicReg(25, 1)(torch.zeros(10, 4)).item() == pytest.approx(25 * 0.99, rel=1e-5)


def test_vicreg_covariance_term():
    x = torch.randn(4000, 3, generator=generator())
    x[:, 1] = x[:, 0]
    # Unit variances: no hinge. Two off-diagonal entries of covariance about 1, divided by D = 3.
    assert VicReg(25, 1)(2 * x).item() == pytest.approx(2 * 16 / 3, rel=0.1)


def test_weighted_sum_refuses_names_that_do_not_agree():
    with pytest.raises(ValueError, match="rollout"):
        WeightedSum({"one_step": OneStepError()}, {"one_step": 1.0, "rollout": 1.0})
    with pytest.raises(ValueError, match="nothing would be learned"):
        WeightedSum({"one_step": OneStepError()}, {"one_step": 0.0})


def test_weighted_sum_adds_up():
    latent = torch.randn(2, 3, 1, 5)
    prediction = Prediction(latent, latent, latent[:, :-1], latent[:, :-1], torch.zeros(2, 2, 4))
    losses = WeightedSum({"one_step": OneStepError()}, {"one_step": 2.5})(prediction)
    expected = (latent[:, 1:] - latent[:, :-1]).square().mean()
    assert losses["one_step"].item() == pytest.approx(expected.item())
    assert losses["total"].item() == pytest.approx(2.5 * expected.item())
