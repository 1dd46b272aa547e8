"""Players in environments make episodes; several processes make a store of them."""

from __future__ import annotations

import hashlib
import importlib
import json
import multiprocessing
import os
import signal
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from worldjepa.datasets.demonstrations import (
    find_demonstrations,
    import_demonstrations,
    load_pusht_demonstrations,
)
from worldjepa.datasets.store import EpisodeStore
from worldjepa.types import EnvSpec, Episode, GoalEnv, Player

MAX_REJECTED = 200
PICTURE_TOLERANCE = 0.1
"""Mean grey levels; states are stored in float32, which is worth a thousandth of that."""


@dataclass(frozen=True)
class Factory:
    """A recipe for an object that another process can follow: the dotted name of a callable, and its arguments."""

    target: str
    params: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        module, _, name = self.target.rpartition(".")
        return getattr(importlib.import_module(module), name)(**self.params)

    @property
    def digest(self) -> str:
        """The target and a hash of the arguments."""

        def encode(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                return [str(value.dtype), value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
            raise TypeError(f"Factory arguments must be JSON values or arrays, got {type(value).__name__}")

        text = json.dumps(self.params, sort_keys=True, default=encode)
        return f"{self.target}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Job:
    """One shard to collect; the same job gives the same shard, wherever and whenever it runs."""

    source: str
    index: int
    player: Factory
    env: Factory
    num_episodes: int
    num_frames: int
    seed: int

    @property
    def recipe(self) -> dict[str, Any]:
        return {
            "player": self.player.digest,
            "env": self.env.digest,
            "num_episodes": self.num_episodes,
            "num_frames": self.num_frames,
            "seed": self.seed,
        }

    def rng(self, episode: int) -> np.random.Generator:
        entropy = [self.seed, zlib.crc32(self.source.encode()), self.index, episode]
        return np.random.default_rng(np.random.SeedSequence(entropy))


@dataclass(frozen=True)
class Collected:
    """What a call of :func:`collect` did; all zero when nothing was missing."""

    num_episodes: int
    num_frames: int
    seconds: float
    cpu_seconds: float
    num_workers: int

    @property
    def steps_per_second_per_core(self) -> float:
        """Steps, pictures included, per second of processor time: what a core does that has nothing else to do."""
        return self.num_frames / max(self.cpu_seconds, 1e-9)

    def __str__(self) -> str:
        return (
            f"collected {self.num_episodes:,} episodes ({self.num_frames:,} steps) in {self.seconds:.1f} s with "
            f"{self.num_workers} worker{'s' if self.num_workers > 1 else ''}: "
            f"{self.num_frames / max(self.seconds, 1e-9):,.0f} steps/s, "
            f"{self.steps_per_second_per_core:,.0f} per second of a core"
        )


def record_episode(env: GoalEnv, player: Player, rng: np.random.Generator, num_frames: int) -> Episode:
    """Plays one episode of ``num_frames`` observations; episodes that the player rejects are played again.

    Raises:
        RuntimeError: the player rejected every one of many episodes.
    """
    env = env.unwrapped  # neither a time limit nor a success ends a recording
    for _ in range(MAX_REJECTED):
        start, group = player.reset(rng)
        observation, info = env.reset(seed=int(rng.integers(2**31)), options={"state": start})
        observations, states, actions = [observation], [info["state"]], []
        for _ in range(num_frames - 1):
            actions.append(np.asarray(player.act(states[-1]), np.float32))
            observation, _, _, _, info = env.step(actions[-1])
            observations.append(observation)
            states.append(info["state"])
        if not player.keep(np.asarray(states)):
            continue
        arrays = {name: np.stack([o[name] for o in observations]) for name in observation}
        arrays["action"] = np.stack([*actions, np.zeros(env.action_space.shape, np.float32)])
        arrays["state"] = np.asarray(states, np.float32)
        return Episode(arrays, group, player.label)
    raise RuntimeError(f"{type(player).__name__} rejected {MAX_REJECTED} episodes in a row")


def collect(store: EpisodeStore, jobs: Sequence[Job], num_workers: int = 1, progress: bool = False) -> Collected:
    """Runs the jobs whose shards ``store`` lacks, in ``num_workers`` processes, and takes the result in.

    What is collected does not depend on the number of workers. After a kill the same call does the rest.

    Args:
        store: opened with :meth:`EpisodeStore.create`.
        jobs: the shards the store shall have.
        num_workers: processes of one thread each; 1 works in this very process.
        progress: show a bar with the rate and the time left.

    Raises:
        ValueError: a shard exists but was made by another recipe; too little disk.
    """
    if num_workers < 1:
        raise ValueError(f"workers must be >= 1, got {num_workers}")
    todo = []
    for job in jobs:
        if not store.has_shard(job.source, job.index):
            todo.append(job)
        elif (found := store.recipe(job.source, job.index)) != job.recipe:
            differ = [f"{key}: {found.get(key)} there, {value} asked" for key, value in job.recipe.items()]
            differ = [line for line, key in zip(differ, job.recipe, strict=True) if found.get(key) != job.recipe[key]]
            raise ValueError(
                f"{store.path} has a shard {job.source}-{job.index:05d} collected with other settings "
                f"({'; '.join(differ)}); choose another store or remove that one"
            )
    num_workers = max(1, min(num_workers, len(todo)))
    store.check_room(sum(job.num_episodes * job.num_frames for job in todo))
    start = time.perf_counter()
    episodes = sum(job.num_episodes for job in todo)
    frames = sum(job.num_episodes * job.num_frames for job in todo)
    with _progress_bar(episodes, frames / max(episodes, 1), progress and bool(todo)) as show:
        if num_workers == 1:
            count = 0

            def played() -> None:
                nonlocal count
                count += 1
                show(count)

            cpu_seconds = sum(_run(job, store, played) for job in todo)
        else:
            cpu_seconds = _run_in_processes(todo, store, num_workers, show)
    store.refresh()
    return Collected(episodes, frames, time.perf_counter() - start, cpu_seconds, num_workers)


def check_pictures(store: EpisodeStore, env: GoalEnv) -> None:
    """Raises ValueError unless ``env`` draws stored states as they were drawn when they were collected.

    Goal pictures come from the environment, so a model must have learned from the same renderer.
    """
    env = env.unwrapped
    worst = 0.0
    for index in np.linspace(0, store.num_episodes - 1, min(8, store.num_episodes)).astype(int):
        arrays = store.episode(index).arrays
        middle = len(arrays["state"]) // 2
        now = env.observe_state(arrays["state"][middle].astype(np.float64))["pixels"].astype(int)
        worst = max(worst, float(np.abs(now - arrays["pixels"][middle]).mean()))
    if worst > PICTURE_TOLERANCE:
        raise ValueError(
            f"the pictures in {store.path} differ from what {store.spec.env_id} draws now, by {worst:.2f} grey levels "
            f"on average (expected at most {PICTURE_TOLERANCE}): they were collected by another version; choose "
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
    seed: int = 0,
    num_workers: int = 1,
    progress: bool = False,
) -> tuple[EpisodeStore, str]:
    """Opens the store at ``path`` and collects whatever it lacks; returns at once when nothing is missing.

    With demonstrations: the recorded episodes themselves (policy ``human``), half of ``num_episodes`` as noisy
    replays of them and half scripted. Without: all scripted.

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
        seed: of everything random.
        num_workers: processes.
        progress: show a bar.

    Returns:
        The store, and sentences for the user: which demonstrations were used and what was collected.

    Raises:
        ValueError: the place cannot be written or has too little room, or holds episodes of another environment,
            another version of it, other settings or other demonstrations.
    """
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
    half = num_episodes // 2
    recorded = None
    players = {"scripted": (scripted, num_episodes)}
    if place is not None:
        recorded = load_pusht_demonstrations(place)
        params = {**vars(recorded), "episodes": list(range(len(recorded)))}
        players = {"human_replay": (Factory(replay, params), half), "scripted": (scripted, num_episodes - half)}
    elif demonstrations == "auto" and store.has_shard("human", 0):
        # Started where demonstrations were at hand: a repeat without them must not change what the store holds.
        sentence = "demonstrations that the store already holds"
        players = {"scripted": (scripted, num_episodes - half)}
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


def _run(job: Job, store: EpisodeStore, played) -> float:
    """Collects and writes one shard; returns the processor time it took, s."""
    env, player = job.env.build(), job.player.build()
    start = time.process_time()
    episodes = []
    for number in range(job.num_episodes):
        episodes.append(record_episode(env, player, job.rng(number), job.num_frames))
        played()
    store.write_shard(job.source, job.index, episodes, job.recipe)
    env.close()
    return time.process_time() - start


# ---- several processes ------------------------------------------------------------------------------------------

_worker: dict[str, Any] = {}
"""This worker process's store, counter of episodes and stop flag."""


def _start_worker(path: Path, counter, stop) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it sets the stop flag
    threading.Thread(target=_die_with_parent, daemon=True).start()
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    _worker.update(store=EpisodeStore.open(path), counter=counter, stop=stop)


def _die_with_parent() -> None:
    """A parent killed outright cannot end its workers, so they watch it."""
    multiprocessing.parent_process().join()
    os._exit(1)


class _Stopped(Exception):
    pass


def _run_in_worker(job: Job) -> float:
    def played() -> None:
        if _worker["stop"].value:
            raise _Stopped
        with _worker["counter"].get_lock():
            _worker["counter"].value += 1

    return _run(job, _worker["store"], played)


def _run_in_processes(jobs: Sequence[Job], store: EpisodeStore, num_workers: int, show) -> float:
    cpu_seconds = 0.0
    # One server imports everything, once, and the workers are forked from it before any thread has started there.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "worldjepa.rollout"])
    counter, stop = context.Value("q", 0), context.Value("b", 0)
    with (
        _one_thread_each(),
        ProcessPoolExecutor(num_workers, context, _start_worker, (store.path, counter, stop)) as executor,
    ):
        pending = {executor.submit(_run_in_worker, job) for job in jobs}
        try:
            while pending:
                done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                for future in done:
                    cpu_seconds += future.result()
                show(counter.value)
        except BaseException:
            stop.value = 1
            executor.shutdown(wait=True, cancel_futures=True)
            raise
    return cpu_seconds


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Number-crunching libraries read these when a worker starts."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


@contextmanager
def _progress_bar(num_episodes: int, frames_per_episode: float, visible: bool):
    """Yields ``show(episodes_done)``."""
    if not visible:
        yield lambda done: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("collecting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("episodes {task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    start = time.perf_counter()
    with Progress(*columns) as bar:
        task = bar.add_task("", total=num_episodes, rate="")

        def show(done: int) -> None:
            rate = done / (time.perf_counter() - start)
            bar.update(task, completed=done, rate=f"{rate:.1f}/s, {rate * frames_per_episode:,.0f} steps/s")

        yield show
