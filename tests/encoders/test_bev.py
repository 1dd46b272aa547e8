from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from worldjepa.encoders.bev import BevEncoder, Downsample3d, SiteNorm, Sites, SubmanifoldConv3d
from worldjepa.voxels import STREET, VoxelGrid, Voxels, bev_occupied, voxel_cells, voxelize

SHAPE = (5, 7, 6)
GRID = VoxelGrid((0.0, -4.0, -1.0), (8.0, 4.4, 1.4), (0.2, 0.2, 0.3))
"""8 x 42 x 40 voxels along z, y, x, so at stride 8 the last cells along y reach beyond it."""


def some_sites(density: float = 0.3, seed: int = 0) -> torch.Tensor:
    """Coordinates in 3 clouds, of which the second is empty; corners are active."""
    active = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(seed)) < density
    active[:, [0, 0, -1, -1], [0, -1, 0, -1], [0, -1, -1, 0]] = True
    active[1] = False
    return active.nonzero()


def dense(x: torch.Tensor, coords: torch.Tensor, shape=SHAPE, clouds: int = 3) -> torch.Tensor:
    """(V,C) at their places in (B,C,Z,Y,X), zeros elsewhere."""
    out = x.new_zeros(clouds, *shape, x.shape[1])
    return out.index_put(tuple(coords.T), x).permute(0, 4, 1, 2, 3)


def read(volume: torch.Tensor, coords: torch.Tensor) -> torch.Tensor:
    return volume.permute(0, 2, 3, 4, 1)[tuple(coords.T)]


def clouds(*counts: int, grid: VoxelGrid = GRID) -> list[torch.Tensor]:
    chance = torch.Generator().manual_seed(0)
    low, high = torch.tensor([*grid.low, 0.0]), torch.tensor([*grid.high, 1.0])
    # thick near one corner, thin far away
    return [low + torch.rand(count, 4, generator=chance) ** 2 * (high - low) for count in counts]


def encoder(seed: int = 0, **kwargs) -> BevEncoder:
    """Small, for GRID, with norms that are not the identity."""
    torch.manual_seed(seed)
    made = BevEncoder(**{"grid": GRID, "widths": (3, 5, 4, 7), "bev_dim": 11} | kwargs)
    for module in made.modules():
        if isinstance(module, SiteNorm):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -0.2, 0.5)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    return made


@pytest.mark.parametrize("density", [0.02, 0.3, 1.0])
def test_submanifold_convolution_is_a_convolution_read_at_active_sites(density):
    coords = some_sites(density)
    ours = SubmanifoldConv3d(4, 3).double()
    theirs = nn.Conv3d(4, 3, 3, padding=1, bias=False).double()
    with torch.no_grad():
        theirs.weight.copy_(ours.weight.view(3, 3, 3, 4, 3).permute(4, 3, 0, 1, 2))
    x = torch.randn(len(coords), 4, dtype=torch.double, requires_grad=True)
    out, expected = ours(x, Sites(coords, SHAPE)), read(theirs(dense(x, coords)), coords)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)
    towards = torch.randn_like(out)
    (grad, weight), (grad_there, weight_there) = (
        torch.autograd.grad(y, (x, layer.weight), towards) for y, layer in ((out, ours), (expected, theirs))
    )
    torch.testing.assert_close(grad, grad_there, atol=1e-12, rtol=0)
    torch.testing.assert_close(weight.view(3, 3, 3, 4, 3).permute(4, 3, 0, 1, 2), weight_there, atol=1e-12, rtol=0)


