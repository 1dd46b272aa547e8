"""A street's world model: what it predicts, what trains it, and that our own motion is geometry."""

import pytest
import torch

from worldjepa.encoders.bev import BevEncoder
from worldjepa.encoders.bev_view import BevView
from worldjepa.evaluation.driving import drive_pictures, measure_driving
from worldjepa.odometry import Vehicle
from worldjepa.predictors.scene import SceneMotion
from worldjepa.sweeps import RangeImage
from worldjepa.systems.bev_world import BevWorld, BevWorldSystem, imagine, nobody_moves
from worldjepa.types import Segment
from worldjepa.voxels import VoxelGrid, voxelize

GRID = VoxelGrid((-12.8, -12.8, -2.2), (12.8, 12.8, 1.8), (0.4, 0.4, 0.5))
WEIGHTS = {"prediction": 1.0, "obstacles": 1.0, "response": 1.0}
T = 5


def make_model(seed: int = 0) -> BevWorld:
    torch.manual_seed(seed)
    encoder = BevEncoder(GRID, (8, 8), 8).train()
    points = clips(4).observation["points"].flatten(0, 1)
    for _ in range(30):  # it has seen data: its norms have their statistics
        encoder(voxelize(list(points), GRID))
    view = BevView(encoder, RangeImage(8, 64), {"x": (-3.2, 12.8), "y": (-6.4, 6.4)})
    return BevWorld(view, SceneMotion(8, 16, 2), Vehicle(), (-1.0, -1.0), (1.0, 1.0))


def answer(felt: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """A car that does as it is told."""
    speed = (felt[..., 0] + 0.6 * action[..., 1]).clamp(0, 8)
    return torch.stack([speed, 0.9 * felt[..., 1] + 0.05 * action[..., 0]], -1)


def clips(count: int, seed: int = 0, moving: float = 0.0) -> Segment:
    """Posts on a road; ``moving`` m a step to the left are all of them, and we drive."""
    g = torch.Generator().manual_seed(seed)
    vehicle = Vehicle()
    action = torch.rand(count, T - 1, 2, generator=g) * 2 - 1
    felt = [torch.tensor([4.0, 0.0]).expand(count, 2)]
    for step in range(T - 1):
        felt.append(answer(felt[-1], action[:, step]))
    felt = torch.stack(felt, 1)
    posts = torch.rand(count, 12, 2, generator=g) * torch.tensor([16.0, 12.0]) - torch.tensor([2.0, 6.0])
    clouds, here = [], posts
    for step in range(T):
        heights = torch.linspace(-1.2, 0.0, 8)
        around = 0.15 * torch.randn(count, 12, 8, 2, generator=g)
        place = torch.cat([here[:, :, None] + around, heights.expand(count, 12, 8)[..., None]], -1)
        clouds.append(torch.cat([place, torch.full_like(place[..., :1], 0.5)], -1).flatten(1, 2))
        if step < T - 1:
            pose = vehicle.moved(felt[:, step], felt[:, step + 1])
            away = here + torch.tensor([0.0, moving]) - pose[:, None, :2]
            cos, sin = pose[:, None, 2].cos(), pose[:, None, 2].sin()
            x, y = away.unbind(-1)
            here = torch.stack([cos * x + sin * y, cos * y - sin * x], -1)
    observation = {"points": torch.stack(clouds, 1), "proprioception": felt}
    return Segment(observation, action, felt.clone())


def test_it_looks_at_directions_of_latents_alone():
    model, bev = make_model(), torch.rand(2, 3, 8, 4, 5)
    bev[0, 0, :, 1, 2] = 0
    louder = bev * torch.logspace(-2, 2, 20).view(4, 5)
    seen = model.look({"bev": bev})
    torch.testing.assert_close(seen, model.look({"bev": louder}))
    assert not seen[0, 0, :, 1, 2].any()
    torch.testing.assert_close(seen[1].norm(dim=1), torch.full((3, 4, 5), 8**0.5))


def test_before_training_nothing_is_thought_to_move():
    model, some = make_model().eval(), clips(2)
    found = imagine(model, some)
    assert torch.equal(found.latent, nobody_moves(model, found)[0]) and found.seen.shape[:3] == (2, T, 8)
    assert found.latent.shape[1] == T - 2 and found.known.float().mean() > 0.5
    measured = measure_driving(model, some)
    assert measured["latent_ratio"] == pytest.approx(1.0)


def test_posts_that_stand_are_where_our_motion_says():
    """Cells of posts, carried along, cover those that are seen a step later far better than they did as they were."""
    model, some = make_model(), clips(6)
    taken = model.view.obstacles(some.observation).float()
    moves = model.vehicle.moved(some.observation["proprioception"][:, :-1], some.observation["proprioception"][:, 1:])
    carried = model.area.carried(taken[:, :-1].flatten(0, 1)[:, None], moves.flatten(0, 1))[:, 0]
    after, before = taken[:, 1:].flatten(0, 1), taken[:, :-1].flatten(0, 1)
    assert (carried * after).sum() > 1.5 * (before * after).sum()


def test_each_term_trains_its_own_part():
    model, some = make_model().train(), clips(3)
    for kept, parts in (
        ("prediction", {"predictor"}),
        ("obstacles", {"obstacle"}),
        ("response", {"response"}),
    ):
        system = BevWorldSystem(model, {name: float(name == kept) for name in WEIGHTS})
        model.zero_grad()
        losses = system(some)
        assert set(losses) == {*WEIGHTS, "total"}
        losses["total"].backward()
        moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        assert moved == parts
    assert not any(p.requires_grad for p in model.encoder.parameters()) and not model.encoder.training


@pytest.mark.slow
def test_what_moves_is_learned():
    """Against the guess that nobody moves, which is as good as it gets for a model that learns nothing."""
    model = make_model()
    system = BevWorldSystem(model, WEIGHTS).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 3e-3)
    for step in range(300):
        optimizer.zero_grad()
        system(clips(8, step, moving=0.8))["total"].backward()
        optimizer.step()
    held_out = clips(40, 10_000, moving=0.8)
    measured = measure_driving(model.eval(), held_out)
    assert measured["latent_ratio"] < 0.8
    assert measured["obstacle_iou"] > measured["still_obstacle_iou"] + 0.1
    assert measured["moved_iou"] > 0.2
    assert measured["speed_error"] < 0.15 and measured["steer_error"] < 0.02
    pictures = drive_pictures(model, held_out.map(lambda x: x[:2]))
    assert {picture.shape for picture in pictures.values()} == {(2, *model.area.shape[::-1], 3)}


