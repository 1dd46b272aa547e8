import math

import pytest
import torch

from worldjepa.tokenizers.points import PointTokenizer, farthest_points

B, N, P, K = 3, 53, 7, 5


def clouds(batch: int = B, points: int = N) -> torch.Tensor:
    return torch.randn(batch, points, 3, generator=torch.Generator().manual_seed(0))


def test_centres_are_farthest_points_by_definition():
    points = clouds()
    for cloud, found in zip(points, farthest_points(points, P), strict=True):
        taken = [max(range(N), key=lambda i: math.dist(cloud[i], cloud.mean(0)))]
        while len(taken) < P:
            taken.append(max(range(N), key=lambda i: min(math.dist(cloud[i], cloud[j]) for j in taken)))
        assert found.tolist() == taken


def test_a_patch_holds_the_nearest_points_relative_to_its_centre():
    points = clouds()
    tokens = PointTokenizer(P, K)({"points": points})
    assert tokens.values.shape == (B, P, 3 * K) and tokens.coords.shape == (B, P, 3)
    assert tokens.valid.all() and not tokens.pinned.any()
    offsets = tokens.values.view(B, P, K, 3)
    assert (offsets[:, :, 0] == 0).all(), "the nearest is the centre itself"
    for cloud, centres, patches in zip(points, tokens.coords, offsets, strict=True):
        for centre, patch in zip(centres, patches, strict=True):
            nearest = sorted(cloud.tolist(), key=lambda p: math.dist(p, centre))[:K]
            torch.testing.assert_close(patch + centre, torch.tensor(nearest))


def test_a_cloud_has_the_same_patches_in_any_batch_and_order_of_points():
    points, tokenizer = clouds(), PointTokenizer(P, K)
    tokens = tokenizer({"points": points})
    alone = tokenizer({"points": points[1:2]})
    assert torch.equal(tokens.values[1:2], alone.values) and torch.equal(tokens.coords[1:2], alone.coords)
    shuffled = tokenizer({"points": points[:, torch.randperm(N)]})
    assert torch.equal(tokens.values, shuffled.values) and torch.equal(tokens.coords, shuffled.coords)


def test_a_turn_about_the_vertical_leaves_the_distances_within_patches():
    c, s = math.cos(0.7), math.sin(0.7)
    turn = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    tokenizer = PointTokenizer(P, K)
    before, after = (tokenizer({"points": points}) for points in (clouds(), clouds() @ turn.T))
    torch.testing.assert_close(before.coords @ turn.T, after.coords)
    distances = [torch.pdist(tokens.values.view(-1, K, 3)[4]) for tokens in (before, after)]
    torch.testing.assert_close(*distances)
    assert not torch.allclose(before.values, after.values, atol=0.1)


def test_fitted_offsets_have_unit_size_whatever_the_clouds_size():
    tokenizer, points = PointTokenizer(P, K), {"points": 0.01 * clouds()}
    for _ in range(2):  # a second fit changes nothing
        tokenizer.fit(points)
        assert float(tokenizer(points).values.square().mean()) == pytest.approx(1, rel=1e-4)
    assert {"scale", "reach"} <= tokenizer.state_dict().keys()
    farthest = clouds().norm(dim=-1).max()
    torch.testing.assert_close(tokenizer(points).coords, PointTokenizer(P, K)({"points": clouds()}).coords / farthest)


def test_refusals_name_the_setting():
    for tokenizer, setting in ((PointTokenizer(54, K), "num_centres"), (PointTokenizer(P, 54), "num_neighbours")):
        with pytest.raises(ValueError, match=rf">= {setting} \(54\) points, got 53; lower {setting}"):
            tokenizer({"points": clouds()})
    broken = clouds()
    broken[1, 2, 0] = torch.nan
    with pytest.raises(ValueError, match="points must be finite"):
        PointTokenizer(P, K)({"points": broken})
    for wrong in (clouds()[..., :2], clouds()[0], clouds().double()):
        with pytest.raises(ValueError, match=r"points must be float32 \(B, N, 3\)"):
            PointTokenizer(P, K)({"points": wrong})
    with pytest.raises(ValueError, match="num_centres must be >= 1, got 0"):
        PointTokenizer(0, K)
