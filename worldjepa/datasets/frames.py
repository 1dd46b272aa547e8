"""Moments of recorded episodes as samples: static models pre-train on what world models and policies will see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from worldjepa.datasets.samples import Samples
from worldjepa.datasets.splits import check_known, places_of, split_episodes
from worldjepa.datasets.store import EpisodeStore


def load_frames(
    seed: int,
    store: str | Path,
    label: str,
    column: str = "pixels",
    name: str = "pixels",
    num_train: int = 4000,
    num_held_out: int = 1000,
) -> tuple[Samples, Samples]:
    """Random moments of the training and of the held-out episodes of a store.

    Args:
        seed: of the moments.
        store: its folder.
        label: name of a number of the simulator's state, what probes shall read.
        column: what is looked at; pictures come out as uint8 (N,channels,height,width).
        name: what the observation is called.
        num_train, num_held_out: moments.

    Raises:
        ValueError: no such store, column or number, or no episodes in a split.
    """
    episodes = EpisodeStore.open(store)
    check_known(column, episodes.spec.fields, f"column of the store {store}")
    check_known(label, episodes.spec.state_names, f"number of the state in {store}")
    which = episodes.spec.state_names.index(label)
    parts = []
    for part, (split, count) in enumerate((("train", num_train), ("held_out", num_held_out))):
        chosen = split_episodes(episodes, split)
        if not len(chosen):
            raise ValueError(f"{store}: expected episodes in the {split} split, found none; collect more")
        ends = np.cumsum(episodes.lengths[chosen])
        moments = np.sort(np.random.default_rng([seed, part]).integers(ends[-1], size=count))
        found, labels = [], []
        for episode, moment in zip(*places_of(moments, ends), strict=True):
            columns, first = episodes.place(chosen[episode])
            found.append(np.array(columns[column][first + moment]))
            labels.append(float(columns["state"][first + moment][which]))
        values = torch.from_numpy(np.stack(found))
        if episodes.spec.fields[column].is_picture:
            values = values.permute(0, 3, 1, 2).contiguous()
        parts.append(Samples({name: values}, torch.tensor(labels, dtype=torch.float32)))
    return parts[0], parts[1]


def numbers_of(store: str, column: str) -> dict[str, None]:
    """Names of a column's numbers, as a table's tokenizer takes them; none where it is no row of numbers."""
    fields = EpisodeStore.open(store).spec.fields
    check_known(column, fields, f"column of the store {store}")
    shape = fields[column].shape
    return {f"{column} {index}": None for index in range(shape[0])} if len(shape) == 1 else {}
