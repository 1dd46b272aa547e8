"""What an environment's store should hold, and making it so: demonstrations where there are some, players otherwise."""

from __future__ import annotations

import os

import numpy as np

from worldjepa.datasets.demonstrations import (
    find_demonstrations,
    import_demonstrations,
    load_pusht_demonstrations,
)
from worldjepa.datasets.store import EpisodeStore
from worldjepa.rollout import Factory, Job, collect
from worldjepa.types import EnvSpec, GoalEnv

TOLERANCE = 0.1
"""Mean grey levels, or m of range; states are stored in float32, which is worth a thousandth of that."""


def check_pictures(store: EpisodeStore, env: GoalEnv) -> None:
    """Raises ValueError unless ``env`` shows stored states as it did when they were collected: pictures, or sweeps.

    Goal pictures come from the environment, so a model must have learned from the same renderer.
    """
    env = env.unwrapped
    shown, unit = ("pixels", "grey levels") if "pixels" in store.spec.fields else ("sweep", "m or units of intensity")
    worst = 0.0
    for index in np.linspace(0, store.num_episodes - 1, min(8, store.num_episodes)).astype(int):
        arrays = store.episode(index).arrays
        middle = len(arrays["state"]) // 2
        now = env.observe_state(arrays["state"][middle].astype(np.float64))[shown].astype(np.float64)
        worst = max(worst, float(np.abs(now - arrays[shown][middle]).mean()))
    if worst > TOLERANCE:
        raise ValueError(
            f"the pictures in {store.path} differ from what {store.spec.env_id} draws now, by {worst:.2f} {unit} "
            f"on average (expected at most {TOLERANCE}): they were collected by another version; choose "
            "another store or remove that one"
        )


def prepare_store(
    path: str | os.PathLike,
    env: Factory,
    scripted: Factory,
    replay: str | None,
    demonstrations: str | None,
    num_episodes: int,
    num_frames: int,
    episodes_per_shard: int,
    replay_fraction: float = 0.5,
    beside_recorded: bool = True,
    seed: int = 0,
    num_workers: int = 1,
    progress: bool = False,
) -> tuple[EpisodeStore, str]:
    """Opens the store at ``path`` and collects whatever it lacks; returns at once when nothing is missing.

    With demonstrations: the recorded episodes themselves (policy ``human``), a part of
    ``num_episodes`` as noisy replays of them, the others scripted. Without: all scripted.

    Args:
        path: folder of the store.
        env: makes the environment, a :class:`~worldjepa.types.GoalEnv`.
        scripted: makes the scripted player.
        replay: dotted name of a player ``(states, actions, episode_ends, episodes)`` that replays demonstrations
            with noise; None where the environment has no demonstrations.
        demonstrations: ``auto``, None or ``none``, a path or a hub id; see :func:`find_demonstrations`.
        num_episodes: to collect, beside the recorded ones; rounded up to whole shards of each kind.
        num_frames: of each collected episode.
        episodes_per_shard: of a shard.
        replay_fraction: share of noisy replays in ``num_episodes`` where there are demonstrations, 0..1.
        beside_recorded: whether players add to recorded episodes, or only take their place where there are none.
        seed: of everything random.
        num_workers: processes.
        progress: show a bar.

    Returns:
        The store, and sentences for the user: which demonstrations were used and what was collected.

    Raises:
        ValueError: the place cannot be written or has too little room, or holds episodes of another environment,
            another version of it, other settings or other demonstrations.
    """
    if not 0 <= replay_fraction <= 1:
        raise ValueError(f"replay_fraction must be between 0 and 1, got {replay_fraction}")
    if num_episodes < 1 or episodes_per_shard < 1 or num_frames < 2:
        raise ValueError(
            "collecting needs num_episodes >= 1, episodes_per_shard >= 1 and num_frames >= 2, "
            f"got {num_episodes}, {episodes_per_shard} and {num_frames}"
        )
    live = env.build()
    store = EpisodeStore.create(path, EnvSpec.from_env(live))
    check_pictures(store, live)
    place, sentence = None, "scripted players only"
    if replay is not None and demonstrations not in (None, "none"):
        place, sentence = find_demonstrations(demonstrations)
    num_replays = round(replay_fraction * num_episodes)
    recorded = None
    players = {"scripted": (scripted, num_episodes)}
    if place is not None:
        recorded = load_pusht_demonstrations(place)
        params = {**vars(recorded), "episodes": list(range(len(recorded)))}
        players = {
            "human_replay": (Factory(replay, params), num_replays),
            "scripted": (scripted, num_episodes - num_replays),
        }
    elif demonstrations == "auto" and store.has_shard("human", 0):
        # Started where demonstrations were at hand: a repeat without them must not change what the store holds.
        sentence = "demonstrations that the store already holds"
        players = {"scripted": (scripted, num_episodes - num_replays)}
    if not beside_recorded and (recorded is not None or store.has_shard("human", 0)):
        players = {}
    jobs = [
        Job(source, index, player, env, episodes_per_shard, num_frames, seed)
        for source, (player, count) in players.items()
        for index in range(-(-count // episodes_per_shard))
    ]
    frames = sum(job.num_frames * job.num_episodes for job in jobs if not store.has_shard(job.source, job.index))
    if recorded is not None and not store.has_shard("human", (len(recorded) - 1) // episodes_per_shard):
        frames += len(recorded.states)
    store.check_room(frames)
    added = import_demonstrations(store, recorded, live, episodes_per_shard) if recorded is not None else 0
    live.close()
    collected = collect(store, jobs, num_workers, progress)
    done = [f"imported {added} recorded episodes"] if added else []
    done += [str(collected)] if collected.num_episodes else []
    return store, "; ".join([sentence, *(done or ["nothing was missing"])])
