"""Self-supervised training of static systems on data that fit in memory, and the probe of what they learned.

runs/<name>/config.yaml         what was asked for, resolved
            metrics.jsonl       training curves
            model.safetensors   the trained system
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from worldjepa.checkpoint import CONFIG_FILE, MODEL_FILE, save_tensors
from worldjepa.evaluation.classification import probe_encoder
from worldjepa.files import write_text
from worldjepa.systems.masked import MaskedJepa
from worldjepa.types import Observation

METRICS_FILE = "metrics.jsonl"
# Rows of metrics over which the loss at the end is averaged.
NUM_LAST_LOSSES = 5


@dataclass
class PretrainSettings:
    """How one pre-training goes.

    Attributes:
        steps: optimiser steps; the learning-rate schedule is sized to them.
        batch_size: samples per step, drawn with replacement.
        learning_rate, weight_decay, gradient_clip: AdamW; biases, norms and tokens do not decay.
        warmup_fraction: share of the steps in which the learning rate rises linearly, before its cosine to 0.
        num_evaluations: how often the probe looks while training, spread evenly, the end included.
        log_every: steps between metrics of the loss.
        seed: of the weights, batches and masks.
    """

    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.04
    gradient_clip: float = 1.0
    warmup_fraction: float = 0.1
    num_evaluations: int = 4
    log_every: int = 20
    seed: int = MISSING

    def __post_init__(self):
        for name in ("steps", "batch_size", "learning_rate", "gradient_clip", "num_evaluations", "log_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"train.{name} must be > 0, got {getattr(self, name)}")
        if not 0 <= self.warmup_fraction < 1:
            raise ValueError(f"train.warmup_fraction must be in [0, 1), got {self.warmup_fraction}")


def learning_rate_factor(progress: float, warmup_fraction: float) -> float:
    """Linear warm-up to 1, then cosine to 0, over ``progress`` in [0, 1]."""
    if progress < warmup_fraction:
        return progress / warmup_fraction
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup_fraction) / (1 - warmup_fraction)))


def pretrain(
    system: MaskedJepa,
    data: Observation,
    settings: PretrainSettings,
    evaluate: Callable[[MaskedJepa], dict[str, float]] | None = None,
    show_progress: bool = False,
) -> list[dict[str, float]]:
    """Trains ``system`` in place.

    Args:
        system: has ``loss(batch, generator, progress)``, ``update(progress)`` and its weights.
        data: N samples by name, each (N,...).
        evaluate: called with the system in eval mode, without gradient.

    Returns:
        rows of metrics: ``step``, ``seconds``, means of the losses since the last row, and what ``evaluate`` gave.

    Raises:
        FloatingPointError: the loss is no number.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    num_samples = len(next(iter(data.values())))
    weights = [parameter for parameter in system.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [w for w in weights if w.dim() > 1], "weight_decay": settings.weight_decay},
            {"params": [w for w in weights if w.dim() <= 1], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.95),
    )
    rows: list[dict[str, float]] = []
    sums: dict[str, float] = {}
    began = time.monotonic()
    bar = Progress(
        TextColumn("pre-training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
        disable=not show_progress,
    )
    system.train()
    with bar:
        task = bar.add_task("", total=settings.steps, loss="")
        for step in range(settings.steps):
            rate = settings.learning_rate * learning_rate_factor((step + 1) / settings.steps, settings.warmup_fraction)
            for group in optimizer.param_groups:
                group["lr"] = rate
            index = torch.randint(num_samples, (settings.batch_size,), generator=generator)
            losses = system.loss({name: x[index] for name, x in data.items()}, generator, step / settings.steps)
            if not bool(torch.isfinite(losses["loss"])):
                raise FloatingPointError(f"the loss is not finite at step {step}; lower train.learning_rate")
            optimizer.zero_grad(set_to_none=True)
            losses["loss"].backward()
            torch.nn.utils.clip_grad_norm_(weights, settings.gradient_clip)
            optimizer.step()
            done = step + 1
            system.update(done / settings.steps)
            sums = {name: sums.get(name, 0.0) + loss.item() for name, loss in losses.items()}
            row = {}
            if done % settings.log_every == 0:
                row = {name: total / settings.log_every for name, total in sums.items()}
                sums = {}
                bar.update(task, completed=done, loss=f"loss {row['loss']:.3f}")
            if evaluate is not None and done * settings.num_evaluations % settings.steps < settings.num_evaluations:
                row |= _evaluated(system, evaluate)
            if row:
                rows.append({"step": done, "seconds": round(time.monotonic() - began, 2), **row})
    system.eval()
    return rows


def pretrain_run(config: DictConfig, show_progress: bool = True) -> dict[str, float]:
    """Builds, trains and probes what ``configs/pretrain.yaml`` describes, and writes the run's folder.

    Returns:
        probe of the encoder before training (``random_*``) and after it; ``loss_over_mean_latent``, the loss at the
        end over that of predicting the mean latent; and ``seconds`` of training, evaluations included.
    """
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    write_text(run_dir / CONFIG_FILE, OmegaConf.to_yaml(config, resolve=True))
    settings = PretrainSettings(**config.train)
    train, held_out = instantiate(config.data.source, seed=config.seed)
    torch.manual_seed(settings.seed)
    system: MaskedJepa = instantiate(config.system)

    def evaluate(system: MaskedJepa) -> dict[str, float]:
        def features(pixels: Tensor) -> Tensor:
            return system.encode({"pixels": pixels}).mean(1)

        return probe_encoder(features, train, held_out)

    untrained = _evaluated(system, evaluate)
    rows = pretrain(system, {"pixels": train.pixels}, settings, evaluate, show_progress)
    rows.insert(0, {"step": 0, "seconds": 0.0, **untrained})
    write_text(run_dir / METRICS_FILE, "".join(json.dumps(row) + "\n" for row in rows))
    save_tensors(run_dir / MODEL_FILE, system.state_dict(), {"system": str(config.system._target_)})
    last_losses = [row for row in rows if "loss" in row][-NUM_LAST_LOSSES:]
    return {
        **{f"random_{name}": value for name, value in untrained.items()},
        **{name: rows[-1][name] for name in untrained},
        "loss_over_mean_latent": sum(row["loss"] for row in last_losses)
        / sum(row["mean_latent"] for row in last_losses),
        "seconds": rows[-1]["seconds"],
    }


@torch.no_grad()
def _evaluated(system: MaskedJepa, evaluate: Callable[[MaskedJepa], dict[str, float]]) -> dict[str, float]:
    was_training = system.training
    system.eval()
    values = evaluate(system)
    system.train(was_training)
    return values
