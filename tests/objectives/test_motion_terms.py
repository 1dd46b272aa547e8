import pytest
import torch
import torch.nn.functional as F

from worldjepa.motion import resize_flow, seen_in_both
from worldjepa.objectives.motion import (
    ContentVicReg,
    FeatureCycle,
    FeatureRegression,
    LevelVicReg,
    Reconstruction,
    Smoothness,
    ssim,
    swapped,
)
from worldjepa.objectives.weighted_sum import WeightedSum
from worldjepa.types import Motion


def moved(dx: float) -> Motion:
    """A smooth picture that moves by 4 px to the right (it is periodic), and a flow that says ``dx``."""
    across = torch.arange(32).float()
    waves = torch.stack([torch.sin(2 * torch.pi * k * across / 32 + k) for k in (1, 2, 3)]) * 0.4 + 0.5
    first = waves[None, :, None].expand(1, 3, 32, 32)
    both = torch.cat([first, first.roll(4, -1)])
    flow = torch.zeros(2, 2, 32, 32)
    flow[0, 0], flow[1, 0] = dx, -dx
    flows = [flow, resize_flow(flow, (16, 16))]
    pictures = [both, F.interpolate(both, size=16, mode="area")]
    return Motion(pictures, flows, [seen_in_both(f, swapped(f)) for f in flows], pictures[1:])


@pytest.mark.parametrize("term", [FeatureRegression(), Reconstruction()])
def test_the_true_flow_explains_the_next_picture_and_no_other_does(term):
    true, others = term(moved(4.0)), [term(moved(dx)) for dx in (0.0, 3.0, 5.0, -4.0)]
    assert true < 0.01 and min(others) > 5 * true


def test_what_is_covered_or_gone_does_not_count():
    motion = moved(4.0)
    spoiled = moved(4.0)
    spoiled.pictures[0] = spoiled.pictures[0].clone()
    spoiled.pictures[0][0, :, :, 30:] = 9.0  # leaves the picture: nobody can know it
    same = Reconstruction(ssim=0.0)  # whose windows look around
    assert same(motion).item() == pytest.approx(same(spoiled).item(), abs=1e-6)


def test_a_coarser_level_counts_by_its_decay():
    motion = moved(3.0)
    alone = [
        Reconstruction()(Motion([picture], [flow], [seen], [])).item()
        for picture, flow, seen in zip(motion.pictures, motion.flow, motion.seen, strict=True)
    ]
    assert Reconstruction(decay=0.25)(motion).item() == pytest.approx((alone[0] + 0.25 * alone[1]) / 1.25, rel=1e-5)
    with pytest.raises(ValueError, match="decay"):
        Reconstruction(decay=0.0)


def test_a_cycle_of_opposite_flows_comes_home_and_others_do_not():
    motion = moved(2.0)
    assert FeatureCycle()(motion) < 0.02
    motion.flow[1] = motion.flow[1].abs()
    assert FeatureCycle()(motion) > 0.05


def test_smoothness_is_zero_for_affine_motion_and_edges_excuse():
    motion = moved(4.0)
    ramp = torch.linspace(0, 3, 32).expand(2, 2, 32, 32)
    motion.flow[0], motion.flow[1] = ramp, torch.zeros_like(motion.flow[1])
    affine = Smoothness()(motion)
    jump = (torch.arange(32) >= 16).float().mul(3).expand(2, 2, 32, 32)
    motion.flow[0] = jump
    broken = Smoothness()(motion)
    motion.pictures[0] = jump[:, :1].expand(2, 3, 32, 32) / 3  # the picture has its edge there too
    excused = Smoothness()(motion)
    assert affine < 0.002 < broken and excused < 0.2 * broken


def test_a_collapsed_level_is_punished():
    motion = moved(4.0)
    torch.manual_seed(0)
    motion.features = [torch.randn(2, 3, 16, 16)]
    alive = LevelVicReg()(motion, torch.Generator().manual_seed(0))
    motion.features = [torch.ones(2, 3, 16, 16)]
    dead = LevelVicReg()(motion, torch.Generator().manual_seed(0))
    assert alive < 3 and dead.item() == pytest.approx(25 * 0.99, abs=1e-3)


def test_content_wants_equal_views_of_different_pictures():
    torch.manual_seed(0)
    z = torch.randn(400, 6)
    term = ContentVicReg()
    good = term(Motion([], [], [], [], torch.stack([z, z])))
    unlike = term(Motion([], [], [], [], torch.stack([z, z.flip(0)])))
    collapsed = term(Motion([], [], [], [], torch.zeros(2, 400, 6)))
    assert good < 2 and unlike > 20 and collapsed > 20


def test_ssim_of_a_picture_with_itself_is_one_and_of_its_negative_below_zero():
    torch.manual_seed(0)
    x = torch.rand(1, 3, 12, 12)
    assert ssim(x, x).min() > 0.999 and ssim(x, 1 - x).mean() < 0


def test_terms_may_start_later():
    terms = {"now": lambda motion, generator: torch.tensor(2.0), "later": lambda motion, generator: torch.tensor(3.0)}
    modules = {name: _Call(function) for name, function in terms.items()}
    total = WeightedSum(modules, {"now": 1.0, "later": 10.0}, {"later": 0.1})
    assert total(None, None, 0.05)["total"] == 2 and total(None, None, 0.1)["total"] == 32
    assert total(None)["total"] == 32 and total(None, None, 0.05)["later"] == 3
    with pytest.raises(ValueError, match="name no term"):
        WeightedSum(modules, {"now": 1.0, "later": 10.0}, {"never": 0.1})


class _Call(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *arguments):
        return self.function(*arguments)
