import math

import pytest
import torch

from worldjepa.voxels import (
    KITTI,
    NUSCENES,
    STREET,
    VoxelGrid,
    bev_occupied,
    bev_shape,
    points_in_boxes,
    voxel_cells,
    voxel_coords,
    voxel_keys,
    voxelize,
)

GRID = VoxelGrid((-1.0, 2.0, -0.5), (2.5, 5.0, 0.5), (0.5, 0.6, 0.2))
"""5 x 5 x 7 voxels along z, y, x."""


def cloud(count: int, seed: int = 0, margin: float = 0.3) -> torch.Tensor:
    """Points in and around GRID."""
    chance = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed))
    low, high = torch.tensor([*GRID.low, 0.0]), torch.tensor([*GRID.high, 1.0])
    return low - margin + chance * (high - low + 2 * margin)


def test_a_voxel_holds_the_mean_of_its_points():
    points = cloud(211)
    voxels = voxelize([points], GRID)
    by_voxel = {}
    for point in points.double().tolist():
        place = tuple(math.floor((point[a] - GRID.low[a]) / GRID.size[a]) for a in (2, 1, 0))
        if all(0 <= index < count for index, count in zip(place, (5, 5, 7), strict=True)):
            by_voxel.setdefault((0, *place), []).append(point)
    assert 20 < sum(map(len, by_voxel.values())) < 211
    assert [tuple(place) for place in voxels.coords.tolist()] == sorted(by_voxel)
    for place, features, count in zip(sorted(by_voxel), voxels.features, voxels.num_points, strict=True):
        torch.testing.assert_close(features, torch.tensor(by_voxel[place]).mean(0), atol=1e-6, rtol=1e-6)
        assert count == len(by_voxel[place])


def test_nothing_is_capped_and_nothing_depends_on_the_order():
    points = torch.cat([cloud(97), torch.tensor([[0.1, 2.1, 0.0, 0.5]]).expand(1000, 4)])
    voxels, turned = voxelize([points], GRID), voxelize([points.flip(0)], GRID)
    assert voxels.num_points.max() >= 1000 and torch.equal(voxels.coords, turned.coords)
    torch.testing.assert_close(voxels.features, turned.features, atol=1e-6, rtol=0)


def test_a_cloud_gives_the_same_voxels_in_any_batch():
    clouds = [cloud(31), torch.zeros(0, 4), cloud(53, seed=1)]
    together = voxelize(clouds, GRID)
    assert together.batch_size == 3
    for sample, points in enumerate(clouds):
        alone, mine = voxelize([points], GRID), together.subset(together.coords[:, 0] == sample)
        assert torch.equal(alone.coords[:, 1:], mine.coords[:, 1:]) and mine.batch_size == 3
        assert torch.equal(alone.features, mine.features) and torch.equal(alone.num_points, mine.num_points)


@pytest.mark.parametrize("points", [torch.zeros(0, 4), cloud(7) + 100])
def test_clouds_without_points_in_the_grid_have_no_voxels(points):
    voxels = voxelize([points, points], GRID)
    assert len(voxels) == 0 and voxels.features.shape == (0, 4) and voxels.batch_size == 2
    occupied = bev_occupied(voxels, 2)
    assert occupied.shape == (2, 3, 4) and not occupied.any()


def test_low_faces_belong_to_the_grid_and_high_ones_do_not():
    low, high = torch.tensor([[*GRID.low, 0.0]]), torch.tensor([[*GRID.high, 0.0]])
    assert voxelize([low], GRID).coords.tolist() == [[0, 0, 0, 0]]
    for axis in range(3):
        on_high = low.clone()
        on_high[0, axis] = high[0, axis]
        assert len(voxelize([on_high], GRID)) == 0
    assert voxelize([torch.nextafter(high, low)], GRID).coords.tolist() == [[0, 4, 4, 6]]


