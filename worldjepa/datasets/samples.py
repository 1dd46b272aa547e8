"""Samples that fit in memory, each one thing of one modality, with what a probe shall read off their latents.

A source is ``source(seed, ...) -> (train, held_out)``, both :class:`Samples`: a file or a generator of its own, and a
YAML in ``configs/data``. Generated sources take ``num_train`` and ``num_held_out``, sets that are read ``held_out``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldjepa.datasets.splits import rank_share
from worldjepa.files import written_whole
from worldjepa.types import Observation, SampleBatch


@dataclass(frozen=True)
class Samples:
    """N samples and their labels, which probes alone see.

    Attributes:
        observation: by name, each (N,...).
        labels: int64 (N,) classes from 0, or float32 (N,) a quantity.
        names: what the classes are called, where that is known.
    """

    observation: Observation
    labels: Tensor
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> Samples:
        """Some of them."""
        return Samples({name: x[index] for name, x in self.observation.items()}, self.labels[index], self.names)

    @property
    def tells_nothing(self) -> bool:
        """Whether all are of one class, so that probes have nothing to tell apart."""
        return not self.labels.is_floating_point() and len(self.labels.unique()) < 2

    def sample(self, batch_size: int, seed: int, step: int, rank: int = 0, world_size: int = 1) -> SampleBatch:
        """Rank ``rank``'s slice of the random batch (drawn with replacement) of training step ``step``.

        As of :meth:`worldjepa.datasets.windows.Windows.sample`: the whole batch depends on ``seed`` and ``step`` alone.
        """
        index = np.random.default_rng([seed, step]).integers(len(self), size=batch_size)
        index = torch.from_numpy(index[rank_share(batch_size, rank, world_size)])
        return SampleBatch({name: x[index] for name, x in self.observation.items()})


def split_samples(samples: Samples, seed: int, held_out: float) -> tuple[Samples, Samples]:
    """(train, held_out), by chance; of each class the same share.

    Raises:
        ValueError: ``held_out`` is no share.
    """
    from sklearn.model_selection import train_test_split

    if not 0 < held_out < 1:
        raise ValueError(f"held_out must be between 0 and 1, got {held_out}")
    classes = None if samples.labels.is_floating_point() else samples.labels.numpy()
    parts = train_test_split(np.arange(len(samples)), test_size=held_out, random_state=seed, stratify=classes)
    train, test = (samples[torch.from_numpy(part)] for part in parts)
    return train, test


def generated(
    make: Callable[[int, int], tuple[Observation, Tensor]],
    seed: int,
    num_train: int,
    num_held_out: int,
    names: Sequence[str] = (),
) -> tuple[Samples, Samples]:
    """(train, held_out) of a generator: the held-out samples are those of another seed.

    Args:
        make: (count, seed) -> observation and labels; sample i of a seed is the same whatever the count.
    """
    # A seed and its neighbour would share samples if the held-out ones were the next seed's.
    train, test = (make(count, 2 * seed + part) for part, count in enumerate((num_train, num_held_out)))
    return Samples(*train, tuple(names)), Samples(*test, tuple(names))


def kept(make: Callable[[], tuple[Observation, Tensor]], folder: str | Path, **key) -> tuple[Observation, Tensor]:
    """What ``make`` gives, made once and then read from ``folder``: for samples that take minutes to make.

    Args:
        folder: such as ``data/solids``; one file per ``key`` is written there, whole or not at all.
        key: JSON values that change whenever the samples do.
    """
    from safetensors.torch import load_file, save_file

    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    path = Path(folder) / f"{name}.safetensors"
    if not path.is_file():
        observation, labels = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as beside:
            save_file({**observation, "labels": labels}, beside)
    tensors = load_file(path)
    labels = tensors.pop("labels")
    return tensors, labels
