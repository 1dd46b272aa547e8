import pytest
import torch
from torch import nn

from worldjepa.targets import Ema, FixedFeature, Frozen, Live, StopGradient

B, D = 2, 13


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D), nn.Dropout(0.5))


@pytest.mark.parametrize(("schedule", "middle"), [("linear", 0.75), ("cosine", 0.75)])
def test_momentum_runs_from_start_to_end(schedule, middle):
    target = Ema(network(), start=0.5, end=1.0, schedule=schedule)
    assert [target.momentum(p) for p in (0.0, 0.5, 1.0, 2.0)] == pytest.approx([0.5, middle, 1.0, 1.0])
    quarter = 0.625 if schedule == "linear" else 0.5 + 0.5 * (1 - 2**-0.5) / 2
    assert target.momentum(0.25) == pytest.approx(quarter)


def test_ema_equals_the_closed_form():
    online, progresses = network(), [0.0, 0.3, 0.9]
    target = Ema(online, start=0.8, end=1.0)
    history = [online[0].weight.detach().clone()]
    for progress in progresses:
        with torch.no_grad():
            online[0].weight.add_(torch.randn(D, D))
        history.append(online[0].weight.detach().clone())
        target.update(online, progress)
    # theta_K = prod(m) theta_0 + sum_k (1 - m_k) prod_{j>k} m_j theta_k
    kept, expected = 1.0, torch.zeros(D, D)
    for weight, progress in zip(reversed(history[1:]), reversed(progresses), strict=True):
        momentum = 0.8 + 0.2 * progress
        expected += kept * (1 - momentum) * weight
        kept *= momentum
    expected += kept * history[0]
    assert torch.allclose(target.module[0].weight, expected, atol=1e-6)


def test_ema_takes_over_batch_norm_statistics():
    online = network().train()
    target = Ema(online)
    online(torch.randn(B, D) + 5)
    target.update(online, 0.0)
    assert torch.equal(target.module[1].running_mean, online[1].running_mean)
    assert target.module[1].running_mean.abs().max() > 0


@pytest.mark.parametrize("kind", [Ema, Frozen])
def test_teacher_stays_in_eval_and_gets_no_gradient(kind):
    parent = nn.Module()
    parent.online = network()
    parent.target = kind(parent.online)
    parent.train()
    assert parent.online.training and not any(m.training for m in parent.target.module.modules())
    x = torch.randn(B, D)
    wanted = parent.target(x)
    assert torch.equal(wanted, parent.target(x)), "dropout must be off"
    assert not wanted.requires_grad
    (parent.online(x) - wanted).square().sum().backward()
    assert all(p.grad is None for p in parent.target.parameters())
    assert all(p.grad is not None for p in parent.online.parameters())


def test_teacher_is_saved_and_restored():
    online = network()
    target = Ema(online, start=0.5)
    with torch.no_grad():
        online[0].weight.add_(1.0)
    target.update(online, 0.0)
    fresh = Ema(network(), start=0.5)
    fresh.load_state_dict(target.state_dict())
    assert torch.equal(fresh.module[0].weight, target.module[0].weight)


def test_frozen_does_not_follow():
    online = network()
    target = Frozen(online)
    before = target.module[0].weight.clone()
    with torch.no_grad():
        online[0].weight.add_(1.0)
    target.update(online, 0.5)
    assert torch.equal(target.module[0].weight, before)


def test_live_passes_gradient_and_stop_gradient_does_not():
    online, x = network().eval(), torch.randn(B, D)
    assert Live(online)(x).requires_grad
    assert not StopGradient(online)(x).requires_grad
    assert torch.equal(Live(online)(x), StopGradient(online)(x))
    assert not dict(Live(online).named_parameters()), "the encoder's weights must not be saved twice"


def test_known_output_is_used_by_the_online_targets_only():
    online, x = network().eval(), torch.randn(B, D)
    known = online(x)
    assert Live(online).given(known, x) is known
    assert not StopGradient(online).given(known, x).requires_grad
    with torch.no_grad():
        teacher = Ema(online)
        online[0].weight.add_(1.0)
    assert torch.equal(teacher.given(online(x), x), known)


def test_fixed_feature_is_the_function_without_gradient():
    x = torch.randn(B, D, requires_grad=True)
    wanted = FixedFeature(torch.square)(x)
    assert torch.equal(wanted, x**2) and not wanted.requires_grad


@pytest.mark.parametrize("bounds", [(0.9, 0.8), (-0.1, 1.0), (0.9, 1.1)])
def test_momentum_out_of_order_is_refused(bounds):
    with pytest.raises(ValueError, match="0 <= start <= end <= 1"):
        Ema(network(), *bounds)
