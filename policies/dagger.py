"""Asks the expert what it would have done where the policy went, and learns from that too (DAgger, arXiv:1011.0686).

Demonstrations alone never show how to get out of what only a beginner gets into.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from rich.progress import track

from policies.chunk_policy import load_chunk_model
from policies.imitation import GATHERED, SAID, stored_latents, train_imitation
from worldjepa.datasets.store import EpisodeStore
from worldjepa.evaluation.protocol import workers
from worldjepa.files import written_whole
from worldjepa.rollout import Factory
from worldjepa.runs import env_factory, open_run, player_factory
from worldjepa.training import is_trained, launch, num_cores
from worldjepa.types import EnvSpec, Episode

PER_SHARD = 10
"""Episodes that a kill may lose."""


def train_rounds(folder: Path, config: DictConfig, num_processes: int) -> None:
    """Trains the policy of ``folder``, asking the expert between; goes on where it stopped.

    Args:
        config: resolved; ``policy.dagger`` has ``rounds``, and ``episodes`` and ``steps`` of each. In the last
            training, ``folder`` itself, the policy learns from all of it.

    Raises:
        ValueError: an environment without an expert, an encoder without a view that stays as it is, or processes that
            were started from outside.
    """
    if not config.policy.encoder.get("frozen") or "sensor" not in config.policy.encoder:
        raise ValueError("only what is learned on frozen latents of sweeps asks the expert; set policy.dagger.rounds=0")
    if not config.env.get("expert"):
        raise ValueError(f"env={config.env.name} has no expert to be asked; set policy.dagger.rounds=0")
    if "RANK" in os.environ:
        raise ValueError("rounds of DAgger start processes of their own: give train.processes=<n> instead")
    rounds = int(config.policy.dagger.rounds)
    ask_about(folder / SAID, config)
    for number in range(rounds):
        place = folder / f"round-{number}"
        open_run(place, config)
        if not is_trained(place):
            launch(train_imitation, (str(place), str(folder), number), num_processes)
        gather_round(place, config, folder / GATHERED, number)
    launch(train_imitation, (str(folder), str(folder), rounds), num_processes)


def ask_about(file: Path, config: DictConfig) -> None:
    """Writes what the expert would have done in every frame of the demonstrations, float32 (frames,A); once.

    What was done there is disturbed now and then, and one sees by the wheels' angle that it is: who learned that would
    disturb himself.
    """
    if file.is_file():
        return
    say = partial(said_of, config.env.store, player_factory(config.env.expert))
    parts = in_parts(EpisodeStore.open(config.env.store).num_episodes)
    said = np.concatenate(list(answers(say, parts, config, "asking the expert about demonstrations")))
    with written_whole(file) as beside:
        np.save(beside, said, allow_pickle=False)


def in_parts(num_episodes: int) -> list[range]:
    """Numbers of episodes, ``PER_SHARD`` at a time."""
    return [range(i, min(i + PER_SHARD, num_episodes)) for i in range(0, num_episodes, PER_SHARD)]


def answers[Answer](
    ask: Callable[[Sequence[int]], Answer], parts: Sequence[range], config: DictConfig, said: str
) -> Iterator[Answer]:
    """What ``ask`` returns for each of ``parts``, in their order, by several processes, with a progress bar."""
    with workers(min(config.get("collection_workers") or num_cores(), len(parts))) as run:
        yield from track(run(ask, parts), said, total=len(parts))


def said_of(store: str, expert: Factory, numbers: Sequence[int]) -> np.ndarray:
    """float32 (frames,A): the expert's actions in the states of these episodes."""
    episodes, teacher = EpisodeStore.open(store), expert.build()
    states = np.concatenate([episodes.episode(number).arrays["state"] for number in numbers])
    return np.stack([teacher.act(state.astype(np.float64)) for state in states]).astype(np.float32)


def gather_round(place: Path, config: DictConfig, gathered: Path, number: int) -> None:
    """Plays ``policy.dagger.episodes`` episodes with the policy in ``place``; their actions are the expert's.

    What is there of the round is kept; an episode depends on the policy, the seed and its number alone.
    """
    settings, source = config.policy.dagger, f"round_{number}"
    model, _ = load_chunk_model(str(place.resolve()))
    demonstrations, _ = stored_latents(model, EpisodeStore.open(config.env.store))
    store = EpisodeStore.create(gathered, demonstrations.spec)
    left = [part for part in in_parts(settings.episodes) if not store.has_shard(source, part.start // PER_SHARD)]
    if not left:
        return
    play = partial(
        play_episodes,
        str(place.resolve()),
        env_factory(config),
        player_factory(config.env.collect.scripted),
        player_factory(config.env.expert),
        store.spec,
        int(settings.steps),
        (int(config.train.seed), number),
    )
    played = answers(play, left, config, f"asking the expert, round {number + 1}")
    for part, episodes in zip(left, played, strict=True):
        store.write_shard(source, part.start // PER_SHARD, episodes, {"round": number})


def play_episodes(
    path: str,
    env: Factory,
    player: Factory,
    expert: Factory,
    spec: EnvSpec,
    num_steps: int,
    seed: Sequence[int],
    numbers: Sequence[int],
) -> list[Episode]:
    """Episodes of the policy in ``path``, with what the expert would have done in every state as the action.

    Args:
        player: says where episodes start.
        spec: of what is recorded.
        num_steps: of an episode, unless the environment ends it.
        seed: with an episode's number, where it starts.
    """
    model, _ = load_chunk_model(path)
    world, starter, teacher = env.build().unwrapped, player.build(), expert.build()
    episodes = []
    for number in numbers:
        rng = np.random.default_rng([*seed, number])
        start, group = starter.reset(rng)
        observation, info = world.reset(seed=int(rng.integers(2**31)), options={"state": start})
        rows, over = [], False
        while True:
            # The latents are made once, to act by and to learn from.
            latents = model.encoder.view.columns({model.takes: torch.as_tensor(observation[model.takes])[None, None]})
            seen = {name: x[0] for name, x in latents.items()}
            seen |= {name: observation[name] for name in model.observes if name != model.takes}
            rows.append({**seen, "state": np.asarray(info["state"], np.float32), "reward": np.float32(0)})
            rows[-1]["action"] = teacher.act(info["state"])
            if over or len(rows) > num_steps:
                break
            with torch.no_grad():
                chunk = model({name: torch.as_tensor(x)[None, None].float() for name, x in seen.items()})
            observation, reward, terminated, truncated, info = world.step(chunk[0, 0].numpy())
            rows[-1]["reward"], over = np.float32(reward), terminated or truncated
        arrays = {name: np.stack([row[name] for row in rows]) for name in spec.fields}
        episodes.append(Episode(arrays, group, f"round_{seed[-1]}"))
    world.close()
    return episodes
