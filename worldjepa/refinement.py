"""The second phase of training: the encoder stands still, every picture is encoded once, the predictor goes on alone.

Contact is rare and chaotic: it takes many episodes to learn, and a predictor costs a hundredth of its encoder. On
stored latents it sees in minutes what joint training would need hours for. (DINO-WM, arXiv:2411.04983, trains its
predictor on a frozen encoder from the start.)
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import PartialState
from rich.progress import track
from torch import Tensor, nn

from worldjepa.config import RefinementSettings, TrainSettings
from worldjepa.datasets.store import EpisodeStore
from worldjepa.datasets.windows import Windows, channels_first
from worldjepa.systems.world_model import WorldModel, WorldModelSystem, build_system
from worldjepa.training import REFINEMENT_FOLDER, pick_precision, train
from worldjepa.types import Episode, FieldSpec, Observation

ON_LATENTS = ("one_step", "rollout", "reward")
"""Training terms that have a meaning without the encoder."""


class StoredLatents(nn.Module):
    """In an encoder's place: passes on ``obs["latent"]`` (B,T,P,D)."""

    def __init__(self, num_tokens: int, latent_dim: int):
        super().__init__()
        self.num_tokens, self.latent_dim = num_tokens, latent_dim

    def forward(self, obs: Observation) -> Tensor:
        return obs["latent"]


def refine(
    system: WorldModelSystem,
    windows: Windows,
    settings: TrainSettings,
    refinement: RefinementSettings,
    run_dir: Path,
    evaluate: Callable[[WorldModel], dict[str, float]],
) -> None:
    """Trains the predictor of a jointly trained ``system`` further, in place, on latents of its training episodes.

    Goes on where it was stopped, like :func:`worldjepa.training.train`, whose errors it raises. Every process of a
    data-parallel group must call it.

    Args:
        windows: the clips of joint training.
        settings: of joint training; ``refinement`` replaces steps, batch size and learning rate.
        evaluate: called with the whole model, encoder included.
    """
    model, state = system.model, PartialState()
    folder = run_dir / REFINEMENT_FOLDER  # of its checkpoint and metrics, and of the latents while it lasts
    model.eval()  # BatchNorm's running statistics, which planning uses too
    path, removed = folder / f"latents-{_fingerprint(model.encoder)}", folder / "removed"
    store = encode_episodes(model, windows, path, pick_precision(settings) == "bf16")
    clips = Windows(store, windows.num_steps, windows.frameskip, ("latent",))
    stored = StoredLatents(model.num_tokens, model.latent_dim)
    terms = {name: term for name, term in system.objective.terms.items() if name in ON_LATENTS}
    weights = {name: system.objective.weights[name] for name in terms}
    predicting = build_system(
        WorldModel(stored, model.predictor, model.action_normalizer, model.reward), terms, weights
    )
    changed = {name: getattr(refinement, name) for name in ("steps", "batch_size", "learning_rate")}
    # Whatever the predictor saw last in joint training, it sees other clips first here.
    settings = replace(settings, **changed, minutes=None, num_evaluations=1, seed=settings.seed + 2**31)
    train(predicting, clips, settings, folder, lambda _: evaluate(model), unit="latents")
    state.wait_for_everyone()
    if state.is_main_process:
        # Renamed first: after a kill, a store that is half removed would be taken for a damaged one.
        shutil.rmtree(removed, ignore_errors=True)
        shutil.rmtree(path.rename(removed))


@torch.no_grad()
def encode_episodes(model: WorldModel, windows: Windows, path: Path, bf16: bool) -> EpisodeStore:
    """A store with ``latent`` (P,D), action and state of the training episodes of ``windows``.

    The processes of a data-parallel group share the shards; those that are there already are kept.
    """
    state, source = PartialState(), windows.store
    kept_columns = [name for name in ("action", "state", "reward") if name in source.spec.fields]
    latent = FieldSpec("float32", (model.num_tokens, model.latent_dim))
    fields = {"latent": latent} | {name: source.spec.fields[name] for name in kept_columns}
    device = next(model.parameters()).device
    with state.main_process_first():
        store = EpisodeStore.create(path, replace(source.spec, fields=fields))
    if state.is_main_process:
        store.check_room(int(source.lengths[windows.episodes].sum()))
    wanted = set(windows.episodes.tolist())
    shards = list(source.shards())[state.process_index :: state.num_processes]
    for name, index, numbers in track(shards, "encoding", disable=not state.is_local_main_process):
        kept = [source.episode(number) for number in numbers if number in wanted]
        if not kept or store.has_shard(name, index):
            continue
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            latents = [_encoded(model, episode, windows.observations, device) for episode in kept]
        episodes = [
            Episode({**{key: e.arrays[key] for key in kept_columns}, "latent": z}, e.group, e.policy)
            for e, z in zip(kept, latents, strict=True)
        ]
        store.write_shard(name, index, episodes)
    state.wait_for_everyone()
    store.refresh()
    return store


def _encoded(model: WorldModel, episode: Episode, observations: tuple[str, ...], device: torch.device):
    """float32 (L,P,D) of an episode of L frames."""
    obs = {name: channels_first(torch.tensor(episode.arrays[name][:], device=device)[None]) for name in observations}
    return model.encode(obs)[0].float().cpu().numpy()


def _fingerprint(encoder: nn.Module) -> str:
    """Eight hex digits of an encoder's weights, so that latents of another one are never taken for its own."""
    digest = hashlib.sha256()
    for tensor in encoder.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]
