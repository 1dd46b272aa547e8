"""Shapes are distances, textures are sums of waves, poses lead there and back."""

import colorsys

import numpy as np
import pytest

from envs.shape_drawing import CLASS_NAMES, SHAPES, farthest, make_textures, paint, to_layer, to_picture


def test_poses_lead_there_and_back():
    rng = np.random.default_rng(0)
    pose, u, v = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    x, y = to_picture(pose, u, v)
    np.testing.assert_allclose(to_layer(pose, x, y), [u, v], atol=1e-12)
    turned = to_picture(np.array([0.5, 0.25, np.pi / 2, np.log(2)]), 1.0, 0.0)
    np.testing.assert_allclose(turned, [0.5, 2.25], atol=1e-12)  # from x towards y


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_shapes_are_distances_within_the_unit_disc(name):
    step = 0.0125
    x, y = np.meshgrid(*(np.arange(-1.2, 1.2 + step, step),) * 2)
    distance = SHAPES[name](x, y)
    inside = distance < 0
    assert np.hypot(x, y)[inside].max() <= 1 and np.hypot(x, y)[inside].max() > 0.8
    assert 0.28 < inside.mean() * x.size * step**2 / np.pi < 0.72
    slope = np.hypot(*np.gradient(distance, step))[np.abs(distance) < 0.05]
    assert np.abs(slope - 1).mean() < 0.02  # but for corners
    crossed = (inside[:, 1:] != inside[:, :-1]) & (np.abs(distance[:, 1:]) > 2 * step)
    assert not crossed.any()


def test_classes_look_different():
    x, y = np.meshgrid(*(np.linspace(-1, 1, 60),) * 2)
    masks = np.stack([distance(x, y) < 0 for distance in SHAPES.values()])
    overlap = (masks[:, None] & masks).sum((2, 3)) / (masks[:, None] | masks).sum((2, 3))
    assert len(CLASS_NAMES) == 12 and (overlap - np.eye(12)).max() < 0.92  # disc and hexagon


def test_textures_are_the_sums_of_waves_they_say():
    texture, pose = make_textures(3, 5, 2)[1], np.array([0.3, 0.8, 1.1, 0.2])
    x, y = np.linspace(0, 1, 5), np.linspace(0, 1, 7)
    points = np.stack(to_layer(pose, *np.meshgrid(x, y)), -1)
    waves = np.cos(2 * np.pi * points @ texture.waves.T + texture.phases)
    np.testing.assert_allclose(paint(texture, pose, x, y), texture.mean + waves @ texture.colours, atol=1e-9)


def test_textures_have_contrast_and_no_period_too_short_to_be_drawn():
    places = np.linspace(0, 4, 200)
    for seed in range(12):
        textures = make_textures(seed, seed, 4)
        means = np.array([texture.mean for texture in textures])
        assert np.linalg.norm(means[:, None] - means, axis=-1)[np.triu_indices(4, 1)].min() > 10
        for texture in textures:
            periods = 64 / np.linalg.norm(texture.waves, axis=-1)
            assert 7.9 < periods.min() < periods.max() < 40.1 and np.ptp(np.log(periods)) > np.log(3.5)
            colours = paint(texture, np.zeros(4), places, places)
            assert 12 < colours.std((0, 1)).mean() < 50
    assert make_textures(3, 0, 4)[0].mean.tolist() != make_textures(4, 0, 4)[0].mean.tolist()


def test_sprites_have_the_hue_of_their_class_and_the_ground_has_any():
    hues = np.array(
        [[[hue(texture.mean) for texture in make_textures(seed, k, 4)] for seed in range(8)] for k in range(12)]
    )
    off = np.abs((hues - np.arange(12)[:, None, None] / 12 + 0.5) % 1 - 0.5)
    assert off[..., 1:].max() < 0.5 / 12  # no two classes share a hue
    assert off[..., 0].max() > 0.3


def hue(colour: np.ndarray) -> float:
    return colorsys.rgb_to_hsv(*colour / 255)[0]


def test_farthest_is_the_one_that_is_lonely():
    draws, there = np.array([[0.0, 0], [5, 5], [9, 9]]), np.array([[0.0, 1], [10, 9]])
    assert farthest(draws, there).tolist() == [5, 5]
    assert farthest(draws, there[:0]).tolist() == [0, 0]
