from functools import partial

import pytest
import torch

from worldjepa.encoders.pyramid import PyramidEncoder, PyramidLatent
from worldjepa.objectives.motion import ContentVicReg, FeatureRegression, LevelVicReg, Reconstruction, Smoothness
from worldjepa.predictors.flow import FlowPredictor
from worldjepa.samplers.picture_views import PictureViews
from worldjepa.systems.mc_jepa import MotionModel, build_mc_jepa
from worldjepa.types import Segment

WIDTHS = (8, 12, 16)
ALL = {"regression": 1.0, "reconstruction": 10.0, "smoothness": 1.0, "levels": 0.1, "content": 0.1}


def system(weights=ALL, frozen=False, starts=None, widths=WIDTHS, motion_share=1.0):
    torch.manual_seed(0)
    terms = {
        "regression": FeatureRegression(),
        "reconstruction": Reconstruction(),
        "smoothness": Smoothness(),
        "levels": LevelVicReg(),
        "content": ContentVicReg(),
    }
    return build_mc_jepa(
        PyramidEncoder(widths, (1,) * len(widths), 3, init="another-run" if frozen else None),
        partial(FlowPredictor, widths, radius=2, hidden=(16, 12)),
        terms,
        weights,
        starts or {},
        (24, 24),
        PictureViews(),
        motion_share,
        frozen,
    )


