import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from worldjepa import collection
from worldjepa.collection import prepare_store
from worldjepa.datasets import Demonstrations, EpisodeStore, Windows
from worldjepa.rollout import Factory, Job, collect, record_episode
from worldjepa.types import EnvSpec

ROOT = Path(__file__).parents[1]
TWO_ROOM = Factory("gymnasium.make", {"id": "envs:worldjepa/TwoRoom-v0", "image_size": 32})
PUSHT = Factory("gymnasium.make", {"id": "envs:worldjepa/PushT-v0", "image_size": 32})
WALKER = Factory("envs.two_room.TwoRoomPlayer")
PUSHER = Factory("envs.pusht_players.ScriptedPusher")
REPLAY = "envs.pusht_players.NoisyReplay"


def jobs(count: int, source: str = "scripted", seed: int = 0) -> list[Job]:
    return [Job(source, index, WALKER, TWO_ROOM, num_episodes=3, num_frames=7, seed=seed) for index in range(count)]


@pytest.fixture
def create(tmp_path):
    def create(name: str) -> EpisodeStore:
        return EpisodeStore.create(tmp_path / name, EnvSpec.from_env(TWO_ROOM.build()))

    return create


class Fussy:
    """Follows another player, names its episodes 0, 1, 2, ..., and keeps every third."""

    label = "fussy"

    def __init__(self, never: bool = False):
        self.player, self.count, self.never = WALKER.build(), -1, never

    def reset(self, rng):
        self.count += 1
        return self.player.reset(rng)[0], f"fussy/{self.count}"

    def act(self, state):
        return self.player.act(state)

    def keep(self, states):
        return self.count % 3 == 2 and not self.never


def test_an_episode_replays_to_the_states_and_pictures_it_recorded():
    env = PUSHT.build()
    episode = record_episode(env, PUSHER.build(), np.random.default_rng(5), num_frames=13)
    assert len(episode) == 13 and episode.policy == "scripted"
    arrays = episode.arrays
    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        "pixels": "uint8",
        "proprioception": "float32",
        "action": "float32",
        "state": "float32",
    }
    env = env.unwrapped
    # Stored states are float32, so the start is off by up to 2e-5 px.
    observation, info = env.reset(options={"state": arrays["state"][0]})
    for t in range(13):
        np.testing.assert_allclose(info["state"], arrays["state"][t], atol=0.05)
        np.testing.assert_array_equal(env.observe_state(arrays["state"][t])["pixels"].shape, (32, 32, 3))
        assert np.abs(observation["pixels"].astype(int) - arrays["pixels"][t]).max() <= 8
        if t < 12:
            observation, _, _, _, info = env.step(arrays["action"][t])
    np.testing.assert_array_equal(arrays["action"][-1], 0)


def test_rejected_episodes_are_played_again_but_not_for_ever():
    player = Fussy()
    groups = [record_episode(TWO_ROOM.build(), player, np.random.default_rng(0), 5).group for _ in range(2)]
    assert groups == ["fussy/2", "fussy/5"]
    with pytest.raises(RuntimeError, match="Fussy rejected 200 episodes"):
        record_episode(TWO_ROOM.build(), Fussy(never=True), np.random.default_rng(0), 2)


def test_collection_does_not_depend_on_the_number_of_workers_or_on_what_was_there(create):
    one, two = create("one"), create("two")
    collected = collect(one, jobs(3), num_workers=1)
    assert (collected.num_episodes, collected.num_frames) == (9, 63)
    collect(two, jobs(3)[2:], num_workers=1)
    assert collect(two, jobs(3), num_workers=2).num_episodes == 6
    assert one.num_episodes == two.num_episodes == 9
    assert EpisodeStore.open(one.path).hash == EpisodeStore.open(two.path).hash
    assert collect(one, jobs(3)).num_episodes == 0


def test_every_seed_source_shard_and_episode_has_its_own_stream():
    streams = [
        job.rng(episode).integers(2**60)
        for job in [*jobs(2), *jobs(2, seed=1), *jobs(2, source="other")]
        for episode in range(3)
    ]
    assert len(set(streams)) == 18


def test_a_store_collected_otherwise_is_refused(create):
    store = create("store")
    collect(store, jobs(1))
    with pytest.raises(ValueError, match=r"scripted-00000 collected with other settings \(seed: 0 there, 1 asked\)"):
        collect(store, jobs(2, seed=1))
    with pytest.raises(ValueError, match="workers must be >= 1"):
        collect(store, jobs(1), num_workers=0)


def test_too_little_disk_is_said_before_anything_is_collected(create):
    store = create("store")
    job = Job("scripted", 0, WALKER, TWO_ROOM, num_episodes=10**9, num_frames=10**4, seed=0)
    with pytest.raises(ValueError, match="but the disk has only"):
        collect(store, [job])


def test_factory_digest_tells_arguments_apart():
    factories = [Factory("a.b"), Factory("a.c"), Factory("a.b", {"x": 1}), Factory("a.b", {"x": np.ones(2)})]
    assert len({factory.digest for factory in factories}) == 4
    assert Factory("a.b", {"x": np.ones(2)}).digest == Factory("a.b", {"x": np.ones(2)}).digest
    assert Factory("a.b", {"x": np.ones(2)}).digest != Factory("a.b", {"x": np.zeros(2)}).digest


@pytest.fixture
def demonstrations(monkeypatch, tmp_path):
    """Six drifting demonstrations of 37 steps, found wherever ``auto`` looks."""
    rng = np.random.default_rng(0)
    states = np.concatenate([rng.uniform(150, 350, (6, 4)), rng.uniform(0, 6, (6, 1))], 1)
    states = np.repeat(states, 37, 0) + np.tile(np.arange(37.0), 6)[:, None] * 0.1
    recorded = Demonstrations(states, states[:, :2] + 10, np.arange(37, 223, 37))
    monkeypatch.setattr(collection, "find_demonstrations", lambda place: (tmp_path, "generated demonstrations"))
    monkeypatch.setattr(collection, "load_pusht_demonstrations", lambda place: recorded)
    return recorded


