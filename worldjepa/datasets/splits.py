"""Which episodes of a store are trained on and which are held out, and the statistics of their pictures."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

import numpy as np
import torch

from worldjepa.datasets.store import EpisodeStore, is_held_out

SPLITS = ("train", "held_out", "all")


def split_episodes(store: EpisodeStore, split: str, policies: Collection[str] | None = None) -> np.ndarray:
    """int64 (E,): the store's indices of a split's episodes.

    Args:
        split: ``train``, ``held_out`` (by the hash of the episode's group) or ``all``.
        policies: only episodes of these policies; None takes all.

    Raises:
        ValueError: unknown split or policy.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    for name in policies or ():
        check_known(name, sorted(set(store.policies)), f"policy in the store {store.path}")
    chosen = [
        index
        for index, (group, policy) in enumerate(zip(store.groups, store.policies, strict=True))
        if (policies is None or policy in policies) and (split == "all" or is_held_out(group) == (split == "held_out"))
    ]
    return np.array(chosen, np.int64)


def pixel_mean(store: EpisodeStore, episodes: np.ndarray, num_frames: int, seed: int) -> torch.Tensor:
    """float32 (3,height,width) in [0, 255]: mean of ``num_frames`` random frames of ``episodes`` (E,)."""
    rng = np.random.default_rng(seed)
    ends = np.cumsum(store.lengths[episodes])
    frames = np.sort(rng.integers(ends[-1], size=num_frames))
    total = np.zeros(store.spec.fields["pixels"].shape)
    for which, frame in zip(*places_of(frames, ends), strict=True):
        columns, first = store.place(episodes[which])
        total += columns["pixels"][first + frame]
    return torch.from_numpy(total / num_frames).float().permute(2, 0, 1).contiguous()


def places_of(indices: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For numbers (B,) counted through parts that end before ``ends`` (E,): the part, and the number within it."""
    which = np.searchsorted(ends, indices, side="right")
    return which, indices - np.where(which > 0, ends[which - 1], 0)


def rank_share(batch_size: int, rank: int, world_size: int) -> slice:
    """Which of a whole batch belong to one of several processes.

    Raises:
        ValueError: the batch does not divide.
    """
    if batch_size % world_size:
        raise ValueError(f"batch_size must be a multiple of the number of processes ({world_size}), got {batch_size}")
    share = batch_size // world_size
    return slice(rank * share, (rank + 1) * share)


def check_known(name: str, known: Collection[str], what: str) -> None:
    """Raises ValueError with the nearest name unless ``name`` is among the known."""
    if name not in known:
        near = get_close_matches(name, list(known), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name!r} is no {what} (it has {', '.join(known)}){hint}")
