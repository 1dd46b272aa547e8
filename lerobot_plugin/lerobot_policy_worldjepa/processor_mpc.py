"""LeRobot's own device steps around the policy; nothing is normalised, see ``WorldjepaMpcConfig``."""

from __future__ import annotations

from typing import Any

from lerobot.processor import make_default_pre_post_processors

from lerobot_policy_worldjepa.configuration_mpc import WorldjepaMpcConfig


def make_worldjepa_mpc_pre_post_processors(config: WorldjepaMpcConfig, dataset_stats: dict[str, Any] | None = None):
    """Pre- and post-processing pipelines, as for LeRobot's policies."""
    return make_default_pre_post_processors(config, dataset_stats, normalizer_device=config.device)
