import torch

from worldjepa.encoders.point_patches import PointPatchEmbedding, flat_patches

B, P, K, D = 2, 7, 5, 13


def embedding() -> PointPatchEmbedding:
    torch.manual_seed(0)
    return PointPatchEmbedding(D, hidden=(4, 6))


def patches() -> torch.Tensor:
    return torch.randn(B, P, K, 3, generator=torch.Generator().manual_seed(1))


def test_the_order_of_a_patchs_points_means_nothing_and_repeated_points_neither():
    model, x = embedding(), patches()
    before = model(x.flatten(2))
    assert before.shape == (B, P, D)
    torch.testing.assert_close(model(x[:, :, torch.randperm(K)].flatten(2)), before)
    torch.testing.assert_close(model(x[:, :, [0, 1, 2, 3, 4, 2, 2]].flatten(2)), before)


def test_a_patch_is_embedded_from_its_own_points_alone_even_in_training():
    model, x = embedding().train(), patches()
    before = model(x.flatten(2))
    x[0, 3] += 1.0
    differs = (model(x.flatten(2)) != before).any(-1)
    assert differs[0].tolist() == [False] * 3 + [True] + [False] * 3 and not differs[1].any()


def test_every_point_can_matter():
    model, x = embedding(), patches()[:1, :1]
    before = model(x.flatten(2))
    for point in range(K):
        moved = x.clone()
        moved[:, :, point] *= 5
        assert not torch.allclose(model(moved.flatten(2)), before)


def test_it_starts_without_what_all_patches_have_in_common():
    found = embedding()(flat_patches(1000, 32))[0].detach()
    mean = found.mean(0)
    assert float(mean.square().mean()) < 0.1 * float((found - mean).square().mean())


def test_flat_patches_are_planes_of_unit_variance():
    x = flat_patches(500, 20).view(500, 20, 3)
    assert torch.linalg.svdvals(x)[:, 2].max() < 1e-4
    assert abs(float(x.square().mean()) - 1) < 0.05
