"""A run's folder, and how its resolved configuration becomes stores, systems and a finished training.

runs/<name>/config.yaml            what was asked for, resolved
            model.safetensors      the trained model (appears when training has come to its end)
            checkpoint.safetensors where to go on after an interruption
            metrics.jsonl          training curves
            refinement/            checkpoint and curves of the second phase, see worldjepa.refinement
            planning.json          the judgement; views.json of what has learned from views of things, motion.json of
                                   what has learned from pictures that move, scans.json from LiDAR's scans,
                                   returns.json of what drives, samples.json of what has learned from samples
            figures.npz, videos/   what the report shows
            report.html
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from worldjepa.checkpoint import (
    CONFIG_FILE,
    MODEL_FILE,
    STATE_FILE,
    kind_of,
    make_bev_model,
    make_bev_view,
    make_bev_world,
    start_from,
)
from worldjepa.collection import prepare_store
from worldjepa.config import LoopSettings, RefinementSettings, TrainSettings
from worldjepa.datasets.encoded import encoded_store
from worldjepa.datasets.splits import pixel_mean
from worldjepa.datasets.store import EpisodeStore
from worldjepa.datasets.windows import Windows
from worldjepa.driving import check_driving
from worldjepa.encoders.bev_view import STORED, BevView
from worldjepa.evaluation.bev import SCANS_FILE, measure_occupancy
from worldjepa.evaluation.driving import RETURNS_FILE, measure_driving
from worldjepa.evaluation.frozen import SAMPLES_FILE
from worldjepa.evaluation.motion import MOTION_FILE, measure_pairs, true_flow
from worldjepa.evaluation.representation import measure_representation
from worldjepa.evaluation.views import VIEWS_FILE
from worldjepa.files import write_text
from worldjepa.footprint import FACTS_FILE, Footprint
from worldjepa.objectives.weighted_sum import WeightedSum
from worldjepa.pretraining import open_samples, train_on_samples
from worldjepa.refinement import refine
from worldjepa.rollout import Factory
from worldjepa.systems.ad_l_jepa import AdLJepa
from worldjepa.systems.bev_world import BevWorldSystem
from worldjepa.systems.mc_jepa import McJepa, build_mc_jepa
from worldjepa.systems.world_model import WorldModel, WorldModelSystem, build_system, build_world_model
from worldjepa.training import is_trained, launch, num_cores, pick_device, pick_processes, train, write_model
from worldjepa.types import EnvSpec

# What a run may change between one sitting and the next: everything else makes it another run.
JUDGING = ("evaluation", "planner", "planning", "cost", "views", "motion", "scans", "probing", "measures")
CHANGEABLE = (*JUDGING, "train.checkpoint_seconds", "train.log_every", "train.trackers", "collection_workers")
MINIMUM_DISK_GB = 0.5
PLANNING_FILE = "planning.json"
# Clips on each side of the probes, and the random streams that choose them (never those of training).
NUM_PROBE_CLIPS, PROBE_SEEDS = 300, (10_001, 10_002)


def open_run(run_dir: Path, config: DictConfig) -> None:
    """Creates a run's folder with its configuration, or checks that the one there is the same run.

    One that never came to learn gives way: the command was refused, and this may be the corrected one.

    Raises:
        ValueError: the folder holds a run with other settings, or cannot be written.
    """
    path = run_dir / CONFIG_FILE
    wanted = OmegaConf.to_container(config, resolve=True)
    if path.is_file():
        found = OmegaConf.to_container(OmegaConf.load(path))
        before, after = _flat(found), _flat(wanted)
        changed = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
        differing = [
            f"{key}: {before.get(key)} there, {after.get(key)} asked"
            for key in changed
            if not key.startswith(CHANGEABLE)
        ]
        if differing and {entry.name for entry in run_dir.iterdir()} <= {CONFIG_FILE, FACTS_FILE}:
            (run_dir / FACTS_FILE).unlink(missing_ok=True)  # it was refused, or stopped, before it learned anything
        elif differing:
            raise ValueError(
                f"{run_dir} holds a run with other settings ({'; '.join(differing[:4])}); "
                "give this one a name of its own with run=<name>, or remove that folder"
            )
        if any(key.startswith(JUDGING) for key in changed):
            for name in (PLANNING_FILE, VIEWS_FILE, MOTION_FILE, SCANS_FILE, RETURNS_FILE, SAMPLES_FILE):
                (run_dir / name).unlink(missing_ok=True)  # it was judged by other settings
    check_disk(run_dir, MINIMUM_DISK_GB)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_text(path, OmegaConf.to_yaml(OmegaConf.create(wanted)))
    except OSError as error:
        raise ValueError(f"cannot write {path} ({error.strerror}); choose a place with run_dir=<folder>") from None


def open_store(config: DictConfig, progress: bool = True) -> tuple[EpisodeStore, str]:
    """The store a run trains on, collected first where it is missing; and a sentence that says where it comes from."""
    plan = config.env.collect
    return prepare_store(
        path=config.env.store,
        env=env_factory(config),
        scripted=player_factory(plan.scripted),
        replay=plan.replay,
        replay_fraction=plan.replay_fraction,
        beside_recorded=plan.get("beside_recorded", True),
        demonstrations=config.data.demonstrations,
        num_episodes=plan.num_episodes,
        num_frames=plan.num_frames,
        episodes_per_shard=plan.episodes_per_shard,
        seed=config.collection_seed,
        num_workers=config.get("collection_workers") or num_cores(),
        progress=progress,
    )


def env_factory(config: DictConfig, judged: bool = False) -> Factory:
    """The recipe of a run's environment; ``judged`` by reward, it has what ``env.judged`` says in place of its own."""
    parts = [config.env.kwargs, *([config.env.judged] if judged and config.env.get("judged") else [])]
    kwargs = OmegaConf.to_container(OmegaConf.merge(*parts), resolve=True)
    return Factory("gymnasium.make", {"id": config.env.id, **kwargs})


