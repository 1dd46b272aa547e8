"""LeRobot's Diffusion policy (arXiv:2303.04137) on our encoders, data, training loop and evaluation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from worldjepa.datasets.chunks import Chunks
from worldjepa.systems.act_jepa import shifted
from worldjepa.types import Chunk, EnvSpec, Observation

PICTURE, STATE, ACTION = "observation.image", "observation.state", "action"


class DiffusionModel(nn.Module):
    """The last two observations -> a chunk of raw actions, drawn by denoising.

    Args:
        spec: of the environment; one picture and proprioception.
        horizon: actions that are denoised together, a multiple of 8; the first belongs to the observation before.
        execute: H, actions of a chunk that are given out.
        settings: of :class:`lerobot_policy_worldjepa.WorldjepaEncoderConfig`: ``encoder``, ``image_size``, ``width``,
            ``num_inference_steps``, ...
    """

    num_history = 2
    observes = ("pixels", "proprioception")

    def __init__(self, spec: EnvSpec, horizon: int, execute: int, **settings: Any):
        super().__init__()
        from lerobot.configs.types import FeatureType, PolicyFeature
        from lerobot_policy_worldjepa.configuration_encoder import WorldjepaEncoderConfig
        from lerobot_policy_worldjepa.modeling_encoder import WorldjepaEncoderPolicy

        size = spec.fields["pixels"].shape[0]
        config = WorldjepaEncoderConfig(
            input_features={
                PICTURE: PolicyFeature(FeatureType.VISUAL, (3, size, size)),
                STATE: PolicyFeature(FeatureType.STATE, spec.fields["proprioception"].shape),
            },
            output_features={ACTION: PolicyFeature(FeatureType.ACTION, (spec.raw_action_dim,))},
            device="cpu",
            head="diffusion",
            image_size=size,
            chunk_size=horizon,
            n_action_steps=execute,
            **settings,
        )
        self.policy = WorldjepaEncoderPolicy(config)
        self.encoder_spec = config.encoder_spec
        self.horizon, self.denoised, self.raw_action_dim = execute, horizon, spec.raw_action_dim
        self.register_buffer("action_low", torch.tensor(spec.action_low))
        self.register_buffer("action_high", torch.tensor(spec.action_high))
        self.register_buffer("state_low", torch.zeros(spec.fields["proprioception"].shape))
        self.register_buffer("state_high", torch.ones(spec.fields["proprioception"].shape))

    def fit(self, chunks: Chunks) -> None:
        """Takes the range of the training data's proprioception: LeRobot's diffusion wants all numbers in [-1, 1]."""
        low, high = chunks.bounds("proprioception")
        self.state_low.copy_(low)
        self.state_high.copy_(high)

    def batch(self, obs: Observation) -> dict[str, Tensor]:
        """Observations (B,2,...) by LeRobot's names and in its ranges."""
        state = to_unit(obs["proprioception"], self.state_low, self.state_high)
        return {PICTURE: obs["pixels"].float() / 255, STATE: state}

    def normalize_action(self, raw: Tensor) -> Tensor:
        """(...,raw_action_dim) from the bounds to [-1, 1]."""
        return to_unit(raw, self.action_low, self.action_high)

    def forward(self, obs: Observation, generator: torch.Generator | None = None) -> Tensor:
        """Observations (B,2,...) -> raw actions (B,H,raw_action_dim), within their bounds."""
        batch = self.batch(obs)
        noise = torch.randn(len(batch[STATE]), self.denoised, self.raw_action_dim, generator=generator)
        self.policy.reset()
        action = self.policy.predict_action_chunk(batch, noise=noise.to(batch[STATE])).clamp(-1, 1)
        return (action + 1) / 2 * (self.action_high - self.action_low) + self.action_low


def to_unit(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """From [low, high] to [-1, 1]; what never varies becomes -1."""
    return 2 * (x - low) / (high - low).clamp_min(1e-6) - 1


class DiffusionSystem(nn.Module):
    """What training needs; follows what :func:`worldjepa.training.train` asks of a system.

    Args:
        model: what is trained.
        shift: pictures are moved by up to so many px in each direction while training.
    """

    def __init__(self, model: DiffusionModel, shift: int = 0):
        super().__init__()
        self.model, self.shift = model, shift

    def forward(self, chunk: Chunk, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """``denoising``: LeRobot's loss; a chunk begins at the older of the two observations.

        Noise and denoising steps come from the global stream, which training seeds for every step.
        """
        obs = {name: torch.cat([chunk.observation[name], chunk.future[name]], 1) for name in self.model.observes}
        if self.training and self.shift:
            obs["pixels"] = shifted(obs["pixels"], self.shift)
        batch = self.model.batch(obs)
        batch[ACTION] = self.model.normalize_action(chunk.action)
        batch["action_is_pad"] = ~chunk.valid
        loss = self.model.policy(batch)[0]
        return {"denoising": loss, "total": loss}

    def update_target(self, progress: float) -> None:
        """There is none."""
