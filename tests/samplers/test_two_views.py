import pytest
import torch

from worldjepa.samplers.picture_views import PictureViews


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_two_different_views_in_range_and_the_same_ones_again():
    torch.manual_seed(0)
    pictures = torch.randint(0, 256, (5, 3, 32, 24), dtype=torch.uint8)
    views = PictureViews()(pictures, seeded())
    assert views.shape == (2, 5, 3, 32, 24) and views.dtype == torch.float32
    assert views.min() >= 0 and views.max() <= 255
    assert (views[0] - views[1]).abs().mean() > 5
    assert torch.equal(views, PictureViews()(pictures, seeded()))
    assert not torch.equal(views, PictureViews()(pictures, seeded(1)))


def test_crops_are_parts_of_the_picture_and_half_are_mirrored():
    ramp = torch.arange(64, dtype=torch.uint8).mul(4).expand(400, 3, 64, 64)
    views = PictureViews((0.4, 0.4), jitter=0.0, turn=0.0, grey=0.0, blur=0.0)(ramp, seeded())[0, :, 0]
    slope = views.diff(dim=-1).mean((1, 2))
    assert 0.4 < (slope < 0).float().mean() < 0.6
    # 40 % of the area with sides in a ratio of 3:4 to 4:3 are 55 to 73 % of the width.
    assert 4 * 0.54 < slope.abs().min() and slope.abs().max() < 4 * 0.74
    assert views.diff(dim=-2).abs().max() < 1e-2


def test_nothing_is_seen_in_a_flat_picture_but_its_colour():
    flat = torch.full((4, 3, 16, 16), 90, dtype=torch.uint8)
    views = PictureViews(jitter=0.0, turn=0.0, grey=0.0)(flat, seeded())
    torch.testing.assert_close(views, torch.full_like(views, 90.0))


def test_turning_hues_keeps_the_mean_of_the_channels_and_grey_takes_the_colour_away():
    colored = torch.zeros(6, 3, 16, 16, dtype=torch.uint8)
    colored[:, 0], colored[:, 1], colored[:, 2] = 140, 110, 120
    turned = PictureViews(jitter=0.0, turn=0.5, grey=0.0, blur=0.0)(colored, seeded())
    assert turned.std(2).min() > 5 and turned[:, :, 0].std() > 3  # colours, and others than before
    assert turned.mean(2).std() < 1e-3
    grey = PictureViews(jitter=0.0, turn=0.0, grey=1.0, blur=0.0)(colored, seeded())
    luma = 0.299 * 140 + 0.587 * 110 + 0.114 * 120
    torch.testing.assert_close(grey, torch.full_like(grey, luma), atol=0.01, rtol=0)


def test_an_impossible_crop_is_refused():
    with pytest.raises(ValueError, match="crop must be two shares"):
        PictureViews(crop=(0.5, 1.5))
