"""What a pre-trained model has learned: the judgements of ``scripts/pretrain.py``, one per kind of model.

Each kind has a world that can judge it, checked before anything is collected, and a file of what was measured.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from worldjepa.checkpoint import (
    load_bev_model,
    load_motion_model,
    load_token_model,
    load_world_model,
    make_bev_model,
)
from worldjepa.datasets.flow_files import find_flow_pairs
from worldjepa.datasets.point_files import PointFolder
from worldjepa.datasets.store import EpisodeStore
from worldjepa.datasets.windows import Windows
from worldjepa.driving import check_sensor
from worldjepa.evaluation.bev import (
    SCANS_FIGURES,
    SCANS_FILE,
    as_segment,
    bev_pictures,
    measure_cells,
    measure_occupancy,
    warm_norms,
)
from worldjepa.evaluation.boxes import detector_precision
from worldjepa.evaluation.charts import principal_places
from worldjepa.evaluation.frozen import SAMPLES_FIGURES, SAMPLES_FILE, eigenvalues, encode_samples, measure_samples
from worldjepa.evaluation.motion import (
    MOTION_FIGURES,
    MOTION_FILE,
    measure_carrying,
    measure_content,
    measure_folder,
    measure_pairs,
    motion_figures,
    motion_film,
    opencv_errors,
    true_flow,
)
from worldjepa.evaluation.video import write_film
from worldjepa.evaluation.views import PATH_LENGTH, VIEWS_FILE, encode_views, measure_views, nearest_views
from worldjepa.files import write_text, written_whole
from worldjepa.pretraining import build_samples_system, open_samples
from worldjepa.runs import PROBE_SEEDS, env_factory
from worldjepa.sweeps import clouds_of
from worldjepa.training import pick_device, read_metrics
from worldjepa.voxels import voxelize

NUM_LAST_LOSSES = 5
"""Rows of metrics over which the loss at the end is averaged."""
NUM_SHOWN_CLOUDS = 6
"""Of a user's folder: looked at, and shown."""
NUM_WARMING = 80
"""Clips that a new network's BatchNorms see before it is judged."""


def view_world(config: DictConfig):
    """A run's environment, a :class:`worldjepa.evaluation.views.ViewWorld`.

    Raises:
        ValueError: it is none, or the views that are asked for cannot be had.
    """
    if "encoder" not in config:
        raise ValueError("this model learns from pictures alone; with env=, use model=seq_jepa, sie, vicreg or lejepa")
    world = env_factory(config).build().unwrapped
    if not hasattr(world, "relations") or config.env.frameskip != 1:
        raise ValueError(f"{config.env.id} shows no views of things; use env=object_views, saccades or augmentations")
    lengths, length = list(config.views.lengths), config.env.collect.num_frames
    if length < PATH_LENGTH or not lengths or not all(1 <= n <= length for n in lengths):
        raise ValueError(
            f"views.lengths must be numbers from 1 to the {length} views of each thing (env.collect.num_frames, "
            f"{PATH_LENGTH} or more), got {lengths}"
        )
    return world


def judge_views(run_dir: Path, config: DictConfig) -> dict[str, float]:
    """Measures what a run has learned from views; writes ``views.json``, and pictures for its report."""
    world, store, (model, _) = view_world(config), EpisodeStore.open(config.env.store), load_world_model(run_dir)
    model.to(pick_device(config.train.device))
    settings, trained_on = config.views, list(config.env.policies)
    train = encode_views(model, store, "train", trained_on[0], settings.num_train)
    held_out = encode_views(model, store, "held_out", trained_on[0], settings.num_held_out)
    beyond = None
    if "beyond" not in trained_on and store.policies.count("beyond") > 1:
        beyond = encode_views(model, store, "all", "beyond", settings.num_held_out)
    results = measure_views(model, world, train, held_out, beyond, lengths=settings.lengths, seed=config.seed)
    pictures = {
        f"neighbours/{name}": np.stack(
            [
                [store.episode(int(held_out.episodes[episode])).arrays["pixels"][view] for episode, view in row]
                for row in found
            ]
        )
        for name, found in nearest_views(model, held_out).items()
    }
    with written_whole(run_dir / "view_figures.npz") as beside:
        np.savez_compressed(beside, **pictures)
    write_text(run_dir / VIEWS_FILE, json.dumps(results, indent=1))
    return results


def motion_world(config: DictConfig):
    """A run's environment, a :class:`worldjepa.evaluation.motion.FlowWorld` or one that does not know its flow.

    Raises:
        ValueError: nothing can be collected in it, or what is asked for cannot be judged.
    """
    if "collect" not in config.env or "demonstrations" not in config.data:
        raise ValueError(
            "model=mc_jepa learns from an environment's episodes: give env=moving_shapes, pusht, reacher, ..."
        )
    if config.motion.num_pairs < 1 or config.motion.num_scenes < 1:
        raise ValueError(
            "motion.num_pairs and motion.num_scenes must be >= 1, got "
            f"{config.motion.num_pairs} and {config.motion.num_scenes}"
        )
    if config.motion.folder is not None:
        find_flow_pairs(config.motion.folder)
    return env_factory(config).build().unwrapped


