"""Static systems, which learn from samples instead of clips: from a resolved configuration to a finished training."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from accelerate import PartialState
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from torch import nn

from worldjepa.checkpoint import CONFIG_FILE, STATE_FILE, make_token_model, start_from
from worldjepa.config import LoopSettings, build
from worldjepa.datasets.samples import Samples
from worldjepa.evaluation.frozen import COLLAPSED, measure_features
from worldjepa.systems.masked import TokenModel
from worldjepa.training import train, write_model

NUM_WATCHED = 1500
"""Samples on each side of the probe while training."""

# ``${found:worldjepa.datasets.tables.table_columns,${.path},...}`` in a configuration is what the function says of the
# user's files, such as their columns. A run keeps the answer: its model is built again without the files.
OmegaConf.register_new_resolver(
    "found", lambda function, *arguments: get_method(function)(*arguments), replace=True, use_cache=True
)


def open_samples(config: DictConfig) -> tuple[Samples, Samples]:
    """(train, held_out) of a run; a source that makes its samples does so now. Not to be changed in place.

    Raises:
        ValueError: files that are not there or cannot be read.
    """
    return _opened(OmegaConf.to_yaml(config.data.source, resolve=True), config.seed)


@lru_cache(maxsize=1)
def _opened(source: str, seed: int) -> tuple[Samples, Samples]:
    """Once per process: a run looks at its samples before, in and after training, and some take long to make."""
    train_samples, held_out = build(OmegaConf.create(source), seed=seed)
    return train_samples, held_out


def loop_settings(config: DictConfig) -> LoopSettings:
    """The section ``train`` of a resolved configuration, checked."""
    values = OmegaConf.to_container(config.train, resolve=True)
    return LoopSettings(**{**values, "trackers": tuple(values["trackers"])})


def build_samples_system(config: DictConfig, samples: Samples) -> nn.Module:
    """The system with the samples' statistics in it, from a resolved configuration.

    Raises:
        ValueError: parts that do not fit each other or the samples.
    """
    torch.manual_seed(config.train.seed)
    model = make_token_model(config)
    if not set(model.tokenizer.takes) <= set(samples.observation):
        raise ValueError(
            f"model={config.method} learns from {' and '.join(model.tokenizer.takes)}, data={config.data.name} has "
            f"{' and '.join(samples.observation)}; choose data= of its kind"
        )
    if hasattr(model.tokenizer, "fit"):
        model.tokenizer.fit(samples.observation)
    return build(config.system, model=model)


def train_on_samples(run_dir: str) -> None:
    """Trains the run in ``run_dir`` to its end, going on where it stopped; one call per data-parallel process."""
    folder = Path(run_dir)
    config = OmegaConf.load(folder / CONFIG_FILE)
    samples, held_out = open_samples(config)
    system, settings = build_samples_system(config, samples), loop_settings(config)
    if not (folder / STATE_FILE).is_file():
        start_from(system.model.encoder)
    parts = samples[:NUM_WATCHED], held_out[:NUM_WATCHED]

    def measured(model: TokenModel) -> dict[str, float]:
        found = measure_features(model, *parts)
        if found["rankme"] < COLLAPSED and PartialState().is_main_process:
            print(f"collapsing: RankMe {found['rankme']:.2f}, all samples have nearly the same features", flush=True)
        return found

    train(
        system,
        samples,
        settings,
        folder,
        measured,
        unit="samples",
        units_per_clip=1,
    )
    state = PartialState()
    if state.is_main_process:
        write_model(system.model, {}, folder)
    state.wait_for_everyone()
    state.destroy_process_group()
