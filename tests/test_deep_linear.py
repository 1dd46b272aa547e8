"""Deep linear networks do what the equations say, and the equations what the paper says."""

import math

import numpy as np
import pytest
import torch

from worldjepa.deep_linear import DeepLinearJepa, DeepLinearMae, Mode, first_steps

VARIED, PREDICTIVE = MODES = (Mode(1.0, 0.6), Mode(0.8, 1.0))
SCALES = {1: 0.45, 2: 0.45, 3: 0.45, 4: 0.5}
# learning rate x steps to halfway between start and limit, read every 50 steps
HALF_TIMES = {
    DeepLinearJepa: {1: (2, 3), 2: (8, 9), 3: (35, 29.5), 4: (81, 55)},
    DeepLinearMae: {1: (1, 1), 2: (1.5, 2), 3: (2, 3), 4: (2.5, 3.5)},
}
CASES = [(theory_class, depth) for theory_class in HALF_TIMES for depth in SCALES]


@pytest.mark.parametrize(
    "theory, rho, duration",
    [
        (DeepLinearJepa(3), 0.5, 3_154_688),
        (DeepLinearJepa(3), 1.0, 2_957_298),
        (DeepLinearMae(3), 0.5, 694.4),
        (DeepLinearMae(3), 1.0, 695.0),
    ],
)
def test_time_from_a_small_start_to_half_the_limit(theory, rho, duration):
    mode = Mode(1.0, rho)
    found = theory.time(mode, 1e-4, theory.limit(mode) / 2)
    assert found == pytest.approx(duration, abs=0.5 if duration > 1e6 else 0.05)


@pytest.mark.parametrize("depth", SCALES)
@pytest.mark.parametrize("mode", MODES)
def test_quadrature_agrees_with_the_integral_by_partial_fractions(mode, depth):
    theory, lam, rho = DeepLinearJepa(depth), mode.covariance, mode.regression
    start, end = 0.05 * theory.limit(mode), 0.95 * theory.limit(mode)
    # With a = w^(1/L): dt = (L / lambda) da / (a^(2L) (1 - a / rho)).
    a, b, order = start ** (1 / depth), end ** (1 / depth), 2 * depth
    powers = sum(rho ** (k - order) * (a ** (1 - k) - b ** (1 - k)) / (k - 1) for k in range(2, order + 1))
    logs = rho ** (1 - order) * (math.log(b / a) - math.log((rho - b) / (rho - a)))
    assert theory.time(mode, start, end) == pytest.approx(depth / lam * (powers + logs), rel=1e-9)


@pytest.mark.parametrize("theory_class, depth", CASES)
def test_trained_networks_follow_the_theory(theory_class, depth):
    theory, start = theory_class(depth), SCALES[depth] ** depth
    exponent = depth if theory_class is DeepLinearJepa else depth / (depth + 1)
    limits = np.array([mode.regression**exponent for mode in MODES])
    assert [theory.limit(mode) for mode in MODES] == pytest.approx(list(limits))
    longest = max(theory.time(mode, start, limit - 4e-4) for mode, limit in zip(MODES, limits, strict=True))
    num_steps = math.ceil(longest / depth / 0.01)
    strengths = theory.train(MODES, SCALES[depth], num_steps, np.random.default_rng(0))
    np.testing.assert_allclose(strengths[-1], limits, atol=5e-4)
    times = np.arange(num_steps + 1) * 0.01 * depth
    curves = np.stack([theory.curve(mode, start, times) for mode in MODES], 1)
    # steps of finite size lag the flow a little
    np.testing.assert_allclose(strengths / limits, curves / limits, atol=5e-3)
    halves = first_steps(strengths, (start + limits) / 2)
    assert tuple(np.ceil(halves / 50) / 2) == HALF_TIMES[theory_class][depth]
    predictive_first = theory_class is DeepLinearJepa and depth >= 3
    assert (halves[1] < halves[0]) == predictive_first


def test_a_small_start_hands_the_order_back_to_lambda_but_equal_lambdas_follow_rho():
    theory = DeepLinearJepa(3)
    varied, predictive = (theory.time(mode, 1e-4, theory.limit(mode) / 2) for mode in MODES)
    assert predictive / varied == pytest.approx(1 / PREDICTIVE.covariance, rel=0.1) and varied < predictive
    rest = Mode(VARIED.covariance, PREDICTIVE.regression)
    assert theory.time(rest, 1e-4, theory.limit(rest) / 2) < varied


@pytest.mark.parametrize("latent", [True, False], ids=["jepa", "mae"])
def test_training_is_gradient_descent_on_pairs_with_a_stopped_target(latent):
    """Autograd on samples that have the very covariances, from other rotations: the same strengths."""
    depth, scale, generator = 3, 0.6, torch.Generator().manual_seed(0)
    regression = torch.diag(torch.tensor([mode.regression for mode in MODES], dtype=torch.float64))
    deviation = torch.tensor([(mode.covariance / mode.regression) ** 0.5 for mode in MODES], dtype=torch.float64)
    x = torch.diag(deviation * len(MODES) ** 0.5).repeat(2, 1)
    noise = torch.randn(2, 2, generator=generator, dtype=torch.float64)
    y = x @ regression + torch.cat([noise, -noise])
    rotations = [torch.linalg.qr(torch.randn(2, 2, generator=generator, dtype=torch.float64))[0] for _ in range(depth)]
    whole = rotations[2] @ rotations[1] @ rotations[0]
    weights = [scale * w for w in (*rotations, torch.eye(2, dtype=torch.float64) if latent else whole.T)]
    expected = []
    for _ in range(40):
        first, second, third, decoder = weights = [w.detach().requires_grad_() for w in weights]
        encoder = third @ second @ first
        expected.append(encoder.detach().norm(dim=0).numpy())
        target = y @ encoder.T.detach() if latent else y
        loss = (x @ encoder.T @ decoder.T - target).square().sum(1).mean() / 2
        weights = [w - 0.03 * g for w, g in zip(weights, torch.autograd.grad(loss, weights), strict=True)]
    theory = DeepLinearJepa(depth) if latent else DeepLinearMae(depth)
    found = theory.train(MODES, scale, 39, np.random.default_rng(0), learning_rate=0.03)
    np.testing.assert_allclose(found, np.array(expected), atol=1e-12)


def test_what_cannot_be_is_said():
    theory = DeepLinearMae(2)
    with pytest.raises(ValueError, match="depth"):
        DeepLinearJepa(0)
    with pytest.raises(ValueError, match="regression > 0"):
        Mode(1.0, 0.0)
    with pytest.raises(ValueError, match="limit"):
        theory.time(VARIED, 0.1, theory.limit(VARIED))
    with pytest.raises(ValueError, match="more steps"):
        first_steps(theory.train(MODES, 0.45, 3, np.random.default_rng(0)), (0.5, 0.5))
