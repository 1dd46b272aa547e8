import pytest
import torch

from worldjepa.samplers.crops import Crops

B, CHANNELS, HEIGHT, WIDTH = 3, 2, 20, 24


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(batch: int = B) -> dict[str, torch.Tensor]:
    return {"pixels": torch.randint(0, 256, (batch, CHANNELS, HEIGHT, WIDTH), dtype=torch.uint8, generator=seeded())}


def ramp(batch: int, along: int) -> dict[str, torch.Tensor]:
    """64 x 64 pixels that brighten by 3 grey levels each along one axis."""
    level = (30 + 3 * torch.arange(64, dtype=torch.uint8)).view([64, 1] if along == -2 else [1, 64])
    return {"pixels": level.expand(batch, 1, 64, 64)}


def test_views_are_as_many_and_as_large_as_asked_and_the_same_again():
    crops = Crops(num_global=2, num_local=5, turn=10, shift=0.2, jitter=0.3)
    views = crops(pictures(), seeded())["pixels"]
    assert views.shape == (7, B, CHANNELS, HEIGHT, WIDTH) and views.dtype == torch.uint8
    assert torch.equal(views, crops(pictures(), seeded())["pixels"])
    assert not torch.equal(views, crops(pictures(), seeded(1))["pixels"])
    assert len(views.flatten(2).unique(dim=0)) == 7, "no two views are alike"


def test_a_crop_of_everything_is_the_picture():
    crops = Crops(2, 0, global_area=(1.0, 1.0), aspect=1.0)
    assert torch.equal(crops(pictures(), seeded())["pixels"], pictures()["pixels"].expand(2, -1, -1, -1, -1))


@pytest.mark.parametrize("along", [-1, -2])
def test_crops_have_the_asked_area_within_the_picture(along):
    crops = Crops(1, 1, global_area=(0.64, 0.64), local_area=(0.09, 0.16), aspect=1.0)
    views = crops(ramp(300, along), seeded())["pixels"].float()[:, :, 0]
    side = views.diff(dim=along)[:, :, 5:-5, 5:-5].mean((2, 3)) / 3
    assert (side[0] - 0.8).abs().max() < 0.01
    assert side[1].min() > 0.29 and side[1].max() < 0.41 and side[1].std() > 0.02
    assert views.min() >= 29, "nothing black from outside"
    middles = views[1].mean((1, 2))
    assert middles.min() < 70 and middles.max() > 180, "crops come from all over the picture"


def test_shifted_crops_show_black_from_outside():
    white = {"pixels": torch.full((200, 1, 16, 16), 255, dtype=torch.uint8)}
    views = Crops(2, 0, global_area=(1.0, 1.0), aspect=1.0, shift=0.25)(white, seeded())["pixels"][:, :, 0].float()
    # A quarter of half a side are 2 of 16 pixels: at most as many rows and columns are black.
    seen = (views > 250).float().sum((2, 3))
    assert seen.min() >= 13 * 13 and seen.max() <= 256 and seen.std() > 5


def test_a_turn_is_one_in_a_wide_picture_too():
    bar = torch.zeros(100, 1, 40, 80, dtype=torch.uint8)
    bar[:, :, 19:21, 20:60] = 255
    views = Crops(2, 0, global_area=(1.0, 1.0), aspect=1.0, turn=30.0)({"pixels": bar}, seeded())["pixels"]
    weight = views.flatten(0, 1)[:, 0].double()
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(80.0), indexing="ij")
    y, x, total = y - 19.5, x - 39.5, weight.sum((1, 2))
    xx, yy, xy = ((weight * product).sum((1, 2)) / total for product in (x * x, y * y, x * y))
    angle = torch.rad2deg(0.5 * torch.atan2(2 * xy, xx - yy))
    assert 25 < angle.max() <= 30.5 and -30.5 <= angle.min() < -25
    assert ((xx + yy).sqrt() - (40**2 / 12) ** 0.5).abs().max() < 0.5, "a turned bar is as long as before"


def test_brightness_and_contrast_change():
    flat = {"pixels": torch.full((300, 1, 8, 8), 100, dtype=torch.uint8)}
    views = Crops(2, 0, global_area=(1.0, 1.0), aspect=1.0, jitter=0.3)(flat, seeded())["pixels"].float()
    assert (views.std((2, 3, 4)) < 1e-3).all() and 69 <= views.min() < 75 and 125 < views.max() <= 131


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="two or more views"):
        Crops(num_global=1, num_local=0)
    with pytest.raises(ValueError, match=r"local_area must be 0 < low <= high <= 1"):
        Crops(local_area=(0.0, 0.3))
