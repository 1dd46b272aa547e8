"""Picture encoders by name or from a trained run, and LeRobot's pictures as they want them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from torch import Tensor, nn

from worldjepa.checkpoint import load_world_model

KNOWN: dict[str, dict[str, Any]] = {
    "conv_tokens": {"_target_": "worldjepa.encoders.feature_map.ConvTokens", "latent_dim": 128},
    "resnet_tokens": {"_target_": "worldjepa.encoders.feature_map.ResNetTokens", "latent_dim": 512},
    "convnet": {"_target_": "worldjepa.encoders.convnet.ConvEncoder", "latent_dim": 128},
    "glimpse": {  # configs/encoder/glimpse_tokens.yaml
        "_target_": "worldjepa.encoders.glimpse.GlimpseEncoder",
        "num_glimpses": 8,
        "what_dim": 6,
        "window": 0.42,
        "window_size": 14,
        "trunk_widths": [16, 48],
        "stem_stride": 4,
        "keypoint_widths": [64],
        "window_widths": [24, 32],
        "window_hidden": 96,
        "as_tokens": True,
    },
}


def make_encoder(name: str, image_size: int, spec: str | None = None) -> tuple[nn.Module, str]:
    """A picture encoder and the JSON text that builds another one like it.

    Args:
        name: one of ``KNOWN``, or the folder of a trained worldjepa run, whose weights it gets.
        image_size: of the pictures; a run's encoder has its own.
        spec: the text of an earlier call; nothing else is looked at.

    Raises:
        ValueError: neither a known name nor a run.
    """
    if spec is not None:
        return instantiate(json.loads(spec)), spec
    if name in KNOWN:
        made = {**KNOWN[name], "image_size": image_size}
        return instantiate(made), json.dumps(made)
    if not Path(name).is_dir():
        raise ValueError(f"encoder must be one of {', '.join(KNOWN)}, or the folder of a trained run, got {name!r}")
    model, config = load_world_model(name)
    if tuple(config["observations"]) != ("pixels",):
        raise ValueError(f"{name}: expected an encoder of pixels alone, it observes {config['observations']}")
    return model.encoder, json.dumps(config["encoder"])


def encoder_for(config: Any, stats: dict[str, dict[str, Any]] | None) -> nn.Module:
    """The encoder that a policy's configuration names, with what it turned out to be written into it.

    Args:
        config: with ``encoder``, ``encoder_spec`` and ``image_size``; the latter two are filled in.
        stats: LeRobot's, for a new encoder; a trained run's has seen its own pictures.
    """
    new = config.encoder_spec is None and config.encoder in KNOWN
    encoder, config.encoder_spec = make_encoder(config.encoder, config.image_size, config.encoder_spec)
    config.image_size = encoder.normalizer.image_size
    if new:
        fit_pictures(encoder, stats, list(config.image_features))
    return encoder


def as_pixels(picture: Tensor, image_size: int) -> Tensor:
    """LeRobot's pictures (B,3,h,w) or (B,T,3,h,w) in [0, 1] -> (B,T,3,image_size,image_size), grey levels 0..255."""
    if picture.ndim == 4:
        picture = picture[:, None]
    if picture.shape[-2:] != (image_size, image_size):
        resized = F.interpolate(picture.flatten(0, 1), (image_size, image_size), mode="area")
        picture = resized.unflatten(0, picture.shape[:2])
    return picture * 255.0


def fit_pictures(encoder: nn.Module, stats: dict[str, dict[str, Any]] | None, cameras: list[str]) -> None:
    """Takes the mean colour of LeRobot's statistics as the picture that encoders subtract; no statistics, no change."""
    means = [torch.as_tensor(stats[name]["mean"]).float().reshape(3, 1, 1) for name in cameras if name in (stats or {})]
    if means:
        encoder.normalizer.fit(255.0 * torch.stack(means).mean(0).expand_as(encoder.normalizer.mean))
