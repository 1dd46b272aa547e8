"""ACT-JEPA as a LeRobot policy: worldjepa's model and losses, LeRobot's data, normalisation, loop and folders."""

from __future__ import annotations

import math
from collections import deque
from functools import partial
from typing import Any

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from lerobot_policy_worldjepa.configuration_act import WorldjepaActConfig
from lerobot_policy_worldjepa.encoders import as_pixels, encoder_for
from worldjepa.normalizer import ActionNormalizer
from worldjepa.predictors.queries import QueryPredictor
from worldjepa.systems.act_jepa import ActJepa, ChunkModel, ContextEncoder
from worldjepa.targets import Ema
from worldjepa.types import Chunk, Observation


class WorldjepaActPolicy(PreTrainedPolicy):
    """See :class:`WorldjepaActConfig`. Normalised states come in and normalised actions go out, as LeRobot does it.

    Args:
        config: features filled in.
        dataset_stats: LeRobot's statistics; the pictures' mean colour is taken from them.
        dataset_meta: LeRobot's; the tasks are taken from it.
    """

    config_class = WorldjepaActConfig
    name = "worldjepa_act"

    def __init__(
        self,
        config: WorldjepaActConfig,
        dataset_stats: dict[str, dict[str, Any]] | None = None,
        dataset_meta: Any = None,
        **_: Any,
    ):
        super().__init__(config)
        config.validate_features()
        if not config.tasks and dataset_meta is not None and len(dataset_meta.tasks) > 1:
            config.tasks = [str(text) for text in dataset_meta.tasks.index]
        self.cameras = list(config.image_features)
        state, action = config.robot_state_feature, config.action_feature
        encoder = encoder_for(config, dataset_stats)
        context = ContextEncoder(
            state_dim=state.shape[0] if state else 0,
            token_dim=encoder.latent_dim,
            num_tokens=encoder.num_tokens,
            coords=getattr(encoder, "coords", None),
            num_cameras=len(self.cameras),
            num_tasks=len(config.tasks),
            width=config.width,
            depth=config.depth,
            heads=config.heads,
            dropout=config.dropout,
        )
        size, width = action.shape[0], config.width
        decoder = QueryPredictor(width, config.chunk_size, size, width=width, heads=config.heads)
        unbounded = ActionNormalizer((-math.inf,) * size, (math.inf,) * size, 1)
        model = ChunkModel(encoder, context, decoder, unbounded, config.chunk_size, self.cameras)
        predictor = None
        if config.predicts:
            sizes = {"width": config.predictor_width, "depth": config.predictor_depth, "heads": config.heads}
            predictor = QueryPredictor(width, len(config.predicted_steps), width, **sizes)
        self.system = ActJepa(
            model,
            predictor=predictor,
            target=partial(Ema, start=config.momentum, end=config.momentum),
            prediction=config.prediction_weight,
            frozen="encoder" if config.freeze_encoder else "nothing",
            shift=config.shift,
        )
        self.reset()

    def get_optim_params(self) -> list[torch.nn.Parameter]:
        """What is trained: not the target, nor a frozen encoder."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def reset(self) -> None:
        """To be called when an episode starts."""
        self._queue: deque[Tensor] = deque()

    def update(self) -> None:
        """LeRobot calls this after every optimiser step."""
        self.system.update_target(0.0)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Total loss of a batch, and its terms by name."""
        action, future = batch[ACTION], {}
        valid = ~batch.get("action_is_pad", torch.zeros_like(action[..., 0], dtype=torch.bool))
        later = valid[:, :0]
        if self.config.predicts:
            future = {"proprioception": batch[OBS_STATE][:, 1:]}
            later = ~batch.get(f"{OBS_STATE}_is_pad", torch.zeros_like(batch[OBS_STATE][..., 0], dtype=torch.bool))[
                :, 1:
            ]
        losses = self.system(Chunk(self._observation(batch), action, valid, future, later))
        return losses["total"], {name: loss.item() for name, loss in losses.items() if name != "total"}

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Tensor], **_: Any) -> Tensor:
        """(B,chunk_size,action), normalised."""
        self.eval()
        return self.system.model(self._observation(batch))

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], **_: Any) -> Tensor:
        """(B,action), normalised; looks once per ``n_action_steps``."""
        if not self._queue:
            self._queue.extend(self.predict_action_chunk(batch)[:, : self.config.n_action_steps].transpose(0, 1))
        return self._queue.popleft()

    def _observation(self, batch: dict[str, Tensor]) -> Observation:
        """The moment itself, whether or not LeRobot loaded later ones too."""

        def now(value: Tensor, ndim: int) -> Tensor:
            return (value[:, None] if value.ndim == ndim else value)[:, :1]

        obs = {name: as_pixels(now(batch[name], 4), self.config.image_size) for name in self.cameras}
        if self.config.robot_state_feature is not None:
            obs["proprioception"] = now(batch[OBS_STATE], 2)
        if self.config.tasks:
            unknown = sorted(set(batch.get("task", ["nothing"])) - set(self.config.tasks))
            if unknown:
                known = ", ".join(map(repr, self.config.tasks))
                raise ValueError(f"expected a task among {known}, got {', '.join(map(repr, unknown))}")
            which = [self.config.tasks.index(text) for text in batch["task"]]
            obs["task"] = torch.tensor(which, device=batch[self.cameras[0]].device)[:, None]
        return obs
