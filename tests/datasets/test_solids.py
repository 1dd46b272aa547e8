import numpy as np
import pytest
import torch

from worldjepa.datasets import solids
from worldjepa.datasets.solids import (
    SOLID_NAMES,
    SOLIDS,
    TOLERANCE,
    Solid,
    load_solids,
    random_solids,
    solid_of_sample,
)


def solid_named(name, seed=3):
    body, extent, radius = SOLIDS[name](np.random.default_rng(seed))
    return Solid(SOLID_NAMES.index(name), body, np.array(extent, float), float(radius), yaw=0.7)


def test_points_lie_on_the_solid_of_their_number_and_in_the_unit_ball():
    observation, labels = random_solids(24, seed=5, num_points=77)
    assert observation["points"].shape == (24, 77, 3) and observation["points"].dtype == torch.float32
    assert len(set(labels.tolist())) >= 8
    for number, points in enumerate(observation["points"].numpy()):
        solid = solid_of_sample(5, number)
        assert solid.label == labels[number]
        assert np.abs(solid.distance(points)).max() < TOLERANCE
        assert np.linalg.norm(points, axis=1).max() <= 1 + 2 * TOLERANCE


@pytest.mark.parametrize("name", SOLID_NAMES)
def test_a_distance_is_the_distance_to_the_nearest_point(name):
    solid, rng = solid_named(name), np.random.default_rng(0)
    surface = solid.sample_surface(4000, rng)
    assert np.linalg.norm(surface, axis=1).max() == pytest.approx(1, abs=0.05)  # the corner itself is never drawn
    probes = 0.6 * rng.uniform(-1, 1, (60, 3))
    nearest = np.linalg.norm(probes[:, None] - surface, axis=-1).min(1)
    assert np.abs(solid.distance(probes)) == pytest.approx(nearest, abs=0.06)
    assert solid.distance(np.array([[1.5, 0, 0]])) > 0.4


def test_a_box_has_points_by_the_area_of_its_faces():
    solid = solid_named("box")
    points = solid.radius * solid.sample_surface(20000, np.random.default_rng(1)) @ solid._turn()
    a, b, c = solid.extent
    shares = [(np.abs(np.abs(points[:, i]) - solid.extent[i]) < 1e-3).mean() for i in range(3)]
    assert shares == pytest.approx(np.array([b * c, a * c, a * b]) / (b * c + a * c + a * b), abs=0.02)


def test_a_torus_has_points_by_area_inside_and_outside_of_its_ring():
    solid = solid_named("torus")
    points = solid.radius * solid.sample_surface(20000, np.random.default_rng(1))
    thin = solid.extent[2]  # by Pappus the outer half has 1/2 + thin / pi of the area for a ring of radius 1
    assert (np.hypot(points[:, 0], points[:, 1]) > 1).mean() == pytest.approx(0.5 + thin / np.pi, abs=0.015)


def test_a_sample_does_not_depend_on_the_size_of_the_set():
    few, many, other = (random_solids(n, seed, 16)[0]["points"] for n, seed in ((2, 7), (3, 7), (2, 8)))
    assert torch.equal(few, many[:2]) and not torch.equal(few, other)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"count must be a whole number >= 1, got 0"):
        random_solids(0, seed=0)
    with pytest.raises(ValueError, match=r"num_points must be a whole number >= 8, got 3"):
        random_solids(1, seed=0, num_points=3)
    with pytest.raises(ValueError, match=r"seed must be a whole number >= 0, got -1"):
        random_solids(1, seed=-1)


def test_solids_are_kept_and_the_held_out_ones_are_others(tmp_path, monkeypatch):
    train, held_out = load_solids(4, num_train=3, num_held_out=2, num_points=16, folder=tmp_path)
    assert train.observation["points"].shape == (3, 16, 3) and len(held_out) == 2 and train.names == SOLID_NAMES
    points, labels = random_solids(3, 8, 16)
    assert torch.equal(train.observation["points"], points["points"]) and torch.equal(train.labels, labels)
    assert not torch.equal(train.observation["points"][:2], held_out.observation["points"])
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(solids, "draw_solid", None)  # not made again
    again, _ = load_solids(4, num_train=3, num_held_out=2, num_points=16, folder=tmp_path)
    assert torch.equal(train.observation["points"], again.observation["points"])
