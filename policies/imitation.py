"""Learning chunks of actions from demonstrations: ACT-JEPA, ACT, behaviour cloning and diffusion, by configuration."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from policies.chunk_policy import build_model
from policies.diffusion import DiffusionModel, DiffusionSystem
from worldjepa.checkpoint import CONFIG_FILE, MODEL_FILE, load_world_model, save_tensors, start_from
from worldjepa.config import TrainSettings
from worldjepa.datasets.chunks import Chunks, JoinedChunks
from worldjepa.datasets.encoded import encoded_store
from worldjepa.datasets.splits import pixel_mean, split_episodes
from worldjepa.datasets.store import EpisodeStore
from worldjepa.encoders.bev_view import STORED
from worldjepa.evaluation.probes import fit_linear
from worldjepa.runs import env_factory
from worldjepa.systems.act_jepa import ActJepa, ChunkModel, what_it_takes
from worldjepa.training import pick_device, train

SHIFT = 4
"""px; a frozen encoder has not learned to see through it: 0.34 held-out error with, 0.32 without (PushT, one seed)."""
GATHERED, SAID = "gathered", "said.npy"
"""What an expert was asked for: a store of policies ``round_0``, ..., and actions of all demonstrations' frames."""
NUM_PROBED, PROBE_SEED = 1500, 10_003
"""Moments on each side of the probes, and the random stream that chooses them."""


def imitation_config(config: DictConfig) -> DictConfig:
    """The configuration of a policy's folder: the environment as imitation needs it, and the policy's encoder.

    Raises:
        ValueError: the environment has no demonstrations, or the world model's run does not fit.
    """
    if config.get("env") is None:
        raise ValueError("imitation needs demonstrations of an environment: give env=<environment>, such as env=pusht")
    if "imitation" not in config.env:
        raise ValueError(f"env={config.env.name} has no section imitation that says where its demonstrations come from")
    parts = OmegaConf.to_container(config)  # interpolations stay as they are: the changes count in them
    changes = parts["env"].pop("imitation")
    env, policy = OmegaConf.merge(parts["env"], changes), OmegaConf.create(parts["policy"])
    if env.id is None:
        pictures = EpisodeStore.open(env.store).spec.fields.get("pixels")
        env.image_size = pictures.shape[0] if pictures else None
    if config.run is not None:
        _, run = load_world_model(config.run)
        if list(run["observations"]) != ["pixels"]:
            raise ValueError(f"{config.run}: expected a model of pixels alone, it observes {run['observations']}")
        env.image_size = run["env"]["image_size"]
        if policy.name == "diffusion":
            policy.settings.encoder = config.run
        else:
            policy.encoder = run["encoder"]
    if policy.shift is None:
        policy.shift = 0 if policy.frozen == "encoder" else SHIFT
    rest = {name: parts[name] for name in ("run", "data", "seed", "collection_seed", "collection_workers", "train")}
    made = OmegaConf.create({"env": env, "policy": policy, **rest})
    return OmegaConf.create(OmegaConf.to_container(made, resolve=True))  # resolve() takes no dict from a resolver


def demonstrators(store: EpisodeStore) -> list[str] | None:
    """Whose episodes are learned from: people's alone where there are some, else everybody's."""
    return ["human"] if "human" in store.policies else None


