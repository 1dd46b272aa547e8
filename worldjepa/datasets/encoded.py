"""A store's episodes with latents of a frozen encoder in place of what it looks at, made once and kept beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from worldjepa.datasets.store import EpisodeStore
from worldjepa.types import Episode, FieldSpec, Observation

PIECE = 20
"""Frames that are encoded in one call."""


def encoded_store(
    store: EpisodeStore,
    name: str,
    columns: Callable[[Observation], dict[str, np.ndarray]],
    looks_at: Sequence[str] = ("sweep",),
    progress: bool = True,
) -> EpisodeStore:
    """The store ``<store>-<hash>``: encoded now, where it is not there whole; what is there of it is kept.

    Args:
        store: with whole shards.
        name: of the encoder, such as a hash of its weights; another one, or other episodes, have another folder.
        columns: one episode's frames (1,T,...) -> column name -> (T,...).
        looks_at: columns that are encoded and left out.
        progress: show a bar.

    Raises:
        ValueError: no such columns, no room, or a folder that cannot be written.
    """
    missing = [column for column in looks_at if column not in store.spec.fields]
    if missing or not store.num_episodes:
        raise ValueError(
            f"{store.path}: expected episodes with {', '.join(looks_at)}, it has {store.num_episodes} with "
            f"{', '.join(store.spec.fields)}"
        )
    key = hashlib.sha256(f"{store.hash} {name}".encode()).hexdigest()[:12]

    def piece(episode: Episode, start: int, stop: int) -> dict[str, np.ndarray]:
        return columns({name: torch.from_numpy(np.array(episode.arrays[name][start:stop]))[None] for name in looks_at})

    def encoded(index: int) -> Episode:
        episode = store.episode(index)
        pieces = [piece(episode, start, start + PIECE) for start in range(0, len(episode), PIECE)]
        made = {column: np.concatenate([one[column] for one in pieces]) for column in pieces[0]}
        kept = {column: array for column, array in episode.arrays.items() if column not in looks_at}
        return Episode({**kept, **made}, episode.group, episode.policy)

    fields = {column: field for column, field in store.spec.fields.items() if column not in looks_at}
    # One frame says what the others will be like.
    fields |= {column: FieldSpec(str(x.dtype), x.shape[1:]) for column, x in piece(store.episode(0), 0, 1).items()}
    made = EpisodeStore.create(store.path.with_name(f"{store.path.name}-{key}"), replace(store.spec, fields=fields))
    left = [shard for shard in store.shards() if not made.has_shard(*shard[:2])]
    if not left:
        return made
    made.check_room(sum(int(store.lengths[list(episodes)].sum()) for _, _, episodes in left))
    bar = Progress(
        TextColumn("encoding"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("episodes"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=not progress,
    )
    with bar:
        task = bar.add_task("", total=sum(len(episodes) for _, _, episodes in left))
        for source, index, episodes in left:
            shard = []
            for number in episodes:
                shard.append(encoded(number))
                bar.advance(task)
            made.write_shard(source, index, shard, {"encoder": name})
    made.refresh()
    return made
