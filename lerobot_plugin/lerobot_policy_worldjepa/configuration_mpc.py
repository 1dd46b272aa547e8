"""A world model and a planner as a LeRobot policy type."""

from __future__ import annotations

from dataclasses import dataclass, field

from lerobot.configs import PreTrainedConfig
from lerobot.configs.types import NormalizationMode
from lerobot.optim import AdamWConfig, CosineDecayWithWarmupSchedulerConfig


@PreTrainedConfig.register_subclass("worldjepa_mpc")
@dataclass
class WorldjepaMpcConfig(PreTrainedConfig):
    """A latent world model that acts by planning towards a goal picture (CEM); trained by LeRobot, or a worldjepa run.

    Args:
        run: folder of a trained worldjepa run, taken as it is; None for a new model to be trained.
        spec: what was built (JSON); filled in by the policy, so that a saved one needs nothing else.
        goal: a picture file, or ``episode:<number>``, the last picture of a demonstration in the dataset.
        relative_actions: the model's actions are relative to observation.state, in so many units of the dataset's
            absolute actions (100 for a run of env=pusht, found by itself); 0 for actions as they are.
        image_size: height and width in px that pictures are resized to; a run has its own.
        frameskip: environment steps per model step; a run has its own.
        clip_steps: model steps of a training clip.
        horizon: model steps planned ahead.
        replan_every: environment steps between plans.
        num_samples, num_iterations, num_elites: of the cross-entropy method.
        seed: of planning.
    """

    n_obs_steps: int = 1
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: dict.fromkeys(("VISUAL", "STATE", "ACTION"), NormalizationMode.IDENTITY)
    )
    run: str | None = None
    spec: str | None = None
    goal: str = "episode:0"
    relative_actions: float | None = None
    image_size: int = 64
    frameskip: int = 5
    clip_steps: int = 4
    horizon: int = 5
    replan_every: int = 5
    num_samples: int = 300
    num_iterations: int = 10
    num_elites: int = 30
    seed: int = 0

    optimizer_lr: float = 1.5e-3
    optimizer_weight_decay: float = 1e-4
    scheduler_warmup_steps: int = 200
    scheduler_decay_steps: int = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("frameskip", "horizon", "replan_every", "num_samples", "num_iterations", "num_elites"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.clip_steps < 2:
            raise ValueError(f"clip_steps must be >= 2 (a step and its successor), got {self.clip_steps}")
        if self.replan_every > self.horizon * self.frameskip:
            raise ValueError(
                f"replan_every must be at most the horizon's {self.horizon * self.frameskip} steps, "
                f"got {self.replan_every}"
            )
        if self.num_elites > self.num_samples:
            raise ValueError(f"num_elites must be at most num_samples ({self.num_samples}), got {self.num_elites}")

    @property
    def drop_n_last_frames(self) -> int:
        """LeRobot's sampler starts no clip so late that it would run over the end of its episode."""
        return (self.clip_steps - 1) * self.frameskip

    @property
    def camera(self) -> str:
        """The picture that the model sees."""
        return next(iter(self.image_features))

    def validate_features(self) -> None:
        """Raises ValueError unless there are a picture and actions, and a state where actions are relative to it."""
        if len(self.image_features) != 1:
            raise ValueError(f"worldjepa_mpc sees exactly one picture, got {sorted(self.image_features)}")
        if self.action_feature is None:
            raise ValueError(f"worldjepa_mpc needs the feature action; got {sorted(self.output_features or {})}")
        if self.relative_actions and self.robot_state_feature is None:
            raise ValueError("relative_actions needs the feature observation.state, which is missing")

    @property
    def observation_delta_indices(self) -> list[int]:
        return [step * self.frameskip for step in range(self.clip_steps)]

    @property
    def action_delta_indices(self) -> list[int]:
        return list(range((self.clip_steps - 1) * self.frameskip))

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> AdamWConfig:
        return AdamWConfig(lr=self.optimizer_lr, weight_decay=self.optimizer_weight_decay, betas=(0.9, 0.98))

    def get_scheduler_preset(self) -> CosineDecayWithWarmupSchedulerConfig:
        return CosineDecayWithWarmupSchedulerConfig(
            num_warmup_steps=self.scheduler_warmup_steps,
            num_decay_steps=self.scheduler_decay_steps,
            peak_lr=self.optimizer_lr,
            decay_lr=0.02 * self.optimizer_lr,
        )
