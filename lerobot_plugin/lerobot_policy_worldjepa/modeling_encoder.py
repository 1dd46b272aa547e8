"""LeRobot's ACT or Diffusion policy with its backbone replaced by a worldjepa encoder."""

from __future__ import annotations

import math
from typing import Any

from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy, SpatialSoftmax
from lerobot.policies.pretrained import PreTrainedPolicy
from torch import Tensor, nn

from lerobot_policy_worldjepa.configuration_encoder import WorldjepaEncoderConfig
from lerobot_policy_worldjepa.encoders import as_pixels, encoder_for


class FeatureMap(nn.Module):
    """A worldjepa encoder as LeRobot's backbones are: pictures in [0, 1] -> a map of features.

    Tokens that form a square become one; others, such as a world model's single latent, a map of one row.

    Args:
        encoder: pictures -> (B,T,P,D).
        frozen: never trained, always in eval mode.
    """

    def __init__(self, encoder: nn.Module, frozen: bool):
        super().__init__()
        self.encoder, self.frozen = encoder.requires_grad_(not frozen), frozen
        side = math.isqrt(encoder.num_tokens)
        self.shape = (side, side) if side * side == encoder.num_tokens else (1, encoder.num_tokens)

    def train(self, mode: bool = True) -> FeatureMap:
        return super().train(mode and not self.frozen)

    def forward(self, picture: Tensor) -> Tensor:
        """(N,3,h,w) -> (N,D,rows,columns)."""
        pixels = as_pixels(picture, self.encoder.normalizer.image_size)
        return self.encoder({"pixels": pixels})[:, 0].mT.unflatten(-1, self.shape)


class NamedMap(FeatureMap):
    """The same as torchvision's ``IntermediateLayerGetter`` has it, which ACT wants."""

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        return {"feature_map": super().forward(picture)}


class WorldjepaEncoderPolicy(PreTrainedPolicy):
    """See :class:`WorldjepaEncoderConfig`.

    Args:
        config: features filled in.
        dataset_stats: LeRobot's statistics; the pictures' mean colour is taken from them.
    """

    config_class = WorldjepaEncoderConfig
    name = "worldjepa_encoder"

    def __init__(
        self, config: WorldjepaEncoderConfig, dataset_stats: dict[str, dict[str, Any]] | None = None, **_: Any
    ):
        super().__init__(config)
        config.validate_features()
        encoder = encoder_for(config, dataset_stats)
        inner = config.inner()
        if config.head == "act":
            self.policy: PreTrainedPolicy = ACTPolicy(inner)
            self.policy.model.backbone = NamedMap(encoder, config.freeze_encoder)
            self.policy.model.encoder_img_feat_input_proj = nn.Conv2d(encoder.latent_dim, inner.dim_model, 1)
        else:
            self.policy = DiffusionPolicy(inner)
            eyes, backbone = self.policy.diffusion.rgb_encoder, FeatureMap(encoder, config.freeze_encoder)
            eyes.backbone = backbone
            if encoder.num_tokens == 1:  # a global latent has no places to take a softmax over
                eyes.pool = nn.Conv2d(encoder.latent_dim, eyes.feature_dim, 1)
            else:
                keypoints = inner.spatial_softmax_num_keypoints
                eyes.pool = SpatialSoftmax((encoder.latent_dim, *backbone.shape), num_kp=keypoints)

    @property
    def encoder(self) -> nn.Module:
        """The picture encoder."""
        if self.config.head == "act":
            return self.policy.model.backbone.encoder
        return self.policy.diffusion.rgb_encoder.backbone.encoder

    def get_optim_params(self) -> Any:
        """The head's, as LeRobot groups them."""
        if self.config.head == "act":
            return self.policy.get_optim_params()
        return [parameter for parameter in self.policy.parameters() if parameter.requires_grad]

    def reset(self) -> None:
        self.policy.reset()

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict | None]:
        return self.policy(batch)

    def predict_action_chunk(self, batch: dict[str, Tensor], **kwargs: Any) -> Tensor:
        return self.policy.predict_action_chunk(batch, **kwargs)

    def select_action(self, batch: dict[str, Tensor], **kwargs: Any) -> Tensor:
        return self.policy.select_action(batch, **kwargs)
