"""Courses of brain regions (ROIs) driven by a few networks that lie smoothly over the cortex, and gradients of it.

The cortex is the unit sphere, its regions spread evenly over it; or it is known by a measured connectivity alone. In
every sample a task, a block at some time, raises or lowers one network. Which, and every network's course, is known.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from worldjepa.datasets.numbered import at_least, sample_rng, sample_rngs
from worldjepa.datasets.samples import Samples, generated

NUM_NETWORKS = 6
WIDTH = 0.6  # of a network's loading around its middle, radii of the sphere
MEMORY = 0.8  # correlation of a network's course from one volume to the next, about that of BOLD at 1 Hz
BLOCK = 0.5  # of a course is the task
CHANGE = 1.5  # by so many of a network's rms at rest the task raises or lowers it
POWER = 1 + BLOCK * CHANGE**2 / NUM_NETWORKS  # mean square of a network's course; the task is its own in one of six
NOISE = 0.5  # rms of a region's own, of a network's rms
TASK_NAMES = tuple(f"network {number} {way}" for way in ("up", "down") for number in range(NUM_NETWORKS))
"""What the labels 0, 1, ... stand for."""


def roi_places(num_rois: int) -> np.ndarray:
    """float64 (R,3): middles of regions, a spiral over the unit sphere with equal areas (Fibonacci's).

    Raises:
        ValueError: fewer than one.
    """
    at_least("num_rois", num_rois, 1)
    number = np.arange(num_rois)
    heights, angles = 1 - (2 * number + 1) / num_rois, number * np.pi * (3 - np.sqrt(5))
    wide = np.sqrt(1 - heights**2)
    return np.stack([wide * np.cos(angles), wide * np.sin(angles), heights], 1)


def network_loadings(places: np.ndarray) -> np.ndarray:
    """(R,3) -> (R,6) in (0, 1]: how strongly each network drives each region, less with the distance to its middle."""
    apart = np.linalg.norm(np.asarray(places)[:, None] - roi_places(NUM_NETWORKS), axis=-1)
    return np.exp(-0.5 * (apart / WIDTH) ** 2)


def latents_of_sample(seed: int, number: int, num_samples: int = 128) -> tuple[np.ndarray, int]:
    """The truth behind sample ``number`` of :func:`random_rois`: courses (6,T) of the networks, and the task.

    Raises:
        ValueError: a seed, number or size that cannot be.
    """
    at_least("num_samples", num_samples, 2)
    return _latents(sample_rng(seed, number), num_samples)


def random_rois(count: int, seed: int, num_rois: int = 100, num_samples: int = 128) -> tuple[dict[str, Tensor], Tensor]:
    """Courses of regions: loadings x the networks' courses + noise.

    Args:
        count: N, >= 1.
        seed: sample i of a seed is the same whatever ``count``.
        num_rois: R, >= 6, at :func:`roi_places`.
        num_samples: T volumes, >= 2.

    Returns:
        - ``rois`` float32 (N,R,T), in units of a network's rms at rest.
        - labels int64 (N,), 0..11, indices into ``TASK_NAMES``: which network the task raises, or lowers.

    Raises:
        ValueError: a size or seed that cannot be.
    """
    at_least("num_rois", num_rois, NUM_NETWORKS)
    at_least("num_samples", num_samples, 2)
    loadings = network_loadings(roi_places(num_rois))

    def course(latents: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return loadings @ latents + NOISE * rng.standard_normal((num_rois, num_samples))

    return _courses(course, count, seed, num_samples)


def load_rois(seed: int, num_rois: int, num_samples: int, num_train: int, num_held_out: int) -> tuple[Samples, Samples]:
    """(train, held_out) of :func:`random_rois`; the task is the label."""
    make = partial(random_rois, num_rois=num_rois, num_samples=num_samples)
    return generated(make, seed, num_train, num_held_out, TASK_NAMES)


def generated_connectivity(num_rois: int) -> np.ndarray:
    """float64 (R,R): correlations of the regions of :func:`random_rois` over all samples that there could be.

    Raises:
        ValueError: fewer regions than networks.
    """
    at_least("num_rois", num_rois, NUM_NETWORKS)
    loadings = network_loadings(roi_places(num_rois))
    covariance = POWER * loadings @ loadings.T + NOISE**2 * np.eye(num_rois)
    std = np.sqrt(covariance.diagonal())
    return covariance / np.outer(std, std)


def connectivity_networks(connectivity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Six networks that explain most of a connectivity, and what they leave: a a^T + b b^T is the connectivity.

    The networks are its strongest principal components, turned by varimax (Kaiser 1958) so that each drives few regions
    strongly, which leaves a a^T as it is.

    Args:
        connectivity: (R,R) correlations, R > 6.

    Returns:
        - loadings a float64 (R,6), the network with the greatest sum of squares first, their strong sides positive.
        - b float64 (R,R - 6).

    Raises:
        ValueError: another shape, or no correlations: not finite, not symmetric, a diagonal that is not 1, or clearly
            negative eigenvalues (slightly negative ones become 0).
    """
    matrix = np.asarray(connectivity, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) <= NUM_NETWORKS:
        raise ValueError(
            f"connectivity must be a square matrix of {NUM_NETWORKS + 1} regions or more, got {matrix.shape}"
        )
    if not np.allclose(matrix, matrix.T, atol=1e-3) or not np.allclose(matrix.diagonal(), 1, atol=1e-3):
        raise ValueError(
            "connectivity must be correlations, finite, symmetric and 1 on the diagonal, got a diagonal of "
            f"{matrix.diagonal().min():g} to {matrix.diagonal().max():g}; take tanh of Fisher's z and fill the diagonal"
        )
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    if values[0] < -0.01 * values[-1]:
        raise ValueError(
            f"connectivity must be correlations, got eigenvalues of {values[0]:.3g} to {values[-1]:.3g}; do not "
            "threshold it, and leave partial correlations out"
        )
    parts = vectors * np.sqrt(values.clip(0))
    loadings = _varimax(parts[:, -NUM_NETWORKS:])
    loadings = loadings[:, (loadings**2).sum(0).argsort()[::-1]]
    return loadings * np.sign((loadings**3).sum(0)), parts[:, :-NUM_NETWORKS]


def random_connected_rois(
    connectivity: np.ndarray, count: int, seed: int, num_samples: int = 128
) -> tuple[dict[str, Tensor], Tensor]:
    """Courses of regions whose correlations over all samples that there could be are the connectivity.

    They are the loadings of :func:`connectivity_networks` x the networks' courses + noise that is as correlated between
    regions as the networks leave it, and white in time.

    Args:
        connectivity: (R,R), see :func:`connectivity_networks`.
        count: N, >= 1.
        seed: sample i of a seed is the same whatever ``count``; :func:`latents_of_sample` is the truth behind it.
        num_samples: T volumes, >= 2.

    Returns:
        - ``rois`` float32 (N,R,T), of rms 1 over all samples.
        - labels int64 (N,), see :func:`random_rois`.

    Raises:
        ValueError: a size or seed that cannot be, and see :func:`connectivity_networks`.
    """
    at_least("num_samples", num_samples, 2)
    loadings, left = connectivity_networks(connectivity)

    def course(latents: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return loadings @ latents / np.sqrt(POWER) + left @ rng.standard_normal((left.shape[1], num_samples))

    return _courses(course, count, seed, num_samples)


def load_connected_rois(
    seed: int, connectivity: np.ndarray, num_samples: int, num_train: int, num_held_out: int
) -> tuple[Samples, Samples]:
    """(train, held_out) of :func:`random_connected_rois`; the task is the label."""
    make = partial(random_connected_rois, connectivity, num_samples=num_samples)
    return generated(make, seed, num_train, num_held_out, TASK_NAMES)


def gradient_table(
    connectivity: np.ndarray, num_gradients: int = 30, kept: float = 0.1, shuffle_seed: int | None = None
) -> Tensor:
    """:func:`connectivity_gradients` for :class:`worldjepa.encoders.region_coordinates.RegionCoordinates`.

    Args:
        connectivity, num_gradients, kept: see there; Brain-JEPA takes 30 gradients (arXiv:2409.19407).
        shuffle_seed: where it is a number, every region gets the coordinates of another, drawn by it: as much to learn
            from, and nothing about the brain, to compare with.

    Returns:
        float32 (R,num_gradients).

    Raises:
        ValueError: see there.
    """
    table = connectivity_gradients(connectivity, num_gradients, kept)
    if shuffle_seed is not None:
        table = table[np.random.default_rng(shuffle_seed).permutation(len(table))]
    return torch.from_numpy(table.astype(np.float32))


def connectivity_gradients(connectivity: np.ndarray, num_gradients: int, kept: float = 0.1) -> np.ndarray:
    """Diffusion map of a connectivity matrix: regions with like connections lie near each other.

    Each row keeps its strongest positive connections; the affinity of two regions is the cosine of their rows, divided
    by the square roots of both regions' densities (Coifman & Lafon 2006 with alpha 1/2; Margulies et al. 2016). The
    eigenvectors of the random walk are scaled by l / (1 - l), which sums the walks of all lengths.

    Args:
        connectivity: (R,R), finite, such as correlations.
        num_gradients: k, 1..R - 2.
        kept: share of each row's entries, (0, 1].

    Returns:
        float64 (R,k), strongest first; signs are such that the largest entry of each is positive.

    Raises:
        ValueError: another shape, numbers that are not finite, arguments out of range, regions without connections.
    """
    matrix = np.asarray(connectivity, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise ValueError(f"connectivity must be a finite square matrix, got {matrix.shape}; leave out broken regions")
    num_rois = len(matrix)
    if not 1 <= num_gradients <= num_rois - 2 or not 0 < kept <= 1:
        raise ValueError(
            f"num_gradients must be 1..{num_rois - 2} for {num_rois} regions and kept in (0, 1], got {num_gradients} "
            f"and {kept}"
        )
    lowest = np.quantile(matrix, 1 - kept, axis=1, keepdims=True)
    rows = np.where(matrix >= lowest, matrix, 0).clip(0)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(f"region {int(lengths.argmin())} has no positive connection; leave it out")
    affinity = (rows / lengths) @ (rows / lengths).T
    density = affinity.sum(1)
    affinity /= np.sqrt(np.outer(density, density))
    # The walk's matrix is similar to a symmetric one, whose eigenvectors are stable to compute.
    root = np.sqrt(affinity.sum(1))
    values, vectors = np.linalg.eigh(affinity / np.outer(root, root))
    if values[-2] > 1 - 1e-9:
        raise ValueError("the regions fall apart into groups without likeness; keep more connections of each row")
    values, vectors = values[::-1][1 : num_gradients + 1], vectors[:, ::-1] / root[:, None]
    vectors = vectors[:, 1 : num_gradients + 1] / np.abs(vectors[:, :1])  # the first, constant one becomes 1
    vectors *= np.sign(np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0))
    return vectors * values / (1 - values)


def _varimax(loadings: np.ndarray) -> np.ndarray:
    """(R,k) -> (R,k), turned so that the squares within each column vary most."""
    turn = np.eye(loadings.shape[1])
    for _ in range(1000):  # some hundreds are enough
        turned = loadings @ turn
        left, _, right = np.linalg.svd(loadings.T @ (turned**3 - turned * (turned**2).mean(0)))
        last, turn = turn, left @ right
        if np.abs(turn - last).max() < 1e-9:
            break
    return loadings @ turn


def _courses(
    course: Callable[[np.ndarray, np.random.Generator], np.ndarray], count: int, seed: int, num_samples: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Samples and labels; ``course`` makes the regions' (R,T) from the networks' (6,T)."""
    courses, labels = [], []
    for rng in sample_rngs(seed, count):
        latents, label = _latents(rng, num_samples)
        courses.append(course(latents, rng).astype(np.float32))
        labels.append(label)
    return {"rois": torch.from_numpy(np.stack(courses))}, torch.tensor(labels)


def _latents(rng: np.random.Generator, num_samples: int) -> tuple[np.ndarray, int]:
    label = int(rng.integers(len(TASK_NAMES)))
    latents = rng.standard_normal((NUM_NETWORKS, num_samples))
    for step in range(1, num_samples):
        latents[:, step] = MEMORY * latents[:, step - 1] + np.sqrt(1 - MEMORY**2) * latents[:, step]
    down, network = divmod(label, NUM_NETWORKS)
    length = round(BLOCK * num_samples)
    start = rng.integers(num_samples - length + 1)
    latents[network, start : start + length] += -CHANGE if down else CHANGE
    return latents, label
