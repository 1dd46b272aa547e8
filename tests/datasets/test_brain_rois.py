import os
from pathlib import Path

import numpy as np
import pytest
import torch

from worldjepa.datasets.brain_rois import (
    MEMORY,
    connectivity_gradients,
    generated_connectivity,
    gradient_table,
    latents_of_sample,
    load_rois,
    network_loadings,
    random_rois,
    roi_places,
)


def test_the_loadings_give_the_networks_back():
    observation, labels = random_rois(30, seed=3, num_rois=90, num_samples=50)
    assert observation["rois"].shape == (30, 90, 50) and observation["rois"].dtype == torch.float32
    loadings, right = network_loadings(roi_places(90)), 0
    for number, rois in enumerate(observation["rois"].numpy()):
        latents, label = latents_of_sample(3, number, num_samples=50)
        assert label == labels[number]
        found = np.linalg.lstsq(loadings, rois, rcond=None)[0]
        assert np.corrcoef(found.ravel(), latents.ravel())[0, 1] > 0.95
        right += found.std(1).argmax() == label
    assert right >= 24 and len(set(labels.tolist())) == 6


def test_a_network_remembers_as_it_says():
    latents = np.stack([latents_of_sample(0, number)[0] for number in range(60)])
    assert np.corrcoef(latents[..., 1:].ravel(), latents[..., :-1].ravel())[0, 1] == pytest.approx(MEMORY, abs=0.02)


def test_the_first_gradients_of_a_ring_are_its_circle():
    angles = 2 * np.pi * np.arange(60) / 60
    ring = np.exp(4 * np.cos(angles[:, None] - angles))
    gradients = connectivity_gradients(ring, 3, kept=0.25)
    assert np.hypot(*gradients.T[:2]) == pytest.approx(np.hypot(*gradients[0, :2]), rel=1e-6)
    turn = np.unwrap(np.arctan2(*gradients.T[:2]))
    assert np.abs(np.diff(turn)) == pytest.approx(2 * np.pi / 60, rel=1e-6)
    assert np.linalg.norm(gradients[:, 2]) < np.linalg.norm(gradients[:, 1])


def test_gradients_do_not_depend_on_the_order_of_regions_and_vary_smoothly():
    rois = random_rois(20, seed=1, num_rois=80)[0]["rois"].numpy()
    connectivity = np.corrcoef(np.concatenate(list(rois), 1))
    gradients = connectivity_gradients(connectivity, 2)
    order = np.random.default_rng(0).permutation(80)
    assert connectivity_gradients(connectivity[np.ix_(order, order)], 2) == pytest.approx(gradients[order], abs=1e-6)
    places = roi_places(80)
    nearest = np.linalg.norm(places[:, None] - places + 9 * np.eye(80)[..., None], axis=-1).argmin(1)
    assert np.corrcoef(gradients[:, 0], gradients[nearest, 0])[0, 1] > 0.8


def test_a_sample_does_not_depend_on_the_size_of_the_set():
    few, many, other = (random_rois(n, seed)[0]["rois"] for n, seed in ((2, 7), (3, 7), (2, 8)))
    assert torch.equal(few, many[:2]) and not torch.equal(few, other)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"num_rois must be a whole number >= 6, got 5"):
        random_rois(1, seed=0, num_rois=5)
    with pytest.raises(ValueError, match=r"square matrix, got \(2, 3\)"):
        connectivity_gradients(np.ones((2, 3)), 1)
    with pytest.raises(ValueError, match=r"num_gradients must be 1\.\.3 for 5 regions .* got 4"):
        connectivity_gradients(np.ones((5, 5)), 4)
    with pytest.raises(ValueError, match="fall apart"):
        connectivity_gradients(np.kron(np.eye(2), np.ones((4, 4))), 2, kept=0.5)


def test_the_connectivity_of_all_samples_is_that_of_many():
    rois = random_rois(200, seed=4, num_rois=60)[0]["rois"].double().numpy()
    covariance = np.mean([np.cov(x) for x in rois], 0)
    std = np.sqrt(covariance.diagonal())
    assert generated_connectivity(60) == pytest.approx(covariance / np.outer(std, std), abs=0.06)


def test_shuffled_coordinates_are_those_of_other_regions():
    connectivity = generated_connectivity(40)
    table, shuffled = gradient_table(connectivity, 5), gradient_table(connectivity, 5, shuffle_seed=1)
    assert table.shape == (40, 5) and table.dtype == torch.float32
    whose = (shuffled[:, None] == table).all(-1).int().argmax(1)
    assert torch.equal(shuffled, table[whose]) and sorted(whose.tolist()) == list(range(40))
    assert (whose != torch.arange(40)).float().mean() > 0.8
    assert not torch.equal(shuffled, gradient_table(connectivity, 5, shuffle_seed=2))


def test_the_source_has_both_parts_and_names():
    train, held_out = load_rois(3, num_rois=20, num_samples=16, num_train=9, num_held_out=5)
    assert train.observation["rois"].shape == (9, 20, 16) and len(held_out) == 5 and len(train.names) == 6


# Parcels of Schaefer's 400 in their order: seven networks of the left hemisphere, then of the right one.
SCHAEFER = [31, 37, 23, 22, 13, 22, 52, 30, 40, 23, 25, 13, 30, 39]
VISUAL, SOMATOMOTOR, DEFAULT = 0, 1, 6


def test_gradients_of_a_real_cortex_separate_its_networks():
    """The first runs from sensory and motor regions to the default network, the second from motor to visual ones."""
    data = Path(os.environ.get("WORLDJEPA_DATA", Path(__file__).parents[3] / "shared/data"))
    path = data / "fmri/schaefer_400_mean_connectivity_matrix.csv"
    if not path.is_file():
        pytest.skip(f"needs {path}: the mean connectivity of Schaefer's 400 parcels")
    gradients = connectivity_gradients(np.loadtxt(path, delimiter=","), 3)
    network = np.repeat(np.arange(14) % 7, SCHAEFER)
    means = np.stack([gradients[network == number].mean(0) for number in range(7)])
    assert means[:, 0].argmin() == SOMATOMOTOR and means[:, 0].argmax() == DEFAULT
    assert means[:, 1].argmin() == SOMATOMOTOR and means[:, 1].argmax() == VISUAL
    explained = (means[network] - gradients.mean(0)).var(0) / gradients.var(0)
    assert explained[0] > 0.8 and explained[1] > 0.8  # about 0.86 and 0.88
    nearest = (np.linalg.norm(gradients[:, None] - gradients, axis=-1) + 99 * np.eye(400)).argmin(1)
    assert (network[nearest] == network).mean() > 0.7  # about 0.78; 0.16 by chance
