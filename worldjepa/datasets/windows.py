"""Clips out of a store: every place where ``num_steps`` model steps fit into one episode.

With ``frameskip`` raw steps to a model step, a clip of T model steps looks like this (T = 3, frameskip = 2)::

    raw frame        0    1    2    3    4
    observation      0         1         2
    raw action       a0   a1   a2   a3
    model action    [a0   a1] [a2   a3]
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from worldjepa.datasets.splits import check_known, places_of, rank_share, split_episodes
from worldjepa.datasets.store import EpisodeStore
from worldjepa.types import Segment


class Windows:
    """All clips of one split of a store, as it was when this object was made.

    Args:
        store: where the episodes are.
        num_steps: T, model steps (observations) of a clip.
        frameskip: raw environment steps per model step.
        observations: columns to return as observations.
        split: ``train``, ``held_out`` (by the hash of the episode's group) or ``all``.
        policies: only episodes of these policies; None takes all.
        policy_weights: share of each policy in a sampled batch; None draws every clip with the same probability.

    Raises:
        ValueError: unknown column, split or policy, or no clip at all.
    """

    def __init__(
        self,
        store: EpisodeStore,
        num_steps: int,
        frameskip: int,
        observations: Sequence[str] = ("pixels", "proprioception"),
        split: str = "train",
        policies: Sequence[str] | None = None,
        policy_weights: dict[str, float] | None = None,
    ) -> None:
        if num_steps < 2 or frameskip < 1:
            raise ValueError(f"a clip needs num_steps >= 2 and frameskip >= 1, got {num_steps} and {frameskip}")
        for name in observations:
            check_known(name, store.spec.fields, f"observation of the store {store.path}")
        for name in [*(policies or ()), *(policy_weights or ())]:
            check_known(name, sorted(set(store.policies)), f"policy in the store {store.path}")
        self.store = store
        self.num_steps = num_steps
        self.frameskip = frameskip
        self.observations = tuple(observations)
        self.split = split
        self.policies = policies
        self.num_frames = (num_steps - 1) * frameskip + 1

        wanted = set(policies) if policies is not None else set(store.policies)
        if policy_weights is not None:
            wanted &= {name for name, weight in policy_weights.items() if weight > 0}
        self.episodes = split_episodes(store, split, wanted)
        """int64 (E,): the store's indices of this split's episodes, short ones too."""
        counts = np.maximum(store.lengths[self.episodes] - self.num_frames + 1, 0)
        self._ends = np.cumsum(counts)
        if len(self) == 0:
            longest = int(store.lengths[self.episodes].max(initial=0))
            raise ValueError(
                f"no clips in the {split} split of {store.path}: {num_steps} steps at frameskip {frameskip} need "
                f"{self.num_frames} frames, the longest of its {len(self.episodes)} episodes has {longest}; "
                "shorten the clip or collect more"
            )
        self._policy_clips = self._clips_by_policy(counts, policy_weights) if policy_weights is not None else None

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def locate(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For clips (B,): the store's episode index (B,) and the first frame within that episode (B,)."""
        indices = np.asarray(indices, np.int64)
        if indices.size and not (0 <= indices.min() and indices.max() < len(self)):
            raise ValueError(f"clip indices must lie in [0, {len(self)}), got {indices.min()} to {indices.max()}")
        which, starts = places_of(indices, self._ends)
        return self.episodes[which], starts

    def gather(self, indices: np.ndarray) -> Segment:
        """Clips ``indices`` (B,) as a :class:`Segment` with T = num_steps.

        Pictures are a permuted view of (B,T,height,width,3) memory: ``channels_last`` then costs nothing.
        """
        fields = self.store.spec.fields
        size, steps, skip = len(indices), self.num_steps, self.frameskip
        out = {
            name: np.empty((size, steps, *fields[name].shape), fields[name].dtype)
            for name in {*self.observations, "state"}
        }
        action = np.empty((size, (steps - 1) * skip, *fields["action"].shape), np.float32)
        rewarded = "reward" in fields
        reward = np.empty((size, (steps - 1) * skip), np.float32)
        for row, (episode, start) in enumerate(zip(*self.locate(indices), strict=True)):
            columns, first = self.store.place(episode)
            begin = first + start
            for name, array in out.items():
                array[row] = columns[name][begin : begin + self.num_frames : skip]
            action[row] = columns["action"][begin : begin + self.num_frames - 1]
            if rewarded:
                reward[row] = columns["reward"][begin : begin + self.num_frames - 1]
        tensors = {name: torch.from_numpy(array) for name, array in out.items()}
        observation = {name: channels_first(tensors[name]) for name in self.observations}
        per_step = torch.from_numpy(reward.reshape(size, steps - 1, skip)).mean(-1) if rewarded else None
        return Segment(observation, torch.from_numpy(action.reshape(size, steps - 1, -1)), tensors["state"], per_step)

    def sample(self, batch_size: int, seed: int, step: int, rank: int = 0, world_size: int = 1) -> Segment:
        """Rank ``rank``'s slice of the random batch of training step ``step``.

        The whole batch depends on ``seed`` and ``step`` alone: a resumed run needs no state, and the ranks' slices
        put end to end are the batch of a single process.

        Args:
            batch_size: clips in the whole batch, over all ranks.
        """
        share = rank_share(batch_size, rank, world_size)
        return self.gather(self.sample_indices(batch_size, seed, step)[share])

    def sample_indices(self, batch_size: int, seed: int, step: int) -> np.ndarray:
        """Clip indices int64 (batch_size,) of the whole batch of training step ``step``."""
        rng = np.random.default_rng([seed, step])
        if self._policy_clips is None:
            return rng.integers(len(self), size=batch_size)
        weights, clips = self._policy_clips
        policies = rng.choice(len(weights), size=batch_size, p=weights)
        places = rng.random(batch_size)
        return np.array([clips[p][int(x * len(clips[p]))] for p, x in zip(policies, places, strict=True)], np.int64)

    def action_std(self) -> torch.Tensor:
        """float32 (raw_action_dim,): standard deviation of this split's raw actions, environment units."""
        total = np.zeros((3, self.store.spec.raw_action_dim))
        for index in self.episodes:
            action = self.store.episode(index).arrays["action"][:-1].astype(np.float64)  # the last one is padding
            total += [np.full(action.shape[1], len(action)), action.sum(0), (action**2).sum(0)]
        count, first, second = total
        return torch.from_numpy(np.sqrt(np.maximum(second / count - (first / count) ** 2, 0))).float()

    def _clips_by_policy(self, counts: np.ndarray, weights: dict[str, float]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Normalised weight and clip indices of every policy that is asked for."""
        if min(weights.values(), default=0) < 0 or sum(weights.values()) <= 0:
            raise ValueError(f"policy_weights must be >= 0 and not all zero, got {weights}")
        owner = np.repeat([self.store.policies[index] for index in self.episodes], counts)
        names = sorted(name for name, weight in weights.items() if weight > 0)
        clips = [np.flatnonzero(owner == name) for name in names]
        empty = [name for name, found in zip(names, clips, strict=True) if not len(found)]
        if empty:
            raise ValueError(
                f"policy_weights asks for {', '.join(empty)}, which has no clips in the {self.split} split"
            )
        shares = np.array([weights[name] for name in names])
        return shares / shares.sum(), clips


class Prefetcher:
    """Iterates over the batches of ``windows.sample`` for ``steps``, read ahead in a background thread.

    The batches are those that ``sample`` returns, in order. Use as a context manager, or call :meth:`close`.

    Args:
        windows: where clips come from.
        batch_size: clips over all ranks, see :meth:`Windows.sample`.
        seed: of the batches.
        steps: the training steps to deliver, such as ``range(done, total)``.
        rank, world_size: this process among all.
        depth: batches held ready.
        pin_memory: page-locked memory, for asynchronous copies to CUDA.
    """

    def __init__(
        self,
        windows: Windows,
        batch_size: int,
        seed: int,
        steps: range,
        rank: int = 0,
        world_size: int = 1,
        depth: int = 3,
        pin_memory: bool = False,
    ) -> None:
        self._queue: queue.Queue[Segment | BaseException | None] = queue.Queue(depth)
        self._stop = threading.Event()

        def read() -> None:
            try:
                for step in steps:
                    segment = windows.sample(batch_size, seed, step, rank, world_size)
                    if not self._put(segment.map(torch.Tensor.pin_memory) if pin_memory else segment):
                        return
                self._put(None)
            except BaseException as error:  # handed to the consumer, who raises it
                self._put(error)

        self._thread = threading.Thread(target=read, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Segment]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread; what it has read is dropped."""
        self._stop.set()
        self._thread.join()

    def _put(self, item: Segment | BaseException | None) -> bool:
        """Waits for a free place; False when closed meanwhile."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


def channels_first(x: torch.Tensor) -> torch.Tensor:
    """Pictures (B,T,height,width,3) seen as (B,T,3,height,width); anything else as it is."""
    return x.permute(0, 1, 4, 2, 3) if x.ndim == 5 and x.dtype == torch.uint8 else x