def test_downsampling_is_a_convolution_of_stride_two_and_active_above_what_is():
    coords, shape = some_sites(0.1), (3, 4, 3)
    ours = Downsample3d(4, 3).double()
    x = torch.rand(len(coords), 4, dtype=torch.double)
    out, sites = ours(x, Sites(coords, SHAPE))
    padded = F.pad(dense(x, coords), [0, 0, 0, 1, 0, 1])  # odd sides, along z and y, are rounded up
    volume = F.conv3d(padded, ours.weight.view(2, 2, 2, 4, 3).permute(4, 3, 0, 1, 2), stride=2)
    active = F.max_pool3d(padded.amax(1, keepdim=True), 2)[:, 0] > 0
    assert sites.shape == shape and torch.equal(sites.coords, active.nonzero())
    torch.testing.assert_close(dense(out, sites.coords, shape), volume, atol=1e-12, rtol=0)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_encoder_is_dense_convolutions_masked_at_every_level(depth):
    made = encoder(depth=depth).eval().double()
    voxels = voxelize(clouds(301, 0, 97), GRID)
    x = made._inputs(voxels)
    volume, active = dense(x, voxels.coords, GRID.shape), dense(x[:, :1] * 0 + 1, voxels.coords, GRID.shape)

    def convolved(volume, layer, norm, size, **kwargs):
        weight = layer.weight.view(size, size, size, *layer.weight.shape[1:]).permute(4, 3, 0, 1, 2)
        volume = F.conv3d(volume, weight, **kwargs)
        return F.relu(norm(volume.movedim(1, -1).flatten(0, -2)).view(*volume.movedim(1, -1).shape).movedim(-1, 1))

    for level in made.levels:
        if level.down is not None:
            odd = [side % 2 for side in volume.shape[2:]]
            pad = [0, odd[2], 0, odd[1], 0, odd[0]]
            active = F.max_pool3d(F.pad(active, pad), 2)
            volume = active * convolved(F.pad(volume, pad), level.down, level.down_norm, 2, stride=2)
        for conv, norm in zip(level.convs, level.norms, strict=True):
            volume = active * convolved(volume, conv, norm, 3, padding=1)
    columns = torch.einsum("bczyx,zcd->byxd", volume, made.project.weight)
    normed = F.relu(made.norm(columns.flatten(0, 2)).view(columns.shape)) * active.amax((1, 2))[..., None]
    expected = normed.movedim(-1, 1)
    found = made(voxels)
    assert found.shape == (3, 11, 6, 5) and found.abs().max() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_inputs_say_where_the_points_lie_in_their_voxel():
    point = [GRID.low[0] + 3.75 * 0.2, GRID.low[1] + 6.5 * 0.2, GRID.low[2] + 1.1 * 0.3, 0.6]
    inputs = encoder()._inputs(voxelize([torch.tensor([point])], GRID))
    expected = [0.25, 0.0, -0.4, 2 * 1.5 / 8 - 1, 0.6]
    torch.testing.assert_close(inputs, torch.tensor([expected]), atol=1e-4, rtol=0)


def test_latents_do_not_depend_on_the_batch():
    made, every = encoder().eval(), clouds(301, 0, 97, 211)
    together = made(voxelize(every, GRID))
    for sample, points in enumerate(every):
        torch.testing.assert_close(together[sample], made(voxelize([points], GRID))[0], atol=1e-6, rtol=0)


def test_cells_without_points_are_zero_and_others_are_not():
    made = encoder().eval()
    voxels = voxelize(clouds(61, 0, 17), GRID)
    occupied = bev_occupied(voxels, made.stride)
    assert 5 < occupied.sum() < occupied.numel() / 2
    assert torch.equal((made(voxels) != 0).any(1), occupied)


def test_what_is_left_out_of_the_voxels_is_not_seen():
    """As the target encoder's: of masked cells alone, however the others look."""
    made, voxels = encoder().eval(), voxelize(clouds(301, 97), GRID)
    mask = torch.rand(2, *made.bev_shape, generator=torch.Generator().manual_seed(1)) < 0.5
    keep = mask.flatten()[voxel_cells(voxels, made.stride)]
    seen = made(voxels.subset(keep))
    assert torch.equal((seen != 0).any(1), bev_occupied(voxels, made.stride) & mask)
    other = clouds(301, 97)
    for points in other:
        points[:, 3] = 1 - points[:, 3]
    changed = voxelize(other, GRID)
    changed.features[keep] = voxels.features[keep]
    assert torch.equal(made(changed.subset(keep)), seen) and not torch.equal(made(changed), made(voxels))