def build_imitation(
    config: DictConfig, store: EpisodeStore, asked: str | None = None, rounds: int = 0
) -> tuple[ChunkModel | DiffusionModel, Chunks | JoinedChunks]:
    """A new model with the data's statistics in it, and its training data, from a resolved configuration.

    Args:
        asked: folder with what the expert said, see :mod:`policies.dagger`: of the demonstrations, in place of what was
            done there, and of the first ``rounds`` rounds.

    Raises:
        ValueError: as :func:`policies.chunk_policy.build_model`, or nothing to predict.
    """
    policy = config.policy
    torch.manual_seed(config.train.seed)
    model = build_model(policy, store.spec)
    if policy.name == "diffusion":
        chunks = Chunks(store, policy.horizon, model.observes, model.observes, (1,), policies=demonstrators(store))
        model.fit(chunks)
        encoder = model.policy.encoder
        start_from(encoder)
    else:
        encoder = model.encoder
        start_from(encoder)
        store, seen = stored_latents(model, store)
        future: tuple[str, ...] = ()
        steps = range(policy.every, policy.horizon + 1, policy.every)
        if policy.predictor is not None:
            if not steps:
                raise ValueError(f"policy.every must be in 1..policy.horizon ({policy.horizon}), got {policy.every}")
            future = model.cameras if policy.predicts == "pixels" else model.felt or (policy.predicts,)
        said = None if asked is None else np.load(Path(asked) / SAID)
        chunks = Chunks(store, policy.horizon, seen, future, steps, policies=demonstrators(store), actions=said)
        if rounds:
            own = [f"round_{number}" for number in range(rounds)]
            more = Chunks(EpisodeStore.open(Path(asked) / GATHERED), policy.horizon, seen, future, steps, policies=own)
            chunks = JoinedChunks([chunks, more])
        model.fit([chunks.statistics(name) for name in model.felt], chunks.statistics("action"))
    if config.run is None:
        if what_it_takes(encoder) == "pixels":
            encoder.normalizer.fit(pixel_mean(store, chunks.episodes, num_frames=2000, seed=0))
    elif policy.name != "diffusion":  # there the plugin has loaded them
        encoder.load_state_dict(load_world_model(config.run)[0].encoder.state_dict())
    return model, chunks


def stored_latents(model: ChunkModel, store: EpisodeStore, device: str = "cpu") -> tuple[EpisodeStore, tuple[str, ...]]:
    """The episodes as a model learns from them, and what it observes there: a frozen view's latents are made once."""
    view = getattr(model.encoder, "view", None)
    if view is None or not view.frozen:
        return store, model.observes
    view.to(device).eval()
    found = encoded_store(store, view.hash, view.columns)
    view.cpu()
    return found, (*STORED, *(name for name in model.observes if name != model.takes))


def prepare_imitation(config: DictConfig, store: EpisodeStore) -> None:
    """Makes what training needs of the episodes and is not there yet, before there are several processes."""
    if config.policy.name != "diffusion":
        model = build_model(config.policy, store.spec)
        start_from(model.encoder)
        stored_latents(model, store, pick_device(config.train.device))


def held_out_measures(config: DictConfig, chunks: Chunks) -> Callable[[ChunkModel], dict[str, float]]:
    """What is measured while training: held-out actions, and what linear probes read off the frozen latents.

    ``held_out_error`` is the mean absolute error of actions over that of always the mean action. ``probe/<what>/now``
    and ``.../later`` (H steps on) are root mean square errors, each number in units of its spread, of the
    proprioception (the paper's probe) and of the environment's probe targets (``state``). Probes are fitted to
    episodes of the training split and scored on held-out ones.
    """
    horizon, store = config.policy.horizon, chunks.store
    columns = ["state", *(["proprioception"] if "proprioception" in store.spec.fields else [])]
    parts = [
        Chunks(
            store, horizon, {*chunks.observations, *columns}, columns, (horizon,), split, demonstrators(store)
        ).sample(NUM_PROBED, PROBE_SEED, 0)
        for split in ("train", "held_out")
    ]
    targets = env_factory(config).build().unwrapped.probe_targets if config.env.id else lambda state: {"": state}

    def named(column: str, values: Tensor) -> np.ndarray:
        """(N,S) -> (N,k): all targets of a state side by side, proprioception as it is."""
        numbers = values.double().numpy()
        return np.concatenate(list(targets(numbers).values()), -1) if column == "state" else numbers

    everything = [np.ones(NUM_PROBED, bool)] * 2
    inside = [part.future_valid[:, 0].numpy() for part in parts]  # H steps on, some episodes are over
    wanted = {}
    for column in columns:
        now = [named(column, part.observation[column][:, 0]) for part in parts]
        later = [named(column, part.future[column][:, 0]) for part in parts]
        wanted[f"probe/{column}/now"] = list(zip(everything, now, strict=True))
        if all(rows.any() for rows in inside):  # not where every episode is shorter than a chunk
            wanted[f"probe/{column}/later"] = list(zip(inside, later, strict=True))

    def evaluate(model: ChunkModel) -> dict[str, float]:
        device, features, guesses = next(model.buffers()).device, [], []
        for part in parts:
            pieces = [
                model.encode({name: part.observation[name][i : i + 50].to(device) for name in chunks.observations})
                for i in range(0, NUM_PROBED, 50)
            ]
            features.append(torch.cat([torch.cat([x[:, 0], x.mean(1)], -1).cpu() for x in pieces]).numpy())
            guesses.append(torch.cat([model.act(piece).cpu() for piece in pieces]))
        held_out, center = parts[1], model.action_normalizer.center.cpu()
        error = (guesses[1] - held_out.action).abs()[held_out.valid].mean()
        measures = {"held_out_error": float(error / (held_out.action - center).abs()[held_out.valid].mean())}
        for name, ((rows, seen), (tested, unseen)) in wanted.items():
            spread = seen[rows].std(0) + 1e-9
            probe = fit_linear(features[0][rows], seen[rows] / spread)
            error = probe.predict(features[1][tested]) - unseen[tested] / spread
            measures[name] = float(np.sqrt((error**2).mean()))
        return measures

    return evaluate


