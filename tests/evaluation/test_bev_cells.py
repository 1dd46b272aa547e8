import numpy as np
import pytest
import torch

from worldjepa.encoders.bev import BevEncoder
from worldjepa.evaluation.bev import (
    as_segment,
    bev_pictures,
    cell_labels,
    iou,
    measure_occupancy,
    neighbour_share,
    num_draws,
    probe_cells,
    warm_norms,
)
from worldjepa.predictors.bev import BevPredictor
from worldjepa.sweeps import RangeImage
from worldjepa.systems.ad_l_jepa import BevModel
from worldjepa.voxels import VoxelGrid, bev_occupied, voxelize

GRID = VoxelGrid((-1.6, -3.2, -1.0), (1.6, 3.2, 1.0), (0.1, 0.1, 0.25))  # 8 x 4 cells of 0.8 m at stride 8


def test_a_cell_is_what_matters_most_of_what_was_hit_in_it():
    points = torch.tensor([[0.1, 0.1, 0.0, 0.5], [0.2, 0.1, 0.0, 0.5], [-1.5, -3.1, 0.0, 0.5], [9.0, 0.0, 0.0, 0.5]])
    labels = cell_labels(points, torch.tensor([0, 2, 1, 2]), GRID, 8)
    assert labels.shape == (8, 4) and labels[4, 2] == 2 and labels[0, 0] == 1
    assert (labels >= 0).sum() == 2  # what lies outside is in no cell
    assert torch.equal(labels[None] >= 0, bev_occupied(voxelize([points], GRID), 8))


def test_neighbours_that_are_seen_vote():
    occupied = torch.tensor([[[1, 0, 1], [1, 0, 0], [0, 0, 1]]]).bool()
    hidden = torch.tensor([[[0, 0, 1], [0, 1, 0], [0, 0, 0]]]).bool()
    share = neighbour_share(occupied, hidden)
    assert share[0, 1, 1] == pytest.approx(3 / 7)  # the corner is hidden, and nobody votes for himself
    assert share[0, 0, 2] == 0


def test_iou_counts_both_ways_of_being_wrong():
    said, truth = torch.tensor([1, 1, 0, 0]).bool(), torch.tensor([1, 0, 1, 0]).bool()
    assert iou(said, truth) == pytest.approx(1 / 3) and iou(truth, truth) == 1 and iou(said & False, truth & False) == 1


def cells(seed: int, informative: bool):
    """Three kinds, of which cars are few, in 40 sweeps; the latents tell them apart, or say nothing."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.tensor([0.7, 0.2, 0.1]), 2000, True, generator=generator)
    latents = torch.randn(2000, 6, generator=generator)
    if informative:
        latents[:, 0] += 5.0 * labels
    return latents, labels, torch.arange(2000) // 50


def test_the_probe_reads_what_is_there_and_nothing_else():
    told, untold = (probe_cells(cells(0, some), cells(1, some), 0.1) for some in (True, False))
    assert told > 0.9 and untold < 0.4
    assert probe_cells(cells(0, True), cells(1, True), 0.1, seed=1) != told  # other sweeps were labelled


def test_few_labels_are_drawn_more_often():
    assert [num_draws(share) for share in (0.001, 0.01, 0.1, 0.5, 1.0)] == [10, 10, 3, 1, 1]


def model() -> BevModel:
    torch.manual_seed(0)
    return BevModel(BevEncoder(GRID, (4, 4, 4, 4), 8), BevPredictor(8), RangeImage()).eval()


def clouds(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(60, 4, generator=generator) - 0.5) * torch.tensor([3.0, 6.0, 1.0, 1.0]) for _ in range(count)]


@pytest.mark.parametrize("cloud", [torch.zeros(0, 4), torch.full((5, 4), 50.0)], ids=["empty", "outside"])
def test_clouds_with_nothing_in_range_are_known_to_be_empty(cloud):
    measured = measure_occupancy(model(), as_segment([cloud]))
    assert all(np.isfinite(value) for value in measured.values()), measured
    assert measured["occupied_share"] == measured["spread"] == measured["channels_in_use"] == 0
    assert measured["neighbour_iou_empty"] == measured["neighbour_iou_occupied"] == 1


def test_channels_that_never_change_are_not_in_use(monkeypatch):
    one = model()
    predict = one.predict

    def stuck(voxels, hidden):
        context, prediction = predict(voxels, hidden)
        context = torch.randn(context.shape, generator=torch.Generator().manual_seed(0))
        context[:, :2] = 3.0
        return context, prediction

    monkeypatch.setattr(one, "predict", stuck)
    measured = measure_occupancy(one, as_segment(clouds(4)))
    assert measured["channels_in_use"] == 0.75 and measured["spread"] > 1


def test_a_new_networks_norms_learn_the_statistics_and_nothing_else_changes():
    one, before = model(), model().state_dict()
    warm_norms(one, as_segment(clouds(8)))
    assert not one.training
    changed = {name.rpartition(".")[2] for name, x in one.state_dict().items() if not torch.equal(x, before[name])}
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}


def test_pictures_have_ahead_upwards_and_left_to_the_left():
    torch.manual_seed(0)
    model = BevModel(BevEncoder(GRID, (4, 4, 4, 4), 8), BevPredictor(8), RangeImage()).eval()
    ahead_left = torch.tensor([[1.5, 3.1, 0.0, 0.5]])
    pictures = bev_pictures(model, [ahead_left])
    assert pictures["points"].shape == (1, 4, 8, 3)
    assert np.argwhere(pictures["points"][0].any(-1)).tolist() == [[0, 0]]
