import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from worldjepa.config import LoopSettings
from worldjepa.datasets.brain_rois import (
    BLOCK,
    CHANGE,
    MEMORY,
    NUM_NETWORKS,
    TASK_NAMES,
    connectivity_gradients,
    connectivity_networks,
    generated_connectivity,
    gradient_table,
    latents_of_sample,
    load_connected_rois,
    load_rois,
    network_loadings,
    random_connected_rois,
    random_rois,
    roi_places,
)
from worldjepa.datasets.roi_files import SCHAEFER as SCHAEFER_FILE
from worldjepa.datasets.roi_files import measured_connectivity
from worldjepa.pretraining import build_samples_system, open_samples

CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_loadings_give_the_networks_back():
    observation, labels = random_rois(30, seed=3, num_rois=90, num_samples=200)
    assert observation["rois"].shape == (30, 90, 200) and observation["rois"].dtype == torch.float32
    loadings, right = network_loadings(roi_places(90)), 0
    for number, rois in enumerate(observation["rois"].numpy()):
        latents, label = latents_of_sample(3, number, num_samples=200)
        assert label == labels[number]
        found = np.linalg.lstsq(loadings, rois, rcond=None)[0]
        assert np.corrcoef(found.ravel(), latents.ravel())[0, 1] > 0.95
        right += task_of(found) == label
    assert right >= 24 and len(set(labels.tolist())) > 6


def task_of(courses: np.ndarray) -> int:
    """The likeliest label of six courses: that of the block of the largest mean."""
    length = round(BLOCK * courses.shape[1])
    means = np.lib.stride_tricks.sliding_window_view(courses, length, 1).mean(-1)
    network, start = np.unravel_index(np.abs(means).argmax(), means.shape)
    return network + NUM_NETWORKS * bool(means[network, start] < 0)


def test_a_network_remembers_as_it_says():
    found = [latents_of_sample(0, number) for number in range(60)]
    # But the one of the task, which is on for half of the time.
    latents = np.concatenate([np.delete(courses, label % NUM_NETWORKS, 0) for courses, label in found])
    assert np.corrcoef(latents[..., 1:].ravel(), latents[..., :-1].ravel())[0, 1] == pytest.approx(MEMORY, abs=0.02)


def test_a_task_changes_its_network_for_its_time_and_in_its_way():
    own, others = [], []
    for number in range(400):
        courses, label = latents_of_sample(1, number, num_samples=64)
        down, network = divmod(label, NUM_NETWORKS)
        own.append(courses[network].mean() * (-1 if down else 1))
        others.append(np.delete(courses.mean(1), network))
    assert np.mean(own) == pytest.approx(BLOCK * CHANGE, abs=0.1)
    assert abs(np.mean(others)) < 0.1
    assert TASK_NAMES[1] == "network 1 up" and TASK_NAMES[NUM_NETWORKS + 1] == "network 1 down"


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
    assert train.observation["rois"].shape == (9, 20, 16) and len(held_out) == 5 and train.names == TASK_NAMES


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


# ---- courses of regions whose connectivity was measured ------------------------------------------------------------


def stand_in(num_rois: int) -> np.ndarray:
    """Correlations of regions of six networks of unlike sizes, each of which holds together, and of a common course."""
    network = np.arange(num_rois) ** 2 * 6 // num_rois**2
    own = np.linspace(0.5, 0.8, num_rois)
    found = 0.1 + 0.6 * own * own[:, None] * (network == network[:, None])
    np.fill_diagonal(found, 1)
    return found


def test_networks_and_what_they_leave_make_up_the_connectivity():
    connectivity = stand_in(37)
    loadings, left = connectivity_networks(connectivity)
    assert loadings.shape == (37, 6) and left.shape == (37, 31)
    assert loadings @ loadings.T + left @ left.T == pytest.approx(connectivity, abs=1e-9)
    power = (loadings**2).sum(0)
    assert (np.diff(power) <= 0).all() and power.sum() == pytest.approx(np.linalg.eigvalsh(connectivity)[-6:].sum())
    network = np.arange(37) ** 2 * 6 // 37**2
    strong = loadings > 0.4  # each turned network is strong in one group of regions, and nowhere else
    assert sorted(tuple(row.nonzero()[0]) for row in strong.T) == sorted(
        tuple((network == number).nonzero()[0]) for number in range(6)
    )
    order = np.random.default_rng(0).permutation(37)
    turned, _ = connectivity_networks(connectivity[np.ix_(order, order)])
    assert turned == pytest.approx(loadings[order], abs=1e-6)


def test_courses_are_as_correlated_as_was_measured_and_so_are_their_gradients():
    connectivity = stand_in(30)
    rois = random_connected_rois(connectivity, 600, seed=5, num_samples=128)[0]["rois"].double()
    covariance = np.einsum("nrt,nst->rs", rois, rois) / (600 * 128)
    assert covariance == pytest.approx(connectivity, abs=0.05)
    true, found = (connectivity_gradients(matrix, 3, kept=1.0) for matrix in (connectivity, covariance))
    for number in range(3):
        assert abs(np.corrcoef(true[:, number], found[:, number])[0, 1]) > 0.95


