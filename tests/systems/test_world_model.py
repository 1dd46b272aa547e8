import functools

import pytest
import torch

from worldjepa.encoders.convnet import ConvEncoder
from worldjepa.encoders.glimpse import GlimpseEncoder
from worldjepa.normalizer import ActionNormalizer
from worldjepa.objectives import InverseDynamics, LatentSigReg, OneStepError, RolloutError
from worldjepa.predictors.causal import CausalPredictor
from worldjepa.predictors.residual_mlp import ResidualMlpPredictor
from worldjepa.systems.world_model import build_system, build_world_model
from worldjepa.targets import Ema, Live, StopGradient
from worldjepa.types import EnvSpec, FieldSpec, Segment

B, T, N, H, SIZE, FRAMESKIP, RAW = 2, 4, 5, 3, 32, 3, 2
SPEC = EnvSpec(
    "Any-v0",
    {"pixels": FieldSpec("uint8", (SIZE, SIZE, 3)), "action": FieldSpec("float32", (RAW,))},
    (-1.0, -2.0),
    (1.0, 2.0),
    ("x",),
    10.0,
)
TERMS = {"one_step": OneStepError(), "rollout": RolloutError(), "sigreg": LatentSigReg(8), "inverse": InverseDynamics}
WEIGHTS = {"one_step": 1.0, "rollout": 1.0, "sigreg": 0.1, "inverse": 0.3}
SMALL_MLP = functools.partial(ResidualMlpPredictor, width=16, condition_dim=8)
SMALL_CAUSAL = functools.partial(CausalPredictor, width=12, depth=1, heads=2)


def segment():
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (B, T, 3, SIZE, SIZE), generator=random, dtype=torch.uint8)
    action = torch.rand(B, T - 1, FRAMESKIP * RAW, generator=random) * 2 - 1
    return Segment({"pixels": pixels}, action, torch.zeros(B, T, 1))


def model(encoder=None, predictor=SMALL_MLP):
    torch.manual_seed(0)
    return build_world_model(encoder or ConvEncoder(SIZE, 7, widths=(4, 4, 4), hidden=8), predictor, SPEC, FRAMESKIP)


@pytest.mark.parametrize("target", [Live, StopGradient, Ema])
def test_gradient_reaches_the_target_only_when_it_is_live(target):
    system = build_system(model(), {"one_step": OneStepError()}, {"one_step": 1.0}, target)
    prediction = system.predict_clip(segment())
    assert prediction.target.requires_grad == (target is Live)
    if target is not Ema:
        assert torch.equal(prediction.target, prediction.latent)
        return
    before = [parameter.clone() for parameter in system.target.parameters()]
    system(segment())["total"].backward()
    assert all(parameter.grad is None for parameter in system.target.parameters())
    with torch.no_grad():
        for parameter in system.model.encoder.parameters():
            parameter += 1
    system.update_target(progress=0.0)
    for old, new in zip(before, system.target.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.004)  # momentum 0.996 of a step of 1


def test_roll_outs_see_the_first_frame_only():
    system = build_system(model(), TERMS, WEIGHTS).eval()
    clip = segment()
    before = system.predict_clip(clip).rollout
    clip.observation["pixels"][:, 1:] = 0
    assert torch.equal(system.predict_clip(clip).rollout, before)


def test_no_roll_out_is_made_that_no_term_asks_for():
    terms = {"any name": RolloutError(), "one_step": OneStepError()}
    without = build_system(model(), terms, {"one_step": 1.0})
    assert without.predict_clip(segment()).rollout is None and without(segment())["total"].isfinite()
    with_one = build_system(model(), terms, {"any name": 1.0})
    assert with_one.predict_clip(segment()).rollout is not None and with_one(segment())["total"].isfinite()


def test_every_weight_learns_from_the_total():
    for encoder, predictor in (
        (GlimpseEncoder(SIZE, 4), SMALL_MLP),
        (GlimpseEncoder(SIZE, 4, as_tokens=True), SMALL_CAUSAL),
    ):
        system = build_system(model(encoder, predictor), dict(TERMS), WEIGHTS)
        for parameter in system.model.predictor.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        system(segment(), torch.Generator().manual_seed(0))["total"].backward()
        without = [name for name, p in system.named_parameters() if p.grad is None or not p.grad.any()]
        # Keys' biases shift every logit alike, so softmax never sees them; they share a tensor with the others here.
        assert not without


def test_terms_of_weight_zero_are_not_even_built():
    system = build_system(model(), TERMS, {**WEIGHTS, "inverse": 0.0})
    assert "inverse" not in system(segment())
    assert not [name for name, _ in system.named_parameters() if "inverse" in name]
    with pytest.raises(ValueError, match=r"\['other'\] name no term"):
        build_system(model(), TERMS, {"other": 1.0})


def test_actions_are_normalised_block_by_block_and_bounds_follow():
    normalizer = ActionNormalizer((-1.0, -2.0), (1.0, 2.0), FRAMESKIP)
    normalizer.fit(torch.zeros(2), torch.tensor([0.5, 4.0]))
    raw = torch.randn(B, T, FRAMESKIP * RAW)
    torch.testing.assert_close(normalizer.inverse(normalizer(raw)), raw)
    torch.testing.assert_close(normalizer(raw)[..., 2], raw[..., 2] / 0.5)  # second raw action of the block, dim 0
    assert normalizer.low.tolist() == [-2.0, -0.5] * FRAMESKIP
    assert normalizer.high.tolist() == [2.0, 0.5] * FRAMESKIP
    with pytest.raises(ValueError, match="std must be > 0"):
        normalizer.fit(torch.zeros(2), torch.tensor([0.5, 0.0]))


def test_candidates_do_not_depend_on_one_another():
    world = model().eval()
    latent = world.encode(segment().observation)
    action = torch.randn(B, N, H, world.action_dim)
    past = torch.randn(B, T - 1, world.action_dim)
    together = world.rollout(latent, past, action)
    alone = torch.cat([world.rollout(latent, past, action[:, n : n + 1]) for n in range(N)], 1)
    torch.testing.assert_close(together, alone)