@pytest.mark.parametrize("depth", [1, 2])
def test_a_latent_sees_as_far_as_its_convolutions_reach_along_active_voxels(depth):
    """A voxel to either side per convolution, at strides 1, 2, 4 and 8; a gap of an empty cell is not bridged."""
    made = encoder(depth=depth, grid="street", widths=(16, 16, 16, 16)).eval()
    row = torch.zeros(256, 4)
    row[:, 0] = STREET.low[0] + 0.05 + 0.1 * torch.arange(256)  # one in every voxel, 32 cells
    before = made(voxelize([row], STREET))
    row[100, 3] = 1.0
    cells = (made(voxelize([row], STREET)) != before).any(1)[0, 32]
    changed = cells.nonzero().flatten().tolist()
    # level by level: which places of stride 1, 2, 4, 8 the change can reach
    first = last = 100
    for level in range(4):
        first, last = (first // 2, last // 2) if level else (first, last)
        first, last = first - depth, last + depth
    assert changed[0] >= first and changed[-1] <= last and len(changed) > 1
    # of three cells in a row the middle one is taken away: what is left is blind to each other
    short = row[:24]
    both = made(voxelize([torch.cat([short[:8], short[16:]])], STREET))
    torch.testing.assert_close(both[..., 0], made(voxelize([short[:8]], STREET))[..., 0], atol=1e-6, rtol=0)
    assert not torch.allclose(both[..., 0], made(voxelize([short], STREET))[..., 0], atol=1e-4)


def test_a_thing_looks_the_same_wherever_it_stands():
    made, points = encoder().eval(), clouds(97)[0]
    points[:, :2] = torch.tensor(GRID.low[:2]) + 1.65 + points[:, :2].remainder(2.9)  # in cells 1 and 2
    moved = points.clone()
    moved[:, 0] += 2 * 8 * 0.2
    here, there = made(voxelize([points], GRID)), made(voxelize([moved], GRID))
    torch.testing.assert_close(there[..., 2:], here[..., :-2], atol=1e-3, rtol=0)
    assert here.abs().max() > 0.1 and not there[..., :3].any()


def test_gradients_reach_every_weight_and_every_point():
    made, voxels = encoder(depth=2), voxelize(clouds(301, 97), GRID)
    voxels.features.requires_grad_()
    made(voxels).square().mean().backward()
    assert all(weight.grad.abs().max() > 0 for weight in made.parameters())
    assert (voxels.features.grad.abs().amax(1) > 0).float().mean() > 0.95


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("points", [0, 1])
def test_too_few_points_for_statistics_are_no_error(points, training):
    made = encoder().train(training)
    before = {name: value.clone() for name, value in made.named_buffers()}
    latents = made(voxelize([*clouds(points), torch.zeros(0, 4)], GRID))
    assert latents.shape == (2, 11, 6, 5) and latents.isfinite().all()
    assert int((latents != 0).any(1).sum()) == points
    latents.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in made.parameters())
    assert all(torch.equal(value, before[name]) for name, value in made.named_buffers())


def test_three_levels_give_cells_of_four_voxels():
    made = encoder(grid="street", widths=(8, 8, 8), bev_dim=3).eval()
    voxels = voxelize(clouds(97, grid=STREET), STREET)
    assert (made.stride, made.bev_shape, made.latent_dim) == (4, (128, 128), 3)
    assert torch.equal((made(voxels) != 0).any(1), bev_occupied(voxels, 4))


def test_its_configuration_builds_it():
    config = OmegaConf.load(Path(__file__).parents[2] / "configs" / "encoder" / "bev.yaml")
    made = instantiate(config)
    assert isinstance(made, BevEncoder) and made.grid == STREET
    assert made.bev_shape == (64, 64) and made.latent_dim == config.bev_dim
    config.grid = {
        "_target_": "worldjepa.voxels.VoxelGrid",
        "low": [0, 0, 0],
        "high": [4, 3.2, 1],
        "size": [0.2, 0.2, 0.25],
    }
    assert instantiate(config).bev_shape == (2, 3)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"unknown grid 'kiti'.*did you mean 'kitti'"):
        BevEncoder("kiti")
    with pytest.raises(ValueError, match="at least one width and a depth of at least 1"):
        encoder(depth=0)
    voxels = voxelize(clouds(7), GRID)
    with pytest.raises(ValueError, match=r"expected voxels of a grid \(16, 512, 512\) .*got \(8, 42, 40\)"):
        BevEncoder("street", widths=(2, 2), bev_dim=3)(
            Voxels(voxels.coords, voxels.features, voxels.num_points, 1, voxels.shape)
        )