def test_stored_latents_train_as_sweeps_do():
    model, some = make_model(), clips(2)
    system = BevWorldSystem(model, WEIGHTS).train()
    pieces = [model.view.columns({"points": some.observation["points"][i : i + 1]}) for i in range(len(some.action))]
    stored = {name: torch.stack([torch.from_numpy(piece[name]) for piece in pieces]) for name in pieces[0]}
    stored["proprioception"] = some.observation["proprioception"]
    torch.manual_seed(0)
    live = system(some)
    kept = system(Segment(stored, some.action, some.state))
    for name, value in live.items():
        torch.testing.assert_close(kept[name], value, atol=2e-3, rtol=2e-3)


def test_a_plan_leads_where_its_actions_do():
    model = make_model().eval()
    felt, action = torch.tensor([[4.0, 0.1]]), torch.rand(1, 3, 6, 2) * 2 - 1
    poses, then = model.driven(felt[:, None].expand(-1, 3, -1), action)
    assert poses.shape == (1, 3, 6, 3) and then.shape == (1, 3, 6, 2)
    first = model.response(felt, action[:, 1, 0])
    torch.testing.assert_close(then[:, 1, 0], first)
    torch.testing.assert_close(poses[:, 1, 0], model.vehicle.moved(felt, first))


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="expected prediction, obstacles, response, got prediction"):
        BevWorldSystem(make_model(), {"prediction": 1.0})
    short = clips(1).map(lambda x: x[:, :1] if x.shape[1] == T - 1 else x[:, :2])
    with pytest.raises(ValueError, match=r"train\.clip_frames >= 3"):
        BevWorldSystem(make_model(), WEIGHTS)(short)
    with pytest.raises(ValueError, match="whole cells"):
        BevView(BevEncoder(GRID, (8, 8), 8), RangeImage(8, 64), {"x": (-3.0, 12.8), "y": (-6.4, 6.4)})
