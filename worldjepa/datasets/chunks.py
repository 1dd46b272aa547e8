"""Moments of demonstrations with the actions that followed: what imitation learns from.

A chunk of H = 3 actions, taken at raw frame 1 of an episode of five frames (four actions)::

    raw frame     0    1    2    3    4
    observation        o
    action             a1   a2   a3
    future                  f1   f2   f3

Chunks that begin near the end of an episode are filled up with its last action and last observation, marked not valid.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from worldjepa.datasets.splits import check_known, places_of, rank_share, split_episodes
from worldjepa.datasets.store import EpisodeStore
from worldjepa.datasets.windows import channels_first
from worldjepa.types import Chunk


class Chunks:
    """All moments of one split of a store that at least one action follows.

    Args:
        store: where the episodes are.
        horizon: H, raw actions of a chunk.
        observations: columns of the moment itself.
        future: columns of the F moments that come ``steps`` raw steps later, each in 1..horizon.
        split: ``train``, ``held_out`` (by the hash of the episode's group) or ``all``.
        policies: only episodes of these policies; None takes all.
        actions: float32 (frames of the store,A), in place of those that were done.

    Raises:
        ValueError: actions of another number of frames, unknown column, split or policy, steps out of range, or no
            moment at all.
    """

    def __init__(
        self,
        store: EpisodeStore,
        horizon: int,
        observations: Sequence[str] = ("pixels", "proprioception"),
        future: Sequence[str] = (),
        steps: Sequence[int] = (),
        split: str = "train",
        policies: Sequence[str] | None = None,
        actions: np.ndarray | None = None,
    ) -> None:
        if actions is not None and len(actions) != store.num_frames:
            raise ValueError(f"expected actions of all {store.num_frames} frames of {store.path}, got {len(actions)}")
        if horizon < 1:
            raise ValueError(f"a chunk needs horizon >= 1 actions, got {horizon}")
        for name in (*observations, *future):
            check_known(name, store.spec.fields, f"observation of the store {store.path}")
        if len(steps) and not (1 <= min(steps) and max(steps) <= horizon):
            raise ValueError(f"the future must be 1..{horizon} steps ahead, got {list(steps)}")
        self.store, self.horizon, self.split = store, horizon, split
        self.observations, self.future = tuple(observations), tuple(future)
        self.steps = np.asarray(steps, np.int64)
        self._actions, self._first = actions, np.cumsum(store.lengths) - store.lengths
        self.episodes = split_episodes(store, split, policies)
        """int64 (E,): the store's indices of this split's episodes."""
        self._ends = np.cumsum(np.maximum(store.lengths[self.episodes] - 1, 0))
        if len(self) == 0:
            raise ValueError(f"no moments in the {split} split of {store.path}: it has {len(self.episodes)} episodes")

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For moments (B,): the store's episode index (B,) and the frame within that episode (B,)."""
        which, frames = places_of(indices, self._ends)
        return self.episodes[which], frames

    def gather(self, indices: np.ndarray) -> Chunk:
        """Moments ``indices`` (B,) as a :class:`~worldjepa.types.Chunk`."""
        indices, fields = np.asarray(indices, np.int64), self.store.spec.fields
        size, ahead = len(indices), np.arange(self.horizon)
        seen, later = (
            {name: np.empty((size, count, *fields[name].shape), fields[name].dtype) for name in names}
            for names, count in ((self.observations, 1), (self.future, len(self.steps)))
        )
        action = np.empty((size, self.horizon, *fields["action"].shape), np.float32)
        episodes, starts = self.locate(indices)
        left = self.store.lengths[episodes] - 1 - starts  # actions that follow, at least one
        for row, (episode, start) in enumerate(zip(episodes, starts, strict=True)):
            columns, first = self.store.place(episode)
            begin = first + int(start)
            for name, array in seen.items():
                array[row, 0] = columns[name][begin]
            rows = begin + np.minimum(self.steps, left[row])
            for name, array in later.items():
                column = columns[name]
                array[row] = column[rows] if isinstance(column, np.ndarray) else [column[int(i)] for i in rows]
            rows = np.minimum(ahead, left[row] - 1)
            if self._actions is None:
                action[row] = columns["action"][begin + rows]
            else:
                action[row] = self._actions[self._first[episode] + int(start) + rows]
        observation, future = (
            {name: channels_first(torch.from_numpy(array)) for name, array in part.items()} for part in (seen, later)
        )
        return Chunk(
            observation=observation,
            action=torch.from_numpy(action),
            valid=torch.from_numpy(ahead < left[:, None]),
            future=future,
            future_valid=torch.from_numpy(self.steps <= left[:, None]),
        )

    def sample(self, batch_size: int, seed: int, step: int, rank: int = 0, world_size: int = 1) -> Chunk:
        """Rank ``rank``'s slice of the random batch of training step ``step``; see ``Windows.sample``."""
        share = rank_share(batch_size, rank, world_size)
        return self.gather(np.random.default_rng([seed, step]).integers(len(self), size=batch_size)[share])

    def statistics(self, column: str) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 mean and standard deviation of a column's numbers over this split, padding left out."""
        rows = self._rows(column)
        return torch.from_numpy(rows.mean(0)).float(), torch.from_numpy(rows.std(0)).float()

    def bounds(self, column: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Least and largest of a column's numbers over this split, padding left out."""
        rows = self._rows(column)
        return torch.from_numpy(rows.min(0)).float(), torch.from_numpy(rows.max(0)).float()

    def _rows(self, column: str) -> np.ndarray:
        """float64 (rows,...): sums of millions of float32 numbers would be off."""
        rows = [self.store.episode(index).arrays[column][:-1] for index in self.episodes]
        return np.concatenate(rows).astype(np.float64)


class JoinedChunks:
    """Moments of several stores as those of one, such as demonstrations and what was asked for afterwards.

    Args:
        parts: that observe the same; statistics, and the store that says what there is, are the first one's.
    """

    def __init__(self, parts: Sequence[Chunks]) -> None:
        self.parts, first = list(parts), parts[0]
        self.store, self.steps, self.observations, self.future = (
            first.store,
            first.steps,
            first.observations,
            first.future,
        )
        self.statistics, self.episodes = first.statistics, first.episodes
        self._ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def sample(self, batch_size: int, seed: int, step: int, rank: int = 0, world_size: int = 1) -> Chunk:
        """As :meth:`Chunks.sample`, moments of all parts being equally likely; those of one part stand together."""
        share = rank_share(batch_size, rank, world_size)
        drawn = np.random.default_rng([seed, step]).integers(len(self), size=batch_size)[share]
        which = np.searchsorted(self._ends, drawn, side="right")
        starts = self._ends - [len(part) for part in self.parts]
        return joined(
            [part.gather(drawn[which == i] - starts[i]) for i, part in enumerate(self.parts) if (which == i).any()]
        )


def joined(chunks: Sequence[Chunk]) -> Chunk:
    """One batch of several."""

    def together(name: str) -> torch.Tensor | dict[str, torch.Tensor]:
        values = [getattr(chunk, name) for chunk in chunks]
        if isinstance(values[0], dict):
            return {key: torch.cat([value[key] for value in values]) for key in values[0]}
        return torch.cat(values)

    return Chunk(**{name: together(name) for name in ("observation", "action", "valid", "future", "future_valid")})