def train_imitation(folder: str, asked: str | None = None, rounds: int = 0) -> None:
    """Trains the policy that ``folder``'s configuration describes, going on where it stopped; one call per process.

    Args:
        asked, rounds: see :func:`build_imitation`.
    """
    place = Path(folder)
    config = OmegaConf.load(place / CONFIG_FILE)
    policy = config.policy
    values = OmegaConf.to_container(config.train)
    settings = TrainSettings(**{**values, "trackers": tuple(values["trackers"])})
    store = EpisodeStore.open(config.env.store)
    model, chunks = build_imitation(config, store, asked, rounds)
    drawn, evaluate = policy.name == "diffusion", None
    first = int(os.environ.get("RANK", 0)) == 0
    if not drawn and len(split_episodes(store, "held_out")):
        # The first process evaluates; the others must know when, to wait for it.
        evaluate = held_out_measures(config, chunks) if first else lambda model: {}
    elif not drawn and first:
        print(f"{store.path} has no held-out episodes: nothing is measured while training")

    def fit(system: nn.Module, place: Path, settings: TrainSettings) -> None:
        train(system, chunks, settings, place, evaluate, unit="chunks", units_per_clip=1)

    def learn(place: Path, settings: TrainSettings, **terms: Any) -> None:
        predictor = None
        if policy.predictor is not None and terms["prediction"]:
            width = model.context.latent_dim
            sizes = {"context_dim": width, "num_queries": len(chunks.steps), "out_dim": width}
            predictor = instantiate(policy.predictor)(**sizes)
        target = instantiate(policy.target)
        terms |= {"shift": policy.shift, "loss": policy.loss, "overshoot": policy.overshoot}
        fit(ActJepa(model, policy.predicts, predictor, target, **terms), place, settings)

    if drawn:
        fit(DiffusionSystem(model, policy.shift), place, settings)
    elif policy.two_stage:
        half = {name: value / 2 for name in ("steps", "minutes") if (value := getattr(settings, name)) is not None}
        half = {name: max(1, int(value)) if name == "steps" else value for name, value in half.items()}
        pretraining = place / "pretraining"
        pretraining.mkdir(exist_ok=True)
        learn(pretraining, replace(settings, **half), imitation=0.0, prediction=1.0, frozen=policy.frozen)
        model.requires_grad_(True)
        learn(place, replace(settings, **half), imitation=1.0, prediction=0.0, frozen="context")
    else:
        learn(place, settings, imitation=policy.imitation, prediction=policy.prediction, frozen=policy.frozen)
    state = PartialState()
    if state.is_main_process:
        spec = {"spec": store.spec.to_dict(), "encoder_spec": model.encoder_spec if drawn else None}
        save_tensors(place / MODEL_FILE, model.state_dict(), spec)
    state.wait_for_everyone()
    state.destroy_process_group()
