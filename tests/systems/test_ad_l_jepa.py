from functools import partial

import pytest
import torch

from worldjepa.encoders.bev import BevEncoder
from worldjepa.objectives.bev import CellPrediction, CellSpread
from worldjepa.objectives.weighted_sum import WeightedSum
from worldjepa.predictors.bev import BevPredictor
from worldjepa.samplers.cells import CellMask
from worldjepa.samplers.cloud_views import TurnAndFlip
from worldjepa.sweeps import RangeImage, clouds_of
from worldjepa.systems.ad_l_jepa import AdLJepa, BevModel
from worldjepa.targets import Ema
from worldjepa.types import BevPrediction, Segment
from worldjepa.voxels import VoxelGrid, bev_occupied, voxel_cells, voxelize

GRID = VoxelGrid((-3.2, -3.2, -0.8), (3.2, 3.2, 0.8), (0.1, 0.1, 0.2))


def clouds(count: int, seed: int = 0) -> list[torch.Tensor]:
    """Things of points here and there; their numbers differ from cloud to cloud."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index in range(count):
        centres = torch.rand(6 + index, 1, 3, generator=generator) * torch.tensor([6.0, 6.0, 1.2]) - torch.tensor(
            [3.0, 3.0, 0.6]
        )
        points = centres + 0.3 * torch.randn(6 + index, 40, 3, generator=generator)
        found.append(torch.cat([points.flatten(0, 1), torch.rand(40 * (6 + index), 1, generator=generator)], 1))
    return found


def build(seed: int = 0, weights=None) -> AdLJepa:
    torch.manual_seed(seed)
    encoder = BevEncoder(GRID, widths=(8, 8, 16, 16), bev_dim=16)
    model = BevModel(encoder, BevPredictor(16), RangeImage())
    terms = {"prediction": CellPrediction(), "spread": CellSpread()}
    objective = WeightedSum(terms, weights or {"prediction": 1.0, "spread": 1.0})
    return AdLJepa(model, partial(Ema, start=0.9), objective, CellMask())


def padded(found: list[torch.Tensor]) -> torch.Tensor:
    longest = max(map(len, found))
    return torch.stack([torch.cat([x, x.new_full((longest - len(x), 4), torch.nan)]) for x in found])


def test_half_of_each_kind_of_cell_of_each_sample_is_hidden():
    occupied = torch.rand(5, 9, 11, generator=torch.Generator().manual_seed(1)) < torch.linspace(0, 1, 5)[:, None, None]
    hidden = CellMask(0.5, 0.25)(occupied, torch.Generator().manual_seed(0))
    for kind, share in ((occupied, 0.5), (~occupied, 0.25)):
        assert torch.equal((hidden & kind).sum((1, 2)), (share * kind.sum((1, 2))).round().long())
    assert not torch.equal(hidden[0], hidden[1])
    with pytest.raises(ValueError, match="occupied_share"):
        CellMask(1.0)


def test_neither_encoder_sees_what_the_other_does():
    system = build().eval()
    found = clouds(2)
    voxels = voxelize(found, GRID)
    before = system.predict(voxels, torch.Generator().manual_seed(3))
    stride = system.model.encoder.stride
    covered = before.hidden.flatten()[voxel_cells(voxels, stride)]
    assert 0 < covered.sum() < len(covered)
    for moved, same in ((covered, "context"), (~covered, "target")):
        changed = voxelize(found, GRID)
        changed.features[moved, 3] = 9.0
        after = system.predict(changed, torch.Generator().manual_seed(3))
        assert torch.equal(getattr(before, same), getattr(after, same))
        other = "target" if same == "context" else "context"
        assert not torch.allclose(getattr(before, other), getattr(after, other))


def test_tokens_stand_where_nothing_is_seen():
    system = build().eval()
    bev = system.predict(voxelize(clouds(2), GRID), torch.Generator().manual_seed(3))
    hidden_token, empty_token = (
        torch.nn.functional.normalize(token, dim=0) for token in (system.model.hidden_token, system.model.empty_token)
    )
    context = bev.context.movedim(1, -1)
    torch.testing.assert_close(context[bev.hidden], hidden_token.expand(int(bev.hidden.sum()), -1))
    nothing = ~bev.hidden & ~bev.occupied
    torch.testing.assert_close(context[nothing], empty_token.expand(int(nothing.sum()), -1))
    nothing = bev.hidden & ~bev.occupied
    torch.testing.assert_close(
        bev.target.movedim(1, -1)[nothing], empty_token.expand(int(nothing.sum()), -1), check_device=False
    )
    assert (system.model.emptiness(bev.target)[nothing] > 0.999).all()
    for latent in (bev.context, bev.prediction, bev.target):
        torch.testing.assert_close(latent.norm(dim=1).amax(), torch.tensor(1.0))


def test_no_gradient_reaches_the_target():
    system = build(weights={"prediction": 1.0, "spread": 0.0})
    bev = system.predict(voxelize(clouds(2), GRID), torch.Generator().manual_seed(3))
    assert not bev.target.requires_grad and bev.prediction.requires_grad
    system.objective(bev)["total"].backward()
    assert all(weight.grad is None for weight in system.target.parameters())
    assert system.model.hidden_token.grad.abs().sum() > 0


def test_terms_against_their_formulas():
    generator = torch.Generator().manual_seed(0)
    context, prediction, target = torch.nn.functional.normalize(torch.randn(3, 2, 8, 6, 7, generator=generator), dim=2)
    occupied, hidden = torch.rand(2, 2, 6, 7, generator=generator) < 0.5
    bev = BevPrediction(context, prediction, target, occupied, hidden)
    apart = 1 - torch.nn.functional.cosine_similarity(prediction, target, dim=1)
    expected = 0.75 * apart[hidden & occupied].mean() + 0.25 * apart[hidden & ~occupied].mean()
    torch.testing.assert_close(CellPrediction()(bev), expected)
    hinges = []
    for latent, where in ((context, occupied & ~hidden), (prediction, occupied & hidden)):
        samples = []
        for one, kept in zip(latent, where, strict=True):
            spread = (one[:, kept].var(1) + 1e-4).sqrt()
            samples.append((8**-0.5 - spread).clamp_min(0).mean())
        hinges.append(torch.stack(samples).mean())
    torch.testing.assert_close(CellSpread()(bev), sum(hinges))


def test_collapse_costs_the_whole_hinge_and_few_cells_none():
    latent = torch.zeros(1, 4, 3, 3)
    latent[:, 0] = 1.0
    everywhere = torch.ones(1, 3, 3, dtype=torch.bool)
    collapsed = BevPrediction(latent, latent, latent, everywhere, ~everywhere)
    assert CellSpread()(collapsed).item() == pytest.approx(0.5 - 0.01, abs=1e-6)
    assert CellSpread()(BevPrediction(latent, latent, latent, ~everywhere, everywhere)) == 0


def test_an_empty_sweep_among_others_trains_without_a_nan():
    system = build()
    found = [*clouds(2), torch.zeros(0, 4)]
    segment = Segment({"points": padded(found)[:, None]}, torch.zeros(3, 0, 2), torch.zeros(3, 1, 1))
    losses = system(segment, torch.Generator().manual_seed(0))
    losses["total"].backward()
    assert all(torch.isfinite(w.grad).all() for w in system.parameters() if w.grad is not None)


def test_turned_and_mirrored_clouds_keep_their_distances():
    found = clouds(3)
    changed = TurnAndFlip(90.0, 0.1)(found, torch.Generator().manual_seed(0))
    for before, after in zip(found, changed, strict=True):
        ratio = torch.pdist(after[:50, :3]) / torch.pdist(before[:50, :3])
        assert ratio.std() < 1e-4 and 0.9 <= ratio.mean() <= 1.1
        assert torch.equal(before[:, 3], after[:, 3]) and not torch.allclose(before[:, :2], after[:, :2])


def test_a_sweep_becomes_points_where_its_rays_point():
    sensor = RangeImage(beams=3, azimuths=4, elevations=(0.0, -60.0))
    sweep = torch.zeros(3, 4, 2, dtype=torch.float16)
    sweep[0, 1], sweep[2, 2] = torch.tensor([10.0, 0.5]), torch.tensor([2.0, 1.0])
    first, second = sensor.points(sweep)
    half = 0.5**0.5
    torch.testing.assert_close(first, torch.tensor([10 * half, 10 * half, 0.0, 0.5]))  # ahead and to the left
    torch.testing.assert_close(second, torch.tensor([half, -half, -(3.0**0.5), 1.0]), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="the model's sensor"):
        sensor.points(torch.zeros(2, 4, 2))
    with pytest.raises(ValueError, match="points or a sweep"):
        clouds_of({"pixels": sweep}, sensor)


@pytest.mark.slow
def test_learns_where_things_are_hidden():
    """Better than an untrained network, whose every cell is alike, and than calling every cell empty or full."""
    torch.manual_seed(0)
    system = build()
    optimizer = torch.optim.Adam([w for w in system.parameters() if w.requires_grad], lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(300):
        batch = clouds(6, seed=100 + step)
        segment = Segment({"points": padded(batch)[:, None]}, torch.zeros(6, 0, 2), torch.zeros(6, 1, 1))
        loss = system(segment, generator)["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        system.update_target(step / 300)
    system.eval()

    def iou(model: BevModel) -> float:
        voxels = voxelize(clouds(8, seed=7), GRID)
        occupied = bev_occupied(voxels, 8)
        hidden = CellMask()(occupied, torch.Generator().manual_seed(5))
        said = model.emptiness(model.predict(voxels, hidden)[1]) <= 0.5
        truth, said = occupied[hidden], said[hidden]
        return float((truth & said).sum() / (truth | said).sum())

    voxels = voxelize(clouds(8, seed=7), GRID)
    base = float(bev_occupied(voxels, 8).float().mean())
    with torch.no_grad():
        trained, untrained = iou(system.model), iou(build(1).eval().model)
    assert trained > max(untrained, base) + 0.05, (trained, untrained, base)
