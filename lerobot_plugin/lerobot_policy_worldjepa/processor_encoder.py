"""LeRobot's own normalisation and device steps around the policy."""

from __future__ import annotations

from typing import Any

from lerobot.processor import make_default_pre_post_processors

from lerobot_policy_worldjepa.configuration_encoder import WorldjepaEncoderConfig


def make_worldjepa_encoder_pre_post_processors(
    config: WorldjepaEncoderConfig, dataset_stats: dict[str, Any] | None = None
):
    """Pre- and post-processing pipelines, as for LeRobot's policies."""
    return make_default_pre_post_processors(config, dataset_stats, normalizer_device=config.device)
