"""LeRobot's own ACT and Diffusion policies with a worldjepa encoder for eyes, as one policy type."""

from __future__ import annotations

from dataclasses import dataclass, field

from lerobot.configs import PreTrainedConfig
from lerobot.configs.types import NormalizationMode
from lerobot.optim import LRSchedulerConfig, OptimizerConfig
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig

HEADS = ("act", "diffusion")


@PreTrainedConfig.register_subclass("worldjepa_encoder")
@dataclass
class WorldjepaEncoderConfig(PreTrainedConfig):
    """LeRobot's ACT or Diffusion policy that looks through a worldjepa encoder; LeRobot's code does all the rest.

    Args:
        head: ``act`` or ``diffusion``.
        encoder: of pictures: ``conv_tokens``, ``resnet_tokens``, or the folder of a trained worldjepa run, whose latent
            is then seen as a map of one cell per token.
        encoder_spec: what was built (JSON); filled in by the policy, so that a saved one needs nothing else.
        freeze_encoder: leave the picture encoder as it is.
        image_size: height and width in px that pictures are resized to.
        chunk_size: actions that are predicted at once (a multiple of 8 for diffusion).
        n_action_steps: of which so many are done before looking again.
        width: of ACT's transformer; of the diffusion U-Net's first level, which doubles twice.
        num_inference_steps: denoising steps of the diffusion head (DDIM).
        optimizer_lr: learning rate.
    """

    n_obs_steps: int = 1
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: {
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode.MIN_MAX,
            "ACTION": NormalizationMode.MIN_MAX,
        }
    )
    head: str = "act"
    encoder: str = "conv_tokens"
    encoder_spec: str | None = None
    freeze_encoder: bool = False
    image_size: int = 96
    chunk_size: int = 16
    n_action_steps: int = 8
    width: int = 128
    num_inference_steps: int = 10
    optimizer_lr: float = 3e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head not in HEADS:
            raise ValueError(f"head must be one of {', '.join(HEADS)}, got {self.head!r}")

    def inner(self) -> ACTConfig | DiffusionConfig:
        """LeRobot's configuration of the head."""
        common = {
            "input_features": self.input_features,
            "output_features": self.output_features,
            "device": self.device,
            "pretrained_backbone_weights": None,  # else LeRobot downloads a backbone that nobody uses
            "n_action_steps": self.n_action_steps,
            "optimizer_lr": self.optimizer_lr,
        }
        if self.head == "act":
            return ACTConfig(
                chunk_size=self.chunk_size,
                dim_model=self.width,
                n_heads=4,
                dim_feedforward=4 * self.width,
                optimizer_lr_backbone=self.optimizer_lr,
                use_vae=False,
                **common,
            )
        return DiffusionConfig(
            n_obs_steps=2,
            horizon=self.chunk_size,
            down_dims=(self.width, 2 * self.width, 4 * self.width),
            use_group_norm=True,
            use_separate_rgb_encoder_per_camera=False,
            noise_scheduler_type="DDIM",
            do_mask_loss_for_padding=True,
            num_inference_steps=self.num_inference_steps,
            **common,
        )

    def validate_features(self) -> None:
        """Raises ValueError unless there are pictures, proprioception and actions."""
        if not self.image_features:
            raise ValueError(
                "worldjepa_encoder needs at least one picture: a dataset or environment feature of type VISUAL, such "
                f"as observation.image; got {sorted(self.input_features or {})}"
            )
        if self.head == "diffusion" and self.robot_state_feature is None:
            raise ValueError("head=diffusion needs the feature observation.state, which is missing; use head=act")
        self.inner().validate_features()

    @property
    def observation_delta_indices(self) -> list[int] | None:
        return self.inner().observation_delta_indices

    @property
    def action_delta_indices(self) -> list[int]:
        return self.inner().action_delta_indices

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> OptimizerConfig:
        return self.inner().get_optimizer_preset()

    def get_scheduler_preset(self) -> LRSchedulerConfig | None:
        return self.inner().get_scheduler_preset()
