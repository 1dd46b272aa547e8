import numpy as np
import pytest
import torch

from worldjepa.datasets.speckle import DARK, SCENE_NAMES, load_speckle, random_radar_pictures, scene_of_sample


@pytest.mark.parametrize("looks", [1.0, 4.0])
def test_speckle_is_a_factor_of_mean_one_and_variance_one_over_looks(looks):
    observation, labels = random_radar_pictures(12, seed=3, size=48, looks=looks)
    assert observation["amplitude"].shape == (12, 1, 48, 48) and observation["amplitude"].dtype == torch.float32
    assert (observation["amplitude"] > 0).all()
    factors = []
    for number, picture in enumerate(observation["amplitude"].double().numpy()):
        scene = scene_of_sample(3, number, size=48)
        assert scene.label == labels[number] and (scene.reflectivity > 0).all()
        factors.append((picture[0] / scene.gain) ** 2 / scene.reflectivity)
    factors = np.stack(factors)
    assert factors.mean() == pytest.approx(1, abs=0.03) and factors.var() == pytest.approx(1 / looks, rel=0.08)
    neighbours = np.corrcoef(factors[..., 1:].ravel(), factors[..., :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.03, "speckle of neighbours is independent"


def test_there_are_ten_classes_and_gain_says_nothing_of_them():
    scenes = [scene_of_sample(0, number) for number in range(400)]
    labels = np.array([scene.label for scene in scenes])
    assert len(SCENE_NAMES) == 10 and np.bincount(labels, minlength=10).min() >= 20
    gains = 20 * np.log10([scene.gain for scene in scenes])
    assert -10 <= gains.min() < -8 and 8 < gains.max() <= 10
    assert np.abs([gains[labels == label].mean() for label in range(10)]).max() < 4


@pytest.mark.parametrize(
    ("name", "bright", "dark"),
    [("ship", (20, 120), None), ("storage tank", (35, 160), None), ("coast", None, (500, 2600))],
)
def test_scenes_hold_what_they_are_called(name, bright, dark):
    found = [scene_of_sample(1, number) for number in range(300)]
    found = [scene.reflectivity for scene in found if SCENE_NAMES[scene.label] == name]
    for reflectivity in found:
        if bright:  # pixels of the target, of 3,136
            assert bright[0] <= (reflectivity > 3.5).sum() <= bright[1]
        if dark:
            assert dark[0] <= (reflectivity < 2 * DARK[1]).sum() <= dark[1]


def test_a_sample_does_not_depend_on_the_size_of_the_set_and_no_part_has_anothers():
    few, many, other = (random_radar_pictures(n, seed, 40)[0]["amplitude"] for n, seed in ((2, 7), (3, 7), (2, 8)))
    assert torch.equal(few, many[:2]) and not torch.equal(few, other)
    train, held_out = load_speckle(0, num_train=5, num_held_out=4, size=32)
    assert (len(train), len(held_out)) == (5, 4) and train.names == SCENE_NAMES
    assert not torch.equal(train.observation["amplitude"][:4], held_out.observation["amplitude"])


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"size must be a whole number >= 32, got 20"):
        random_radar_pictures(1, seed=0, size=20)
    with pytest.raises(ValueError, match="looks must be > 0, got 0"):
        random_radar_pictures(1, seed=0, looks=0)
    with pytest.raises(ValueError, match=r"count must be a whole number >= 1"):
        random_radar_pictures(0, seed=0)
