"""Acting by chunks of actions: whatever model says them, ACT-JEPA's, ACT's, behaviour cloning's or diffusion's."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence, Sized
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from policies.diffusion import DiffusionModel
from policies.planning import as_observation
from worldjepa.checkpoint import CONFIG_FILE, MODEL_FILE, load_tensors, load_weights
from worldjepa.systems.act_jepa import ChunkModel, build_chunk_model, what_it_takes
from worldjepa.types import EnvSpec


class ChunkPolicy:
    """Acts by a :class:`~worldjepa.systems.act_jepa.ChunkModel`. Follows :class:`worldjepa.evaluation.protocol.Policy`.

    Args:
        model: in eval mode.
        execute: raw actions of a chunk that are done before looking again, 1..H.
        ensemble: look at every step instead, and average what all chunks say of the step, the n-th oldest with weight
            exp(-ensemble n) (ACT, arXiv:2304.13705, algorithm 2); None to execute chunks as they are.
    """

    num_plans = 0
    plan_seconds = 0.0

    def __init__(self, model: ChunkModel, execute: int, ensemble: float | None = None):
        horizon = model.horizon
        if not 1 <= execute <= horizon:
            raise ValueError(f"execute must be between 1 and the chunk's {horizon} actions, got {execute}")
        self.model, self.execute, self.ensemble = model.eval(), execute, ensemble
        self.observes = model.observes

    def reset(self, goal_observation: dict[str, np.ndarray], seeds: Sequence[int]) -> None:
        """Forgets everything; goals are not looked at.

        Args:
            goal_observation: not looked at.
            seeds: B seeds of the environments' random streams, for models that draw their chunks.
        """
        self._generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        self._seen: deque[dict[str, np.ndarray]] = deque(maxlen=self.model.num_history)
        self._queue: deque[np.ndarray] = deque()
        self._chunks: deque[np.ndarray] = deque()

    @torch.no_grad()
    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """Raw actions float32 (B,raw_action_dim)."""
        self._seen.append(observation)
        if self.ensemble is not None:
            # Row 0 of every chunk kept is what it says of the present step; the oldest chunk comes first.
            self._chunks = deque(chunk[:, 1:] for chunk in self._chunks if chunk.shape[1] > 1)
            self._chunks.append(self._chunk())
            weights = np.exp(-self.ensemble * np.arange(len(self._chunks)))
            said = np.stack([chunk[:, 0] for chunk in self._chunks])
            return np.tensordot(weights / weights.sum(), said, 1).astype(np.float32)
        if not self._queue:
            self._queue.extend(self._chunk()[:, : self.execute].swapaxes(0, 1))
        return self._queue.popleft()

    def _chunk(self) -> np.ndarray:
        """(B,H,raw_action_dim) from what was seen last; at the start the first observation counts as its own past."""
        device, missing = next(self.model.buffers()).device, self.model.num_history - len(self._seen)
        seen = [*[self._seen[0]] * missing, *self._seen]
        # One environment at a time: on the CPU rounding would depend on the batch.
        chunks = [
            self.model(
                {
                    name: torch.cat([as_observation(each[name][i : i + 1], device) for each in seen], 1)
                    for name in self.observes
                },
                generator,
            )
            for i, generator in enumerate(self._generators)
        ]
        return torch.cat(chunks).float().cpu().numpy()


def load_chunk_policy(tasks: Sized, *, path: str, device: str = "cpu", **changes: Any) -> ChunkPolicy:
    """A trained policy; ``functools.partial`` of this is what evaluation workers are given.

    Args:
        path: its folder.
        changes: ``execute`` or ``ensemble`` in place of those it was trained with.
    """
    model, settings = load_chunk_model(str(Path(path).resolve()), device)
    return ChunkPolicy(model, **{"execute": settings["execute"], "ensemble": settings["ensemble"], **changes})


@lru_cache(maxsize=1)
def load_chunk_model(path: str, device: str = "cpu") -> tuple[ChunkModel | DiffusionModel, dict[str, Any]]:
    """The model of a trained policy's folder, in eval mode, and its ``policy`` settings.

    Raises:
        ValueError: no trained policy there, or weights that do not fit its configuration.
    """
    folder = Path(path)
    if not (folder / CONFIG_FILE).is_file():
        raise ValueError(f"{folder}: expected a trained policy with {CONFIG_FILE} and {MODEL_FILE}")
    config = OmegaConf.load(folder / CONFIG_FILE)
    tensors, metadata = load_tensors(folder / MODEL_FILE)
    model = build_model(config.policy, EnvSpec.from_dict(metadata["spec"]), metadata.get("encoder_spec"))
    load_weights(model, tensors, folder / MODEL_FILE)
    return model.to(device).eval(), OmegaConf.to_container(config.policy)


def build_model(policy: DictConfig, spec: EnvSpec, encoder_spec: str | None = None) -> ChunkModel | DiffusionModel:
    """An untrained model for a policy's settings and the episodes' specification.

    Args:
        policy: resolved.
        spec: of the episodes; all its pictures are looked at, by diffusion only ``pixels``, or what the encoder takes.
        encoder_spec: of a diffusion policy's encoder, in place of the one that its settings name.

    Raises:
        ValueError: the episodes lack what the policy needs, or settings that do not fit together.
    """
    encoder = None if policy.name == "diffusion" else _made(policy.encoder)
    takes = "pixels" if encoder is None else what_it_takes(encoder)
    for name in (takes, *(("proprioception",) if policy.get("feels", True) else ())):
        if name not in spec.fields:
            hint = "; choose another encoder@policy.encoder"
            if name == "proprioception":
                hint = "; policy=act policy.feels=false does without"
            elif "sweep" in spec.fields:
                hint = "; encoder@policy.encoder=route_tokens looks at a LiDAR's sweeps, as policy=driver does"
            raise ValueError(
                f"policy={policy.name} needs {name}, the episodes of {spec.env_id} have {', '.join(spec.fields)}{hint}"
            )
    cameras = [name for name, field in spec.fields.items() if field.is_picture] if takes == "pixels" else [takes]
    for name in cameras if takes == "pixels" else ():
        height, width = spec.fields[name].shape[:2]
        if height != width:
            raise ValueError(
                f"{name}: expected square pictures, got {height} x {width}; import them with image_size=<px>"
            )
    if not 1 <= policy.execute <= policy.horizon:
        raise ValueError(f"policy.execute must be in 1..policy.horizon ({policy.horizon}), got {policy.execute}")
    if policy.name == "diffusion":
        frozen = policy.frozen == "encoder"
        settings = {**policy.settings, "freeze_encoder": frozen, "encoder_spec": encoder_spec}
        return DiffusionModel(spec, policy.horizon, policy.execute, **settings)
    parts = encoder, _made(policy.context), _made(policy.decoder)
    return build_chunk_model(*parts, spec, policy.horizon, policy.feels, cameras)


def _made(part: DictConfig) -> Any:
    """What a part of the configuration describes."""
    try:
        return instantiate(part)
    except InstantiationException as error:  # hydra's, around what a part said about its settings
        raise ValueError(str(error.__cause__ or error)) from error