def test_cells_gather_the_voxels_above_them():
    voxels = voxelize([cloud(31), cloud(29, seed=1)], GRID)
    assert bev_shape(voxels.shape, 3) == (2, 3)
    occupied = torch.zeros(2, 2, 3, dtype=torch.bool)
    for sample, _, y, x in voxels.coords.tolist():
        occupied[sample, y // 3, x // 3] = True
    assert torch.equal(bev_occupied(voxels, 3), occupied)
    mask = torch.zeros(2, 2, 3, dtype=torch.bool)
    mask[0, 1, 0] = mask[1, 0, 2] = True
    kept = voxels.subset(mask.flatten()[voxel_cells(voxels, 3)])
    assert torch.equal(bev_occupied(kept, 3), occupied & mask)
    # a mask and its opposite share the voxels out
    left = voxels.subset(~mask.flatten()[voxel_cells(voxels, 3)])
    assert len(kept) + len(left) == len(voxels) and 0 < len(kept) < len(voxels)


@pytest.mark.parametrize("spare", [0, 1])
def test_keys_are_in_the_order_of_their_voxels(spare):
    coords = torch.cartesian_prod(*(torch.arange(count) for count in (2, 3, 5, 7)))
    keys = voxel_keys(coords, (3, 5, 7), spare)
    assert (keys[1:] > keys[:-1]).all()
    if not spare:
        assert keys.tolist() == list(range(210)) and torch.equal(voxel_coords(keys, (3, 5, 7)), coords)


def test_presets_have_the_published_sizes():
    assert KITTI.shape == (40, 1600, 1408) and bev_shape(KITTI.shape, 8) == (200, 176)
    assert NUSCENES.shape == (40, 1024, 1024)
    assert STREET.shape == (16, 512, 512) and [bev_shape(STREET.shape, stride)[0] for stride in (4, 8)] == [128, 64]


@pytest.mark.parametrize(
    ("low", "high", "size", "said"),
    [
        ((0, 0), (1, 1, 1), (1, 1, 1), "three finite numbers"),
        ((0, 0, 0), (1, 1, math.nan), (1, 1, 1), "grid.high: expected three finite"),
        ((0, 0, 0), (1, 1, 1), (1, 0.3, 1), r"along y: .* is 3.33333 voxels"),
        ((0, 0, 0), (1, 1, 1), (1, 1, -1), "along z"),
        ((0, 0, 0), (-1, 1, 1), (1, 1, 1), "along x: expected low < high"),
    ],
)
def test_grids_that_are_none_are_refused(low, high, size, said):
    with pytest.raises(ValueError, match=said):
        VoxelGrid(low, high, size)


def test_clouds_that_are_none_are_refused():
    with pytest.raises(ValueError, match="at least one cloud"):
        voxelize([], GRID)
    with pytest.raises(ValueError, match=r"sample 1: expected points \(N,4\).*got \(7, 5\)"):
        voxelize([cloud(5), torch.zeros(7, 5)], GRID)
    broken = cloud(5)
    broken[2, 0], broken[2, 3], broken[4, 1] = math.nan, math.inf, -math.inf
    with pytest.raises(ValueError, match="sample 1: expected finite points, got NaN or infinity in 2 of 5"):
        voxelize([cloud(3), broken], GRID)


def test_points_are_in_boxes_that_turn_with_their_yaw():
    # 4 m long, 2 m wide, 1 m high, pointing from x a sixth of a turn towards y
    angle = math.pi / 3
    boxes = torch.tensor([[10.0, 5.0, 1.0, 4.0, 2.0, 1.0, angle], [10.0, 5.0, 1.0, 4.0, 2.0, 1.0, 0.0]])
    ahead = torch.tensor([math.cos(angle), math.sin(angle), 0.0])
    left, up = torch.tensor([-math.sin(angle), math.cos(angle), 0.0]), torch.tensor([0.0, 0.0, 1.0])
    steps = [(1.9, 0, 0), (2.1, 0, 0), (0, 0.9, 0), (0, -1.1, 0), (0, 0, 0.49), (0, 0, -0.51), (-1.9, -0.9, -0.49)]
    points = torch.stack([boxes[0, :3] + a * ahead + b * left + c * up for a, b, c in steps])
    found = points_in_boxes(torch.cat([points, torch.rand(7, 1)], 1), boxes)
    assert found[:, 0].tolist() == [True, False, True, False, True, False, True]
    assert found[:, 1].tolist() == [False, False, True, True, True, False, False]
    assert points_in_boxes(points, boxes[:0]).shape == (7, 0)
    with pytest.raises(ValueError, match=r"boxes \(M,7\).*got \(7, 3\) and \(2, 8\)"):
        points_in_boxes(points, torch.zeros(2, 8))