def test_the_task_can_be_read_off_the_courses():
    connectivity = stand_in(60)
    observation, labels = random_connected_rois(connectivity, 40, seed=3, num_samples=200)
    assert observation["rois"].shape == (40, 60, 200) and observation["rois"].dtype == torch.float32
    loadings, right = connectivity_networks(connectivity)[0], 0
    for number, rois in enumerate(observation["rois"].numpy()):
        latents, label = latents_of_sample(3, number, num_samples=200)
        assert label == labels[number]
        found = np.linalg.lstsq(loadings, rois, rcond=None)[0]
        assert np.corrcoef(found[label % NUM_NETWORKS], latents[label % NUM_NETWORKS])[0, 1] > 0.8
        right += task_of(found) == label
    assert right >= 36 and len(set(labels.tolist())) > 6
    few = random_connected_rois(connectivity, 3, seed=3, num_samples=200)[0]["rois"]
    assert torch.equal(few, observation["rois"][:3])


def test_what_is_no_connectivity_is_refused():
    with pytest.raises(ValueError, match=r"square matrix of 7 regions or more, got \(6, 6\)"):
        connectivity_networks(np.eye(6))
    with pytest.raises(ValueError, match=r"correlations.* got a diagonal of 0 to 0; .* fill the diagonal"):
        connectivity_networks(stand_in(9) - np.eye(9))
    with pytest.raises(ValueError, match=r"correlations, finite, symmetric"):
        connectivity_networks(np.eye(9) + np.eye(9, k=1))
    with pytest.raises(ValueError, match=r"got eigenvalues of -.*; do not threshold it"):
        connectivity_networks(2 * np.eye(9) - stand_in(9))


def test_regions_of_a_file_are_spread_evenly_over_it(tmp_path, monkeypatch):
    connectivity = stand_in(40)
    np.savetxt(tmp_path / "any.csv", connectivity, delimiter=",", fmt="%.17g")
    assert (measured_connectivity(tmp_path / "any.csv") == connectivity).all()
    assert (measured_connectivity(tmp_path / "any.csv", 10) == connectivity[::4, ::4]).all()
    assert len(measured_connectivity(tmp_path / "any.csv", 39)) == 39
    with pytest.raises(ValueError, match=r"any\.csv: has 40 regions, expected num_rois \(41\); set data\.num_rois"):
        measured_connectivity(tmp_path / "any.csv", 41)
    monkeypatch.setenv("WORLDJEPA_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=rf"{SCHAEFER_FILE}: expected a measured connectivity, found no file; get it"):
        measured_connectivity()
    (tmp_path / SCHAEFER_FILE).parent.mkdir()
    (tmp_path / "any.csv").rename(tmp_path / SCHAEFER_FILE)
    assert (measured_connectivity() == connectivity).all()
    monkeypatch.delenv("WORLDJEPA_DATA")
    with pytest.raises(ValueError, match=r"set WORLDJEPA_DATA .* or data\.matrix .* data=rois needs no files"):
        measured_connectivity()


def test_brain_jepa_gets_the_gradients_of_a_measured_connectivity(tmp_path):
    ConfigStore.instance().store("base_pretrain", {"train": LoopSettings})
    np.save(tmp_path / "any.npy", stand_in(80))
    words = [f"data.matrix={tmp_path}/any.npy", "data.num_rois=40", "data.gradients.kept=0.6"]
    words += ["data.source.num_train=9", "data.source.num_held_out=5", "data.num_samples=32"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("pretrain", ["model=brain_jepa", "data=schaefer", *words])
    train, held_out = open_samples(config)
    wanted, _ = load_connected_rois(0, stand_in(80)[::2, ::2], 32, 9, 5)
    assert torch.equal(train.observation["rois"], wanted.observation["rois"]) and len(held_out) == 5
    assert train.names == TASK_NAMES
    model = build_samples_system(config, train).model
    assert torch.equal(model.encoder.coordinates.table, gradient_table(stand_in(80)[::2, ::2], 30, kept=0.6))
    assert torch.isfinite(model.features(train.observation)).all()


def test_networks_of_a_real_cortex_are_known_ones():
    """Of every eighth of Schaefer's parcels: some are strongest in the visual, motor and default network."""
    root = os.environ.get("WORLDJEPA_DATA")
    if not root:
        pytest.skip(f"WORLDJEPA_DATA is not set: set it to a folder with {SCHAEFER_FILE}")
    if not (Path(root) / SCHAEFER_FILE).is_file():
        pytest.skip(f"needs {Path(root) / SCHAEFER_FILE}: the mean connectivity of Schaefer's 400 parcels")
    connectivity = measured_connectivity(num_rois=50)
    loadings, left = connectivity_networks(connectivity)
    assert loadings @ loadings.T + left @ left.T == pytest.approx(connectivity, abs=1e-9)
    network = np.repeat(np.arange(14) % 7, SCHAEFER)[::8]
    means = np.stack([loadings[network == number].mean(0) for number in range(7)])
    assert {VISUAL, SOMATOMOTOR, DEFAULT} <= set(means.argmax(0)) and (means.max(0) > 0.3).sum() >= 5
    train, _ = load_connected_rois(0, connectivity, 128, 300, 1)
    rois = np.concatenate(list(train.observation["rois"].double().numpy()), 1)
    found = gradient_table(np.corrcoef(rois), 2).numpy()
    true, of_all = gradient_table(connectivity, 2).numpy(), gradient_table(measured_connectivity(), 2).numpy()[::8]
    for number in range(2):
        assert abs(np.corrcoef(true[:, number], found[:, number])[0, 1]) > 0.95
        assert abs(np.corrcoef(true[:, number], of_all[:, number])[0, 1]) > 0.85  # about 0.92 and 0.91