def player_factory(node: str | DictConfig) -> Factory:
    """The recipe of a player: a dotted name, or ``_target_`` with arguments."""
    return Factory.from_config(node if isinstance(node, str) else OmegaConf.to_container(node, resolve=True))


def build_training(config: DictConfig, store: EpisodeStore) -> tuple[WorldModelSystem, Windows, TrainSettings]:
    """System with the data's statistics in it, training clips and settings, from a resolved configuration."""
    settings = train_settings(config)
    size = settings.clip_frames, config.env.frameskip, tuple(config.observations)
    windows = Windows(store, *size, policies=config.env.get("policies"))
    torch.manual_seed(settings.seed)
    model = build_world_model(
        instantiate(config.encoder), instantiate(config.predictor), store.spec, config.env.frameskip
    )
    fit_normalizers(model, windows)
    objective = instantiate(config.objective)
    system = build_system(model, dict(objective.terms), dict(objective.weights), instantiate(config.target))
    return system, windows, settings


def build_motion(config: DictConfig, store: EpisodeStore) -> tuple[McJepa, Windows, TrainSettings]:
    """As :func:`build_training`, for a model of motion and content (MC-JEPA)."""
    settings = train_settings(config)
    size = settings.clip_frames, config.env.frameskip, ("pixels",)
    windows = Windows(store, *size, policies=config.env.get("policies"))
    torch.manual_seed(settings.seed)
    encoder, objective = instantiate(config.encoder), instantiate(config.objective)
    encoder.normalizer.fit(pixel_mean(store, windows.episodes, num_frames=2000, seed=0))
    system = build_mc_jepa(
        encoder,
        partial(instantiate, config.predictor),
        dict(objective.terms),
        dict(objective.weights),
        dict(objective.starts),
        list(config.expander),
        instantiate(config.content_views),
        config.motion_share,
        config.frozen_encoder,
    )
    return system, windows, settings


