"""Schemas of the run-level settings, and errors that name the nearest key.

Components (encoders, predictors, planners...) have no schema here: their annotated constructors are the schema.
"""

from __future__ import annotations

import difflib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING


@dataclass
class LoopSettings:
    """How one training run goes.

    Attributes:
        steps: optimiser steps; the learning-rate schedule is sized to them. Exactly one of ``steps`` and ``minutes``.
        minutes: wall-clock budget of the training loop instead of ``steps`` (not bit-reproducible).
        batch_size: clips or samples per step over all processes.
        learning_rate, weight_decay, warmup_steps, gradient_clip: AdamW with linear warm-up and cosine decay.
        final_lr_fraction: learning rate at the end over ``learning_rate``.
        precision: ``bf16`` or ``no`` (float32), of encoder and predictor; losses are always float32. ``auto`` is bf16
            where the device computes it, and float32 where it would be emulated, several times as slowly.
        processes: data-parallel processes on this machine; 0 = one per GPU, or one per CPU core (up to 2). Ignored
            under ``accelerate launch`` or ``torchrun``.
        device: ``auto``, ``cpu`` or ``cuda``.
        checkpoint_seconds: time between checkpoints, s.
        num_evaluations: how often held-out clips are probed while training, spread evenly, the end included.
        log_every: steps between lines of ``metrics.jsonl``.
        trackers: any of ``tensorboard``, ``wandb``.
    """

    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 64
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 200
    final_lr_fraction: float = 0.02
    gradient_clip: float = 1.0
    precision: str = "auto"
    processes: int = 0
    device: str = "auto"
    checkpoint_seconds: float = 60.0
    num_evaluations: int = 4
    log_every: int = 20
    trackers: tuple[str, ...] = ("tensorboard",)
    seed: int = MISSING

    def __post_init__(self):
        if (self.steps is None) == (self.minutes is None):
            raise ValueError(
                f"give exactly one of train.steps and train.minutes, got steps={self.steps} and "
                f"minutes={self.minutes}; set the other to null"
            )
        for name in ("steps", "minutes", "batch_size", "learning_rate", "gradient_clip", "checkpoint_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"train.{name} must be > 0, got {value}")
        if self.precision not in ("auto", "bf16", "no"):
            raise ValueError(f"train.precision must be 'auto', 'bf16' or 'no', got {self.precision!r}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"train.device must be 'auto', 'cpu' or 'cuda', got {self.device!r}")


@dataclass
class TrainSettings(LoopSettings):
    """How one training on clips goes.

    Attributes:
        clip_frames: T, model steps (pictures) of a clip.
    """

    clip_frames: int = 6

    def __post_init__(self):
        super().__post_init__()
        if self.clip_frames < 2:
            raise ValueError(f"train.clip_frames must be >= 2 (a frame and its successor), got {self.clip_frames}")


@dataclass
class RefinementSettings:
    """The second phase of training, see ``worldjepa.refinement``; everything else is as in the first.

    Attributes:
        steps: optimiser steps on stored latents; 0 leaves the phase out.
        batch_size, learning_rate: as in :class:`TrainSettings`.
    """

    steps: int = 4000
    batch_size: int = 512
    learning_rate: float = 1e-3

    def __post_init__(self):
        if self.steps < 0 or self.batch_size < 1 or not self.learning_rate > 0:
            raise ValueError(
                "refinement needs steps >= 0, batch_size >= 1 and learning_rate > 0, got "
                f"{self.steps}, {self.batch_size} and {self.learning_rate}"
            )


RUN_SCHEMA = {"train": TrainSettings, "refinement": RefinementSettings}
"""What ``configs/train_world_model.yaml`` builds on, for hydra's config store."""


def build(node: Any, *arguments: Any, **keywords: Any) -> Any:
    """``hydra.utils.instantiate``, but a ValueError of what is built comes out as it is, without hydra's wrapping."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(node, *arguments, **keywords)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ValueError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from None


def checked_main(config_name: str, config_dir: Path) -> None:
    """Composes ``sys.argv``'s overrides once before hydra does; exits with the nearest names if one is unknown."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    overrides = [word for word in sys.argv[1:] if not word.startswith("-")]
    if len(overrides) < len(sys.argv) - 1:
        return  # --help, --multirun and friends are hydra's own business
    try:
        with initialize_config_dir(str(config_dir.resolve()), version_base="1.3"):
            compose(config_name, overrides)
    except HydraException as error:
        chain: BaseException | None = error
        lines = []
        while chain is not None:
            lines.append(str(chain))
            chain = chain.__cause__
        message = "\n".join(dict.fromkeys(lines))
        for hint in _hints(message, config_name, config_dir):
            message += f"\n{hint}"
        sys.exit(message)


def _hints(message: str, config_name: str, config_dir: Path) -> list[str]:
    """Sentences that name the keys or options nearest to those an error message complains about."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    hints = []
    for group, option in re.findall(r"Could not find '([\w/]+)/([\w.-]+)'", message):
        options = sorted(path.stem for path in (config_dir / group).glob("*.yaml"))
        near = difflib.get_close_matches(option, options, 3, 0.4) or options
        hints.append(f"no {group} is called {option!r}; did you mean {' or '.join(near)}?")
    for key in re.findall(r"Could not override '([\w.]+)'", message):
        with initialize_config_dir(str(config_dir.resolve()), version_base="1.3"):
            config = OmegaConf.to_container(compose(config_name), resolve=False)
        near = difflib.get_close_matches(key, _flat_keys(config), 3, 0.4)
        if near:
            hints.append(f"no setting is called {key!r}; did you mean {' or '.join(near)}?")
    return hints


def _flat_keys(tree: dict, prefix: str = "") -> list[str]:
    keys = []
    for name, value in tree.items():
        keys.append(prefix + name)
        if isinstance(value, dict):
            keys += _flat_keys(value, f"{prefix}{name}.")
    return keys
