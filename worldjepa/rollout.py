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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from worldjepa.datasets.store import EpisodeStore
from worldjepa.types import Episode, GoalEnv, Player

MAX_REJECTED = 200


@dataclass(frozen=True)
class Factory:
    """A recipe for an object that another process can follow: the dotted name of a callable, and its arguments."""

    target: str
    params: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: str | Mapping[str, Any]) -> Factory:
        """A dotted name, or a mapping with one as ``_target_`` and the arguments beside it."""
        if isinstance(config, str):
            return cls(config)
        return cls(config["_target_"], {name: value for name, value in config.items() if name != "_target_"})

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
        observations, states, actions, rewards = [observation], [info["state"]], [], []
        for _ in range(num_frames - 1):
            actions.append(np.asarray(player.act(states[-1]), np.float32))
            observation, reward, _, _, info = env.step(actions[-1])
            rewards.append(reward)
            observations.append(observation)
            states.append(info["state"])
        if not player.keep(np.asarray(states)):
            continue
        arrays = {name: np.stack([o[name] for o in observations]) for name in observation}
        arrays["action"] = np.stack([*actions, np.zeros(env.action_space.shape, np.float32)])
        arrays["state"] = np.asarray(states, np.float32)
        if getattr(env, "rewarded", False):
            arrays["reward"] = np.asarray([*rewards, 0.0], np.float32)
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