def build_scans(config: DictConfig, store: EpisodeStore) -> tuple[AdLJepa, Windows, TrainSettings]:
    """As :func:`build_training`, for a model of a LiDAR's scans (AD-L-JEPA)."""
    settings = train_settings(config)
    size = settings.clip_frames, config.env.frameskip, ("sweep",)
    windows = Windows(store, *size, policies=config.env.get("policies"))
    torch.manual_seed(settings.seed)
    model = make_bev_model(config)
    objective = instantiate(config.objective)
    system = AdLJepa(
        model,
        instantiate(config.target),
        WeightedSum(dict(objective.terms), dict(objective.weights)),
        instantiate(config.sampler),
        instantiate(config.augment),
    )
    return system, windows, settings


def build_driving(config: DictConfig, store: EpisodeStore) -> tuple[BevWorldSystem, Windows, TrainSettings]:
    """As :func:`build_training`, for a world model of a street's bird's-eye view."""
    settings, view = train_settings(config), view_of(config)
    size = settings.clip_frames, config.env.frameskip, (*STORED, "proprioception")
    windows = Windows(encoded_store(store, view.hash, view.columns), *size, policies=config.env.get("policies"))
    torch.manual_seed(settings.seed)
    model = make_bev_world(config, view, store.spec)
    return BevWorldSystem(model, config.objective.weights), windows, settings


def view_of(config: DictConfig) -> BevView:
    """The pre-trained view of a world model of a street."""
    view = make_bev_view(config)
    start_from(view.encoder)
    return view.to(pick_device(config.train.device)).eval()


def train_settings(config: DictConfig) -> TrainSettings:
    """The section ``train`` of a resolved configuration, checked."""
    values = OmegaConf.to_container(config.train, resolve=True)
    return TrainSettings(**{**values, "trackers": tuple(values["trackers"])})


def fit_normalizers(model: WorldModel, windows: Windows) -> None:
    """Takes mean picture and action spread from the training split."""
    if "pixels" in windows.observations:
        model.encoder.normalizer.fit(pixel_mean(windows.store, windows.episodes, num_frames=2000, seed=0))
    std = windows.action_std()
    # One scale for all raw dimensions keeps directions in the plane what they are.
    model.action_normalizer.fit(torch.zeros_like(std), std.square().mean().sqrt().expand_as(std))


def evaluator(config: DictConfig, windows: Windows) -> Callable[[nn.Module], dict[str, float]]:
    """What is measured while training, on clips of held-out episodes; the same ones throughout a run."""
    env = env_factory(config).build().unwrapped
    size = windows.num_steps, windows.frameskip, windows.observations
    held_out = Windows(windows.store, *size, "held_out", windows.policies).sample(NUM_PROBE_CLIPS, PROBE_SEEDS[1], 0)
    if kind_of(config) == "driving":
        return lambda model: measure_driving(model, held_out)
    if kind_of(config) == "scans":
        return lambda model: measure_occupancy(model, held_out)
    if kind_of(config) == "motion":
        truth = cache(partial(true_flow, env, held_out))  # once, and only in the process that evaluates
        return lambda model: {} if model.predictor is None else measure_pairs(model, held_out, truth())
    clips = windows.sample(NUM_PROBE_CLIPS, PROBE_SEEDS[0], 0), held_out
    return lambda model: measure_representation(model, *clips, env.probe_targets)


def train_run(run_dir: str) -> None:
    """Trains the run in ``run_dir`` to its end, going on where it stopped; one call per data-parallel process.

    Jointly first, then the predictor alone; a phase that is done is read back from its checkpoint.
    """
    config = OmegaConf.load(Path(run_dir) / CONFIG_FILE)
    store = EpisodeStore.open(config.env.store)
    builders = {"latents": build_training, "motion": build_motion, "scans": build_scans, "driving": build_driving}
    build = builders[kind_of(config)]
    system, windows, settings = build(config, store)
    if not (Path(run_dir) / STATE_FILE).is_file():
        start_from(system.model.encoder)
    evaluate = evaluator(config, windows)
    train(system, windows, settings, Path(run_dir), evaluate)
    # Without a predictor of latents there is nothing to go on with.
    refinement = RefinementSettings(**config.get("refinement", {"steps": 0}))
    if refinement.steps and any(weight.requires_grad for weight in system.model.predictor.parameters()):
        refine(system, windows, settings, refinement, Path(run_dir), evaluate)
    state = PartialState()
    if state.is_main_process:
        write_model(system.model, {"spec": store.spec.to_dict()}, Path(run_dir))
    state.wait_for_everyone()
    state.destroy_process_group()


