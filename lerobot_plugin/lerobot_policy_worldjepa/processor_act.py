"""LeRobot's own normalisation and device steps around the policy."""

from __future__ import annotations

from typing import Any

from lerobot.processor import make_default_pre_post_processors

from lerobot_policy_worldjepa.configuration_act import WorldjepaActConfig


def make_worldjepa_act_pre_post_processors(config: WorldjepaActConfig, dataset_stats: dict[str, Any] | None = None):
    """Pre- and post-processing pipelines, as for LeRobot's ACT."""
    return make_default_pre_post_processors(config, dataset_stats, normalizer_device=config.device)
