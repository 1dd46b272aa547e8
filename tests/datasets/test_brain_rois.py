import numpy as np
import pytest
import torch

from worldjepa.datasets.brain_rois import (
    MEMORY,
    connectivity_gradients,
    latents_of_sample,
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
