"""ACT-JEPA as a LeRobot policy type."""

from __future__ import annotations

from dataclasses import dataclass, field

from lerobot.configs import PreTrainedConfig
from lerobot.configs.types import NormalizationMode
from lerobot.optim import AdamWConfig, CosineDecayWithWarmupSchedulerConfig


@PreTrainedConfig.register_subclass("worldjepa_act")
@dataclass
class WorldjepaActConfig(PreTrainedConfig):
    """ACT-JEPA (arXiv:2501.14622): imitates chunks of actions and predicts the latents of what follows.

    Args:
        chunk_size: actions of a chunk.
        n_action_steps: of which so many are done before looking again.
        image_size: height and width in px that pictures are resized to.
        encoder: of pictures: ``conv_tokens``, ``resnet_tokens``, ``glimpse``, or the folder of a trained worldjepa run.
        encoder_spec: what was built (JSON); filled in by the policy, so that a saved one needs nothing else.
        freeze_encoder: leave the picture encoder as it is.
        width, depth, heads, dropout: of the context transformer.
        predictor_width, predictor_depth: of the latents' predictor.
        prediction_weight: of the latent loss; 0 leaves it out, which is ACT without its CVAE.
        prediction_every: steps between the predicted ones. LeRobot decodes the pictures of all of them.
        momentum: of the slow copy that makes the targets (constant: LeRobot does not say how long it will train).
        shift: px by which pictures are moved while training.
        tasks: what LeRobot calls the dataset's tasks; filled in where there are several, each then has its token.
    """

    n_obs_steps: int = 1
    chunk_size: int = 16
    n_action_steps: int = 16
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: {
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode.MEAN_STD,
            "ACTION": NormalizationMode.MEAN_STD,
        }
    )
    image_size: int = 96
    encoder: str = "conv_tokens"
    encoder_spec: str | None = None
    freeze_encoder: bool = False
    width: int = 128
    depth: int = 4
    heads: int = 4
    dropout: float = 0.1
    predictor_width: int = 64
    predictor_depth: int = 2
    prediction_weight: float = 1.0
    prediction_every: int = 8
    momentum: float = 0.996
    shift: int = 4
    tasks: list[str] = field(default_factory=list)

    optimizer_lr: float = 6e-4
    optimizer_weight_decay: float = 0.1
    scheduler_warmup_steps: int = 200
    scheduler_decay_steps: int = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.n_action_steps <= self.chunk_size:
            raise ValueError(
                f"n_action_steps must be between 1 and chunk_size ({self.chunk_size}), got {self.n_action_steps}"
            )
        if not 1 <= self.prediction_every <= self.chunk_size:
            raise ValueError(
                f"prediction_every must be between 1 and chunk_size ({self.chunk_size}), got {self.prediction_every}"
            )

    @property
    def predicted_steps(self) -> list[int]:
        """Which of the steps 1..chunk_size the latents are predicted of."""
        return list(range(self.prediction_every, self.chunk_size + 1, self.prediction_every))

    @property
    def predicts(self) -> bool:
        """Whether there is a latent loss: it needs proprioception."""
        return self.prediction_weight > 0 and self.robot_state_feature is not None

    def validate_features(self) -> None:
        """Raises ValueError unless there are pictures and actions."""
        if not self.image_features:
            raise ValueError(
                "worldjepa_act needs at least one picture: a dataset or environment feature of type VISUAL, such as "
                f"observation.image; got {sorted(self.input_features or {})}"
            )
        if self.action_feature is None:
            raise ValueError(f"worldjepa_act needs the feature action; got {sorted(self.output_features or {})}")

    @property
    def observation_delta_indices(self) -> list[int] | None:
        return [0, *self.predicted_steps] if self.prediction_weight > 0 else None

    @property
    def action_delta_indices(self) -> list[int]:
        return list(range(self.chunk_size))

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> AdamWConfig:
        return AdamWConfig(lr=self.optimizer_lr, weight_decay=self.optimizer_weight_decay)

    def get_scheduler_preset(self) -> CosineDecayWithWarmupSchedulerConfig:
        return CosineDecayWithWarmupSchedulerConfig(
            num_warmup_steps=self.scheduler_warmup_steps,
            num_decay_steps=self.scheduler_decay_steps,
            peak_lr=self.optimizer_lr,
            decay_lr=0.02 * self.optimizer_lr,
        )