def textures(batch: int, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips uint8 (B,2,3,size,size) of coarse and fine noise that moves by up to 3 px either way, and (B,2) how far."""
    large = (
        sum(
            torch.nn.functional.interpolate(
                torch.rand(batch, 3, (size + 8) // scale, (size + 8) // scale, generator=generator),
                size=(size + 8, size + 8),
                mode="bicubic",
            )
            for scale in (2, 4, 8)
        )
        .div(3)
        .clamp(0, 1)
    )
    move = torch.randint(-3, 4, (batch, 2), generator=generator)
    clips = []
    for picture, (dx, dy) in zip(large, move.tolist(), strict=True):
        second = picture[:, 4 - dy : 4 - dy + size, 4 - dx : 4 - dx + size]
        clips.append(torch.stack([picture[:, 4 : 4 + size, 4 : 4 + size], second]))
    return (255 * torch.stack(clips)).to(torch.uint8), move.float()


def clip(batch: int = 4, size: int = 24) -> Segment:
    pixels, _ = textures(batch, size, torch.Generator().manual_seed(0))
    return Segment({"pixels": pixels}, torch.zeros(batch, 1, 1), torch.zeros(batch, 2, 1))


def test_every_weight_learns_and_terms_add_up():
    made = system()
    losses = made(clip(), torch.Generator().manual_seed(0))
    assert set(losses) == {*ALL, "total"}
    assert losses["total"].item() == pytest.approx(sum(ALL[name] * losses[name].item() for name in ALL), rel=1e-5)
    losses["total"].backward()
    idle = [name for name, weight in made.named_parameters() if weight.grad is None]
    assert not idle


@pytest.mark.parametrize(
    ("off", "missing"), [({"content": 0.0}, "expander"), (dict.fromkeys(list(ALL)[:4], 0.0), "predictor")]
)
def test_what_no_term_needs_is_not_there_and_everything_else_learns(off, missing):
    made = system(ALL | off)
    owner = made if missing == "expander" else made.model
    assert getattr(owner, missing) is None
    made(clip(), torch.Generator().manual_seed(0))["total"].backward()
    assert all(weight.grad is not None for weight in made.parameters())
    if missing == "predictor":
        with pytest.raises(ValueError, match="content alone"):
            made.model.flow(*clip().observation["pixels"].unbind(1))


def test_a_frozen_encoder_stays_and_the_flow_learns():
    made = system({**dict.fromkeys(ALL, 0.0), "reconstruction": 1.0}, frozen=True)
    made(clip(), torch.Generator().manual_seed(0))["total"].backward()
    assert all(weight.grad is None for weight in made.model.encoder.parameters())
    assert all(weight.grad is not None for weight in made.model.predictor.parameters())


def test_flow_counts_after_its_start_alone_and_is_saved_with_the_weights():
    made, losses = system(starts={"reconstruction": 0.5}), []
    for progress in (0.49, 0.5):
        made.update_target(progress)
        torch.manual_seed(0)  # of the views
        losses.append({name: loss.item() for name, loss in made(clip(), torch.Generator().manual_seed(0)).items()})
    before, after = losses
    change = after["total"] - before["total"]
    assert change == pytest.approx(10 * after["reconstruction"], rel=1e-3)
    assert made.state_dict()["progress"] == 0.5


def test_without_content_nothing_waits_for_it():
    made = system(ALL | {"content": 0.0}, starts=dict.fromkeys(list(ALL)[:4], 0.3))
    assert made(clip(), torch.Generator().manual_seed(0))["total"] > 0


def test_flow_is_learned_from_a_share_of_the_clips_and_content_from_all():
    few, all_clips = clip(2), clip(6)
    few.observation["pixels"] = all_clips.observation["pixels"][:2]
    losses = []
    for share, segment in ((1 / 3, all_clips), (1.0, few)):
        losses.append(system(ALL | {"levels": 0.0}, motion_share=share)(segment, torch.Generator().manual_seed(0)))
    for name in ("regression", "reconstruction", "smoothness"):
        torch.testing.assert_close(losses[0][name], losses[1][name])
    assert losses[0]["content"] != losses[1]["content"]


def test_levels_and_content_need_no_flow():
    made = system({**dict.fromkeys(ALL, 0.0), "levels": 1.0, "content": 1.0})
    assert made.model.predictor is None
    made(clip(), torch.Generator().manual_seed(0))["total"].backward()
    assert all(weight.grad is not None for weight in made.parameters())


@pytest.mark.parametrize("size", [8, 16])
def test_levels_of_one_or_two_cells_do_no_harm(size):
    losses = system()(clip(4, size), torch.Generator().manual_seed(0))
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())


def test_what_would_learn_nothing_is_refused():
    with pytest.raises(ValueError, match="frozen_encoder=true learns flow"):
        system(ALL, frozen=True)
    with pytest.raises(ValueError, match="motion_share must be"):
        system(motion_share=0.0)
    with pytest.raises(ValueError, match="0 <= start < 1"):
        system(starts={"levels": 10})
    with pytest.raises(ValueError, match="without a head, got PyramidLatent"):
        build_mc_jepa(PyramidLatent(32), FlowPredictor, {}, {}, {}, (8,), PictureViews())


def test_a_flow_that_loses_the_picture_still_pays_for_it():
    made = system()
    for level in made.model.predictor.levels:
        torch.nn.init.constant_(level.say.bias, 50.0)  # everything leaves
    losses = made(clip(), torch.Generator().manual_seed(0))
    assert losses["reconstruction"] > 0.05


def test_pictures_of_any_size_have_flow():
    model = system().model.eval()
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(0, 256, (2, 3, 21, 30), dtype=torch.uint8, generator=generator) for _ in range(2))
    flow = model.flow(first, second)
    assert flow.shape == (2, 2, 21, 30) and flow.dtype == torch.float32
    with pytest.raises(ValueError, match="one shape"):
        model.flow(first, second[..., :20])


def test_a_pair_has_the_same_flow_in_any_batch():
    model = system().model.eval()
    first, second = clip(3).observation["pixels"].unbind(1)
    torch.testing.assert_close(model.flow(first, second)[1:2], model.flow(first[1:2], second[1:2]), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_flow_is_learned_without_labels():
    """Against no motion, and against the same training on pairs that do not belong together."""

    def learned(shuffled: bool) -> float:
        made = system()
        optimizer = torch.optim.AdamW(made.parameters(), lr=1e-3)
        generator = torch.Generator().manual_seed(0)
        for _ in range(150):
            pixels, _ = textures(16, 24, generator)
            if shuffled:
                pixels[:, 1] = pixels[:, 1].roll(1, 0)
            loss = made(Segment({"pixels": pixels}, torch.zeros(16, 1, 1), torch.zeros(16, 2, 1)), generator)["total"]
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
            optimizer.step()
        return error(made.eval().model)

    pixels, move = textures(64, 24, torch.Generator().manual_seed(1))

    @torch.no_grad()
    def error(model: MotionModel) -> float:
        inner = model.flow(pixels[:, 0], pixels[:, 1])[..., 4:-4, 4:-4]
        return float((inner - move[:, :, None, None]).norm(dim=1).mean())

    still = float(move.norm(dim=1).mean())
    assert learned(shuffled=False) < 0.3 * still < 0.3 * 1.5 * learned(shuffled=True)