def prepare(path, demonstrations="auto", num_episodes=60):
    return prepare_store(path, PUSHT, PUSHER, REPLAY, demonstrations, num_episodes, 7, 10)


def test_players_only_take_the_place_of_demonstrations_when_asked(tmp_path, demonstrations, monkeypatch):
    def asked(path):
        return prepare_store(path, PUSHT, PUSHER, REPLAY, "auto", 10, 7, 10, beside_recorded=False)

    store, _ = asked(tmp_path / "with")
    assert set(store.policies) == {"human"} and store.num_episodes == 6
    monkeypatch.setattr(collection, "find_demonstrations", lambda place: (None, "none found"))
    assert asked(tmp_path / "with")[0].hash == store.hash
    assert set(asked(tmp_path / "without")[0].policies) == {"scripted"}


def test_a_plan_with_demonstrations(tmp_path, demonstrations, monkeypatch):
    store, sentence = prepare(tmp_path / "store")
    assert sentence.startswith("generated demonstrations; imported 6 recorded episodes; collected 60 episodes")
    counts = {name: store.policies.count(name) for name in set(store.policies)}
    assert counts == {"human": 6, "human_replay": 30, "scripted": 30}

    # A replay starts with the block where its demonstration, which its group names, had it at some time.
    starts = {}
    for index in np.flatnonzero(np.array(store.policies) == "human_replay"):
        demo = int(store.groups[index].removeprefix("human/"))
        block = store.episode(index).arrays["state"][0, 2:5]
        recorded = demonstrations.episode(demo)[0][:, 2:5]
        assert np.abs(recorded - block).max(-1).min() < 1e-3
        starts[index] = demo
    assert len(set(starts.values())) > 2

    # So that nothing of a held-out demonstration is trained on.
    held_out, train = (Windows(store, 3, 2, split=split).episodes for split in ("held_out", "train"))
    human = [{store.groups[i] for i in split if store.policies[i] != "scripted"} for split in (held_out, train)]
    assert not human[0] & human[1]
    assert human[0] | human[1] == {f"human/{i}" for i in range(6)}

    again, sentence = prepare(tmp_path / "store")
    assert sentence == "generated demonstrations; nothing was missing"
    monkeypatch.setattr(collection, "find_demonstrations", lambda place: (None, "none found"))
    without, sentence = prepare(tmp_path / "store")
    assert sentence == "demonstrations that the store already holds; nothing was missing"
    assert store.hash == again.hash == without.hash


def test_a_plan_without_demonstrations(tmp_path, demonstrations):
    store, sentence = prepare(tmp_path / "store", demonstrations="none", num_episodes=13)
    assert sentence.startswith("scripted players only; collected 20 episodes")  # whole shards of 10
    assert set(store.policies) == {"scripted"}
    with pytest.raises(ValueError, match="num_episodes >= 1"):
        prepare(tmp_path / "store", num_episodes=0)


def test_pictures_of_another_renderer_are_refused(tmp_path, demonstrations, monkeypatch):
    store, _ = prepare(tmp_path / "store", demonstrations="none", num_episodes=10)
    monkeypatch.setattr(type(PUSHT.build().unwrapped), "observe_state", darker(PUSHT.build().unwrapped.observe_state))
    with pytest.raises(ValueError, match=r"differ from what worldjepa/PushT-v0 draws now, by 1\.00 grey levels"):
        prepare(tmp_path / "store", demonstrations="none", num_episodes=20)
    assert EpisodeStore.open(store.path).num_episodes == 10


def darker(observe):
    def observe_state(self, state):
        observation = observe(state)
        return {**observation, "pixels": observation["pixels"] - 1}

    return observe_state


def run_script(store: Path, workers: int) -> subprocess.Popen:
    options = [f"store={store}", f"workers={workers}", "num_episodes=1600"]
    options += ["env.image_size=32", "env.collect.num_frames=26", "env.collect.episodes_per_shard=20"]
    command = [sys.executable, "scripts/collect.py", "env=two_room", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def working(store: Path, shards: int) -> bool:
    """Whether a shard was begun since there were ``shards``."""
    folder = store / "shards"
    return folder.is_dir() and (any(folder.glob(".tmp-*")) or len(list(folder.iterdir())) > shards)


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path):
    rng = random.Random(0)
    whole = run_script(tmp_path / "whole", workers=1)
    output, _ = whole.communicate()
    assert whole.returncode == 0, output
    store = tmp_path / "killed"
    kills = 0
    while kills < 20:
        before = len(list((store / "shards").glob("scripted-*")))
        process = run_script(store, workers=1 + kills % 2)
        while not working(store, before) and process.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.2))
        assert process.poll() is None, "finished before it could be killed twenty times: give it more to do"
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()  # its workers hold the pipe: this returns when they are dead too
        kills += 1
        EpisodeStore.open(store)
    last = run_script(store, workers=2)
    output, _ = last.communicate()
    assert last.returncode == 0, output
    assert EpisodeStore.open(store).hash == EpisodeStore.open(tmp_path / "whole").hash
    assert not list((store / "shards").glob(".tmp-*"))


def test_collecting_in_the_environment_that_gymnasium_makes_ignores_its_time_limit():
    env = gymnasium.make("envs:worldjepa/TwoRoom-v0", image_size=32, max_episode_steps=3)
    assert len(record_episode(env, WALKER.build(), np.random.default_rng(0), num_frames=11)) == 11
