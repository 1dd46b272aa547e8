"""Goal-conditioned behaviour cloning on a world model's latents: the first learned policy, and planning's yardstick.

Goals are taken in hindsight: whatever an episode came to later is what it was aiming at (GCSL, arXiv:1912.06088).
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Sequence, Sized
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.planning import as_observation
from worldjepa.checkpoint import CONFIG_FILE, MODEL_FILE, load_tensors, load_weights, load_world_model, save_tensors
from worldjepa.config import TrainSettings
from worldjepa.datasets.store import EpisodeStore
from worldjepa.datasets.windows import Windows
from worldjepa.refinement import StoredLatents, encode_episodes
from worldjepa.systems.world_model import WorldModel
from worldjepa.training import train
from worldjepa.types import Segment


class GoalActor(nn.Module):
    """Latents now, one model step ago, and of the goal -> a block of actions.

    Args:
        latent_dim, num_tokens, action_dim: P, D and A of the world model.
        width, depth: of the residual blocks.
    """

    def __init__(self, latent_dim: int, num_tokens: int, action_dim: int, width: int = 512, depth: int = 2):
        super().__init__()
        self.enter = nn.Linear(3 * latent_dim * num_tokens, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(depth)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, action_dim))

    def forward(self, before: Tensor, now: Tensor, goal: Tensor) -> Tensor:
        """Three (B,P,D) -> (B,A), normalised."""
        x = self.enter(torch.cat([now.flatten(1), (now - before).flatten(1), (goal - now).flatten(1)], -1))
        for block in self.blocks:
            x = x + block(x)
        return self.leave(x)


class CloningSystem(nn.Module):
    """What training behaviour cloning needs; follows what :func:`worldjepa.training.train` asks of a system.

    Args:
        model: its encoder looks, its statistics scale the actions; nothing else of it is used or changed.
        actor: what is learned.
        finetune: train the encoder too.
    """

    def __init__(self, model: WorldModel, actor: GoalActor, finetune: bool = False):
        super().__init__()
        self.model, self.actor, self.finetune = model.requires_grad_(False), actor, finetune
        if finetune:
            model.encoder.requires_grad_(True)

    def train(self, mode: bool = True) -> CloningSystem:
        """A frozen encoder stays in eval mode."""
        super().train(mode)
        self.model.train(mode and self.finetune)
        return self

    def forward(self, segment: Segment, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """``imitation``: mean absolute error of the block that follows frame 1, for a goal among the frames after it.

        Raises:
            ValueError: clips of less than 3 frames.
        """
        batch_size, num_steps = segment.action.shape[:2]
        if num_steps < 2:
            raise ValueError(f"behaviour cloning needs clips of at least 3 frames, got {num_steps + 1}")
        with torch.set_grad_enabled(self.finetune and torch.is_grad_enabled()):
            latent = self.model.encode(segment.observation).float()
        which = torch.randint(2, num_steps + 1, (batch_size,), generator=generator).to(latent.device)
        goal = latent[torch.arange(batch_size, device=latent.device), which]
        guess = self.actor(latent[:, 0], latent[:, 1], goal)
        loss = F.l1_loss(guess.float(), self.model.normalize_action(segment.action[:, 1]))
        return {"imitation": loss, "total": loss}

    def update_target(self, progress: float) -> None:
        """There is none."""


class CloningPolicy:
    """Acts by a :class:`GoalActor`. Follows :class:`worldjepa.evaluation.protocol.Policy`.

    Args:
        model, actor: in eval mode.
        observes: observations the model's encoder reads.
    """

    num_plans = 0
    plan_seconds = 0.0

    def __init__(self, model: WorldModel, actor: GoalActor, observes: tuple[str, ...] = ("pixels",)):
        self.model, self.actor, self.observes = model.eval(), actor.eval(), tuple(observes)

    @torch.no_grad()
    def reset(self, goal_observation: dict[str, np.ndarray], seeds: Sequence[int]) -> None:
        """Takes up B goals; nothing here is random."""
        self._goal = self._encode(goal_observation)
        self._seen: deque[Tensor] = deque(maxlen=2)  # a model step apart
        self._queue: deque[np.ndarray] = deque()

    @torch.no_grad()
    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """Raw actions float32 (B,raw_action_dim); looks once per block."""
        if not self._queue:
            self._seen.append(self._encode(observation))
            action = self.actor(self._seen[0], self._seen[-1], self._goal)
            action = action.clamp(self.model.action_low, self.model.action_high)
            raw = self.model.denormalize_action(action).unflatten(-1, (self.model.frameskip, -1))
            self._queue.extend(raw.float().cpu().numpy().swapaxes(0, 1))
        return self._queue.popleft()

    def _encode(self, observation: dict[str, np.ndarray]) -> Tensor:
        device = self.model.action_low.device
        # One at a time: on the CPU rounding would depend on the batch.
        rows = range(len(next(iter(observation.values()))))
        latents = [
            self.model.encode({name: as_observation(observation[name][i : i + 1], device) for name in self.observes})
            for i in rows
        ]
        return torch.cat(latents)[:, 0].float()


def load_cloning_policy(tasks: Sized, *, path: str, device: str = "cpu") -> CloningPolicy:
    """A trained policy; ``functools.partial`` of this is what evaluation workers are given."""
    return CloningPolicy(*_load(str(Path(path).resolve()), device))


@lru_cache(maxsize=1)
def _load(path: str, device: str) -> tuple[WorldModel, GoalActor, tuple[str, ...]]:
    from omegaconf import OmegaConf

    folder = Path(path)
    if not (folder / CONFIG_FILE).is_file():
        raise ValueError(f"{folder}: expected a trained policy with {CONFIG_FILE} and {MODEL_FILE}")
    config = OmegaConf.to_container(OmegaConf.load(folder / CONFIG_FILE))
    model, run = load_world_model(config["world_model"])
    actor = build_actor(model, config["policy"]["width"], config["policy"]["depth"])
    tensors, _ = load_tensors(folder / MODEL_FILE)
    system = CloningSystem(model, actor)
    load_weights(system, tensors, folder / MODEL_FILE)
    return system.model.to(device), system.actor.to(device), tuple(run["observations"])


def build_actor(model: WorldModel, width: int, depth: int) -> GoalActor:
    """An actor of the world model's sizes."""
    return GoalActor(model.latent_dim, model.num_tokens, model.action_dim, width, depth)