def judge_motion(run_dir: Path, config: DictConfig) -> dict[str, float]:
    """Measures the flow and the content that a run has learned; writes ``motion.json``, pictures and a video."""
    world, store, (model, _) = motion_world(config), EpisodeStore.open(config.env.store), load_motion_model(run_dir)
    model.to(pick_device(config.train.device))
    played = {"frameskip": config.env.frameskip, "policies": config.env.get("policies")}
    windows = Windows(store, 2, observations=("pixels",), split="held_out", **played)
    pairs = windows.sample(config.motion.num_pairs, PROBE_SEEDS[1], 0)
    truth = None if model.predictor is None else true_flow(world, pairs)
    results = measure_pairs(model, pairs, truth)
    if model.predictor is not None:
        if truth is not None:
            results |= opencv_errors(pairs, truth)
        if config.motion.folder is not None:
            results |= measure_folder(model, config.motion.folder)
        write_film(run_dir / "videos" / "flow.mp4", motion_film(model, store, **played), frame_rate=4)
    results |= measure_content(model, world, store, config.motion.num_scenes, config.env.get("policies"))
    results |= measure_carrying(model, world, store, **played)
    with written_whole(run_dir / MOTION_FIGURES) as beside:
        np.savez_compressed(beside, **motion_figures(model, pairs, truth))
    write_text(run_dir / MOTION_FILE, json.dumps(results, indent=1))
    return results


def scan_world(config: DictConfig):
    """A run's environment, a :class:`worldjepa.evaluation.bev.ScanWorld`.

    Raises:
        ValueError: it is none, or what is asked for cannot be judged.
    """
    world = env_factory(config).build().unwrapped
    if not hasattr(world, "hits"):
        raise ValueError(f"model=ad_l_jepa learns from LiDAR sweeps, {config.env.id} shows none; use env=street")
    check_sensor(config, world.observation_space["sweep"].shape)
    shares = list(config.scans.shares)
    if config.scans.num_train < 1 or config.scans.num_held_out < 1 or not all(0 < share <= 1 for share in shares):
        raise ValueError(
            "scans.num_train and scans.num_held_out must be >= 1 and scans.shares in (0, 1], got "
            f"{config.scans.num_train}, {config.scans.num_held_out} and {shares}"
        )
    if config.scans.folder is not None:
        PointFolder(config.scans.folder)
    return world


def judge_scans(run_dir: Path, config: DictConfig) -> dict[str, float]:
    """Measures what a run's latents of LiDAR scans know, and those of a network with new weights as ``untrained_*``.

    The new network's BatchNorms have seen sweeps, so that what it lacks is training and not their statistics. Writes
    ``scans.json``, and pictures for its report.
    """
    world, store, (model, _) = scan_world(config), EpisodeStore.open(config.env.store), load_bev_model(run_dir)
    torch.manual_seed(config.seed)
    untrained = make_bev_model(config)
    played = {"frameskip": config.env.frameskip, "policies": config.env.get("policies")}
    train, held_out = (
        Windows(store, 2, observations=("sweep",), split=split, **played).sample(count, seed, 0)
        for split, count, seed in (
            ("train", config.scans.num_train, PROBE_SEEDS[0]),
            ("held_out", config.scans.num_held_out, PROBE_SEEDS[1]),
        )
    )
    warm_norms(untrained, train.map(lambda x: x[:NUM_WARMING]))
    results = {}
    for prefix, one in (("", model), ("untrained_", untrained)):
        found = measure_occupancy(one, held_out)
        found |= measure_cells(one, world, train, held_out, list(config.scans.shares), config.seed)
        if config.scans.detection.steps:
            found["ap"] = detector_precision(
                one.encoder, one.sensor, world, train, held_out, config.scans.detection, config.seed
            )
        results |= {f"{prefix}{name}": value for name, value in found.items()}
    some = held_out.map(lambda x: x[:6, :1])
    pictures = bev_pictures(model, clouds_of(some.observation, model.sensor))
    if config.scans.folder is not None:
        files = PointFolder(config.scans.folder)
        clouds = [files.cloud(index) for index in range(min(len(files), NUM_SHOWN_CLOUDS))]
        found = measure_occupancy(model, as_segment(clouds))
        found["voxels"] = float(np.mean([len(voxelize([cloud], model.encoder.grid)) for cloud in clouds]))
        results |= {f"folder_{name}": value for name, value in found.items()}
        pictures |= {f"folder_{name}": picture for name, picture in bev_pictures(model, clouds).items()}
    with written_whole(run_dir / SCANS_FIGURES) as beside:
        np.savez_compressed(beside, **pictures)
    write_text(run_dir / SCANS_FILE, json.dumps(results, indent=1))
    return results


def judge_samples(run_dir: Path, config: DictConfig) -> dict[str, float]:
    """Measures what a run has learned from samples; writes ``samples.json``, and pictures for its report."""
    train, held_out = open_samples(config)
    model, _ = load_token_model(run_dir)
    untrained = build_samples_system(config, train).model.eval()
    device = pick_device(config.train.device)
    results = measure_samples(model.to(device), untrained.to(device), train, held_out, config.probing)
    for measure in instantiate(config.get("measures", {})).values():
        results |= measure(model, untrained, train, held_out, config.seed)
    losses = [row for row in read_metrics(run_dir) if "loss/mean_latent" in row][-NUM_LAST_LOSSES:]
    if losses:
        parts = (sum(row[f"loss/{name}"] for row in losses) for name in ("prediction", "mean_latent"))
        results["loss_over_mean_latent"] = next(parts) / next(parts)
    features = {
        "": encode_samples(model, held_out.observation),
        "random_": encode_samples(untrained, held_out.observation),
    }
    places, share = principal_places(features[""].numpy())
    pictures = {f"{prefix}eigenvalues": eigenvalues(x) for prefix, x in features.items()}
    pictures |= {"places": places, "share": share, "labels": held_out.labels.numpy(), "names": np.array(held_out.names)}
    with written_whole(run_dir / SAMPLES_FIGURES) as beside:
        np.savez_compressed(beside, **pictures)
    write_text(run_dir / SAMPLES_FILE, json.dumps(results, indent=1))
    return results