def train_whole_run(run_dir: Path, config: DictConfig) -> Footprint | None:
    """Collects what is missing and trains the run to its end, in as many processes as it asks for.

    Under ``accelerate launch`` every process comes here: the first one collects, all of them train.

    Returns:
        The run's footprint, for what is still to be done; None in processes that only train.
    """
    first = int(os.environ.get("RANK", 0)) == 0
    with PartialState(cpu=pick_device(config.train.device) == "cpu").main_process_first():
        if first:
            footprint = _prepare(run_dir, config)
    if not is_trained(run_dir):
        with footprint.stage("training") if first else nullcontext():
            if kind_of(config) == "samples":
                work, settings = train_on_samples, LoopSettings(**config.train)
            else:
                work, settings = train_run, TrainSettings(**config.train)
            launch(work, (str(run_dir),), pick_processes(settings))
    return footprint if first else None


def check_init(run_dir: Path, encoder: DictConfig | None) -> None:
    """Refuses an encoder that is to start from a run that is not there, before anything is collected."""
    init = encoder.get("init") if encoder is not None else None
    if init is not None and not (Path(init) / MODEL_FILE).is_file() and not (run_dir / STATE_FILE).is_file():
        raise ValueError(f"encoder.init={init}: expected the folder of a trained run, found no {MODEL_FILE} there")


def _prepare(run_dir: Path, config: DictConfig) -> Footprint:
    if kind_of(config) == "driving" and not is_trained(run_dir):
        check_driving(config, EnvSpec.from_env(env_factory(config).build()))
    check_init(run_dir, config.encoder)
    open_run(run_dir, config)
    footprint = Footprint(run_dir)
    with footprint.stage("collection"):
        if kind_of(config) == "samples":
            parts = open_samples(config)
            sentence = f"{config.data.name}: {len(parts[0])} samples to learn from, {len(parts[1])} held out"
            if parts[0].tells_nothing:
                sentence += "; all are of one class, so that probes have nothing to tell apart and give nan"
            known = {}
        else:
            store, sentence = open_store(config)
            known = {"store_hash": store.hash}
    if kind_of(config) == "driving" and not is_trained(run_dir):
        with footprint.stage("encoding"):
            view = view_of(config)
            before = footprint.facts.get("view_hash", view.hash)
            if before != view.hash:
                raise ValueError(
                    f"{run_dir} began with another encoder than {config.encoder.init} holds now; bring that back, or "
                    "begin anew with run=<name>"
                )
            footprint.note(view_hash=view.hash)
            encoded_store(store, view.hash, view.columns)
    footprint.note(data=sentence, **known, seed=config.seed, **machine())
    print(sentence)
    return footprint


def machine() -> dict[str, Any]:
    """What a figure was measured on."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        models = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        name = models[0] if models else name
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": name, "cores": num_cores(), "gpu": gpu, "torch": torch.__version__}


def check_disk(folder: Path, needed_gb: float) -> None:
    """Says before hours are lost that the disk will not do.

    Raises:
        ValueError: less than ``needed_gb`` free where ``folder`` is or will be.
    """
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    if free < needed_gb:
        raise ValueError(f"{folder}: a run needs about {needed_gb} GB of disk, {free:.2f} GB are free; make room")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's content; empty if there is none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix[:-1]: tree}
    return {key: value for name, branch in tree.items() for key, value in _flat(branch, f"{prefix}{name}.").items()}