def train_cloning(folder: str) -> None:
    """Trains the policy that ``folder``'s configuration describes, going on where it stopped; one call per process.

    A frozen encoder looks at every picture once, before training.
    """
    from accelerate import PartialState
    from omegaconf import OmegaConf

    place = Path(folder)
    config = OmegaConf.to_container(OmegaConf.load(place / CONFIG_FILE))
    model, run = load_world_model(config["world_model"])
    env, finetune = run["env"], config["policy"]["finetune"]
    settings = TrainSettings(**config["train"])
    num_steps = 2 + env["goal_offset"] // env["frameskip"]
    clips = Windows(EpisodeStore.open(env["store"]), num_steps, env["frameskip"], tuple(run["observations"]))
    torch.manual_seed(settings.seed)
    actor = build_actor(model, config["policy"]["width"], config["policy"]["depth"])
    seeing, latents = model, place / "latents"
    if not finetune:
        store = encode_episodes(model, clips, latents, bf16=False)
        clips = Windows(store, num_steps, env["frameskip"], ("latent",))
        stored = StoredLatents(model.num_tokens, model.latent_dim)
        seeing = WorldModel(stored, model.predictor, model.action_normalizer)
    train(CloningSystem(seeing, actor, finetune), clips, settings, place, unit="images" if finetune else "latents")
    state = PartialState()
    if state.is_main_process:
        tensors = CloningSystem(model, actor).state_dict()
        save_tensors(place / MODEL_FILE, {name: tensor.cpu() for name, tensor in tensors.items()}, {})
        shutil.rmtree(latents, ignore_errors=True)
    state.wait_for_everyone()
    state.destroy_process_group()
