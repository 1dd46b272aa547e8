"""Start and goal states of held-out episodes: drawn once, written down, never changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldjepa.datasets.store import EpisodeStore, is_held_out
from worldjepa.files import write_text
from worldjepa.types import GoalEnv


@dataclass(frozen=True)
class Pairs:
    """n tasks "from this state to that one", each from one held-out episode.

    Attributes:
        env_id: the environment the states belong to.
        policy: who acted in the episodes: the split's name, such as ``scripted`` or ``human``.
        goal_offset: raw steps from start to goal in the recording.
        seed: that drew the pairs.
        num_requested: pairs asked for; n is smaller where the held-out episodes have no more.
        excluded_solved: draws dropped because the start already satisfied the goal.
        index: int64 (n,) place in the manifest. Random streams hang on it, so a subset gives the same results.
        group: (n,) the episode's group.
        start_step: int64 (n,) frame of the episode where the pair starts.
        start_state, goal_state: float64 (n,S) simulator states.
        action: float32 (n,goal_offset,raw_action_dim) what was recorded in between.
        moved: bool (n,) the goal asks for more than moving the robot itself.
    """

    env_id: str
    policy: str
    goal_offset: int
    seed: int
    num_requested: int
    excluded_solved: int
    index: np.ndarray
    group: tuple[str, ...]
    start_step: np.ndarray
    start_state: np.ndarray
    goal_state: np.ndarray
    action: np.ndarray
    moved: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def select(self, rows: np.ndarray | list[int]) -> Pairs:
        """The pairs at ``rows``, which keep their place in the manifest and so their random streams."""
        rows = np.asarray(rows, np.int64)
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return Pairs(group=tuple(self.group[row] for row in rows), **columns, **self._settings())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; floats round-trip exactly."""
        columns = {name: getattr(self, name).tolist() for name in _COLUMNS}
        return {**self._settings(), "group": list(self.group), **columns}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Pairs:
        missing = sorted(set(cls.__dataclass_fields__) ^ set(values))
        if missing:
            raise ValueError(f"not a manifest of pairs: missing or unknown {', '.join(missing)}")
        columns = {name: np.asarray(values[name], dtype) for name, dtype in _COLUMNS.items()}
        return cls(**{**values, **columns, "group": tuple(values["group"])})

    @property
    def hash(self) -> str:
        """Sixteen hex digits that change with any number of any pair."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def save(self, path: str | Path) -> None:
        """Freezes the pairs in a JSON file. Writing them again is allowed, writing others over them is not."""
        path = Path(path)
        if path.exists():
            frozen = Pairs.load(path).hash
            if frozen != self.hash:
                raise ValueError(f"{path} holds other pairs ({frozen}, these are {self.hash}); choose another file")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"hash": self.hash, "pairs": self.to_dict()}))

    @classmethod
    def load(cls, path: str | Path) -> Pairs:
        """Reads a manifest; one that was edited is refused."""
        try:
            content = json.loads(Path(path).read_text())
            pairs, expected = cls.from_dict(content["pairs"]), content["hash"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a manifest of pairs: {error!r}; draw the pairs anew") from error
        if pairs.hash != expected:
            raise ValueError(f"{path} was changed after it was frozen: expected hash {expected}, got {pairs.hash}")
        return pairs

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _SETTINGS}


_SETTINGS = ("env_id", "policy", "goal_offset", "seed", "num_requested", "excluded_solved")
_COLUMNS = {
    "index": np.int64,
    "start_step": np.int64,
    "start_state": np.float64,
    "goal_state": np.float64,
    "action": np.float32,
    "moved": np.bool_,
}


def sample_pairs(
    store: EpisodeStore, env: GoalEnv, *, policy: str, num_pairs: int, goal_offset: int = 25, seed: int = 0
) -> Pairs:
    """Draws pairs from the held-out episodes of one policy, spread evenly over them.

    Episodes take turns in a random order; within an episode each new start lies as far as possible from the earlier
    ones. A draw whose start already satisfies the goal is dropped and counted: it would be a success of doing nothing.

    Args:
        store: episodes with ``state`` and ``action``.
        env: judges states (``reached``, ``moved``); it is not stepped.
        policy: label of the episodes to draw from, such as ``scripted`` or ``human``.
        num_pairs: how many; fewer come back where the episodes have no more (see ``Pairs.num_requested``).
        goal_offset: raw steps from start to goal.
        seed: of the draw.

    Raises:
        ValueError: no held-out episode of that policy is long enough, or all its pairs are solved from the start.
    """
    if num_pairs < 1 or goal_offset < 1:
        raise ValueError(f"num_pairs and goal_offset must be >= 1, got {num_pairs} and {goal_offset}")
    rng = np.random.default_rng(seed)
    episodes = [
        i
        for i in range(store.num_episodes)
        if store.policies[i] == policy and is_held_out(store.groups[i]) and store.lengths[i] > goal_offset
    ]
    if not episodes:
        known = ", ".join(sorted({p for p, g in zip(store.policies, store.groups, strict=True) if is_held_out(g)}))
        raise ValueError(
            f"no held-out episode of policy {policy!r} with more than {goal_offset} steps; held-out policies: "
            f"{known or 'none'}. Collect more episodes, or choose one of these"
        )

    env = env.unwrapped
    drawn: list[tuple[int, int]] = []
    excluded = 0
    # By group and length first, so that the draw does not hang on the order in which workers wrote their shards.
    episodes.sort(key=lambda i: (store.groups[i], int(store.lengths[i])))
    turns = [(int(i), _spread(int(store.lengths[i]) - goal_offset, rng)) for i in rng.permutation(episodes)]
    while turns and len(drawn) < num_pairs:
        remaining = []
        for i, starts in turns:
            start = next(starts, None)
            if start is None or len(drawn) == num_pairs:
                continue
            remaining.append((i, starts))
            state = store.episode(i).arrays["state"]
            if env.reached(_float64(state[start]), _float64(state[start + goal_offset])):
                excluded += 1
            else:
                drawn.append((i, start))
        turns = remaining
    if not drawn:
        raise ValueError(
            f"all {excluded} pairs of policy {policy!r} that lie {goal_offset} steps apart are solved from the start; "
            "raise goal_offset or collect episodes in which more happens"
        )

    arrays = [store.episode(i).arrays for i, _ in drawn]
    starts = np.array([start for _, start in drawn])
    begin = np.stack([_float64(a["state"][t]) for a, t in zip(arrays, starts, strict=True)])
    end = np.stack([_float64(a["state"][t + goal_offset]) for a, t in zip(arrays, starts, strict=True)])
    return Pairs(
        env_id=store.spec.env_id,
        policy=policy,
        goal_offset=goal_offset,
        seed=seed,
        num_requested=num_pairs,
        excluded_solved=excluded,
        index=np.arange(len(drawn)),
        group=tuple(store.groups[i] for i, _ in drawn),
        start_step=starts,
        start_state=begin,
        goal_state=end,
        action=np.stack([a["action"][t : t + goal_offset] for a, t in zip(arrays, starts, strict=True)]),
        moved=np.asarray(env.moved(begin, end), bool),
    )


def _spread(num: int, rng: np.random.Generator) -> Iterator[int]:
    """All of 0..num-1: a random one, then always one that is farthest from those before it."""
    distance = np.full(num, np.inf)
    chosen = int(rng.integers(num))
    for _ in range(num):
        yield chosen
        distance = np.minimum(distance, np.abs(np.arange(num) - chosen))
        chosen = int(distance.argmax())


def _float64(state: np.ndarray) -> np.ndarray:
    return np.asarray(state, np.float64)
