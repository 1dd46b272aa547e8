import json
import os
import shutil
import signal
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest

from worldjepa.datasets import EpisodeStore, is_held_out
from worldjepa.datasets.pictures import write_pictures
from worldjepa.types import FieldSpec

LENGTHS = (13, 7, 11)
HELD_OUT_DEMONSTRATIONS = [11, 23, 25, 40, 47]  # of the first 50


@pytest.fixture
def episodes(make_episode):
    return [make_episode(number, length) for number, length in enumerate(LENGTHS)]


@pytest.fixture
def store(tmp_path, spec, episodes):
    store = EpisodeStore.create(tmp_path / "store", spec)
    store.write_shard("scripted", 0, episodes)
    return EpisodeStore.open(tmp_path / "store", spec)


def test_round_trip_is_bit_exact(store, episodes):
    assert store.lengths.tolist() == list(LENGTHS)
    assert store.num_frames == sum(LENGTHS)
    for index, episode in enumerate(episodes):
        back = store.episode(index)
        assert (back.group, back.policy) == (episode.group, episode.policy)
        for name, array in episode.arrays.items():
            assert back.arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(back.arrays[name], array)
            assert name == "pixels" or not back.arrays[name].flags.writeable


def test_grows_while_open_and_keeps_indices(store, spec, make_episode):
    # "human" sorts before "scripted", but what is known keeps its number until the store is opened anew.
    EpisodeStore.create(store.path, spec).write_shard("human", 3, [make_episode(5, 5, "human")])
    assert store.num_episodes == 3
    assert store.refresh() == 1
    assert store.policies == ["scripted"] * 3 + ["human"]
    assert store.episode(3).arrays["state"][0, 0] == 5
    reopened = EpisodeStore.open(store.path)
    assert reopened.policies == ["human"] + ["scripted"] * 3
    assert reopened.hash == store.hash


def test_hash_ignores_order_of_arrival_but_not_content(tmp_path, spec, make_episode):
    def hash_of(name, shards):
        store = EpisodeStore.create(tmp_path / name, spec)
        for index, number in shards:
            store.write_shard("scripted", index, [make_episode(number, 7)])
        store.refresh()
        return store.hash

    first = hash_of("a", [(0, 1), (1, 2)])
    assert hash_of("b", [(1, 2), (0, 1)]) == first
    assert hash_of("c", [(0, 1), (1, 3)]) != first


def test_a_written_shard_stands(store, make_episode):
    store.write_shard("scripted", 0, [make_episode(9, 5)])
    assert EpisodeStore.open(store.path).lengths.tolist() == list(LENGTHS)
    assert [folder.name for folder in (store.path / "shards").iterdir()] == ["scripted-00000"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")  # the child uses neither torch nor threads
@pytest.mark.parametrize("stage", ["write", "rename", "done"])
def test_a_writer_killed_at_any_stage_leaves_all_or_nothing(tmp_path, spec, make_episode, stage):
    episodes = [make_episode(0, 13), make_episode(1, 7)]
    whole = EpisodeStore.create(tmp_path / "whole", spec)
    whole.write_shard("scripted", 0, episodes)
    whole.refresh()

    store = EpisodeStore.create(tmp_path / "killed", spec)
    child = os.fork()
    if child == 0:  # dies within: the third file is being synced, all are written, or the shard is in place
        calls = {"fsync": 0}
        fsync = os.fsync

        def dying_fsync(descriptor):
            calls["fsync"] += 1
            if calls["fsync"] == {"write": 3, "rename": 6, "done": 7}[stage]:
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(descriptor)

        os.fsync = dying_fsync
        store.write_shard("scripted", 0, episodes)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert EpisodeStore.open(store.path).num_episodes == (2 if stage == "done" else 0)
    assert len(list((store.path / "shards").glob(".tmp-*"))) == (0 if stage == "done" else 1)

    again = EpisodeStore.create(store.path, spec)
    assert not list((store.path / "shards").glob(".tmp-*"))
    again.write_shard("scripted", 0, episodes)
    again.refresh()
    assert again.hash == whole.hash


def test_create_removes_only_what_dead_writers_left(store, spec):
    shards = store.path / "shards"
    (shards / ".tmp-999999999-scripted-00001").mkdir()
    (shards / f".tmp-{os.getpid()}-scripted-00002").mkdir()
    assert EpisodeStore.create(store.path, spec).num_episodes == 3
    assert [folder.name for folder in shards.glob(".tmp-*")] == [f".tmp-{os.getpid()}-scripted-00002"]


@pytest.mark.parametrize("column", ["pixels.lz4", "action.npy"])
@pytest.mark.parametrize("missing", [40, 0])
def test_truncated_column_is_refused(store, column, missing):
    file = store.path / "shards/scripted-00000" / column
    os.truncate(file, file.stat().st_size - missing if missing else 3)
    with pytest.raises(ValueError, match=rf"{column}: truncated.*expected (uint8|float32) \(31, "):
        EpisodeStore.open(store.path)


def test_pictures_are_indexed_like_an_array_and_take_less_room(tmp_path, spec, make_episode):
    episode = make_episode(0, 13)
    episode.arrays["pixels"][:] = 200
    episode.arrays["pixels"][:, 2:4, 5:8] = np.arange(13)[:, None, None, None]
    store = EpisodeStore.create(tmp_path / "plain", spec)
    store.write_shard("scripted", 0, [make_episode(1, 7), episode])
    store.refresh()
    pictures, truth = store.episode(1).arrays["pixels"], episode.arrays["pixels"]
    assert pictures.shape == truth.shape and len(pictures) == 13
    for index in (3, -1, slice(None), slice(2, 11, 4), slice(5, 5), slice(-3, None)):
        np.testing.assert_array_equal(pictures[index], truth[index])
    with pytest.raises(IndexError):
        pictures[13]
    random, plain = store.path / "shards/scripted-00000/pixels.lz4", tmp_path / "plain.lz4"
    write_pictures(plain, [truth])
    assert plain.stat().st_size - 8 * 14 < truth.nbytes / 2 < random.stat().st_size


def test_a_damaged_picture_is_named(store):
    file = store.path / "shards/scripted-00000/pixels.lz4"
    content = bytearray(file.read_bytes())
    content[8 * 32 : 8 * 32 + 4] = b"\xff\xff\xff\x7f"  # the first picture's size, as LZ4 writes it down
    file.write_bytes(content)
    pictures = EpisodeStore.open(store.path).episode(0).arrays["pixels"]
    pictures[1]
    with pytest.raises(ValueError, match=r"pixels\.lz4: picture 0 is damaged"):
        pictures[0]


def test_wrong_dtype_is_refused(store):
    file = store.path / "shards/scripted-00000/action.npy"
    np.save(file, np.load(file).astype(np.float64))
    with pytest.raises(ValueError, match=r"action\.npy: expected float32 \(31, 2\), got float64"):
        EpisodeStore.open(store.path)


def test_nan_on_disk_is_refused(store):
    file = store.path / "shards/scripted-00000/action.npy"
    action = np.load(file)
    action[3, 1] = np.nan
    np.save(file, action)
    with pytest.raises(ValueError, match=r"action\.npy: expected finite numbers"):
        EpisodeStore.open(store.path)


def test_changed_number_is_refused(store):
    file = store.path / "shards/scripted-00000/state.npy"
    state = np.load(file)
    state[3, 1] += 1
    np.save(file, state)
    with pytest.raises(ValueError, match=r"state\.npy: the content differs from the checksum"):
        EpisodeStore.open(store.path)


def test_missing_column_and_broken_metadata_are_refused(store):
    folder = store.path / "shards/scripted-00000"
    (folder / "state.npy").rename(folder / "elsewhere.npy")
    with pytest.raises(ValueError, match=r"state\.npy: truncated or unreadable"):
        EpisodeStore.open(store.path)
    (folder / "episodes.json").write_text('{"format": 1,')
    with pytest.raises(ValueError, match=r"episodes\.json: missing or not JSON"):
        EpisodeStore.open(store.path)


def test_another_environment_is_refused_by_its_differing_fields(store, spec):
    other = replace(spec, fields={**spec.fields, "pixels": FieldSpec("uint8", (9, 9, 3))})
    with pytest.raises(ValueError, match=r"spec\.json.*fields\.pixels\.shape is \(7, 11, 3\), expected \(9, 9, 3\)"):
        EpisodeStore.create(store.path, other)


def test_shard_of_another_environment_is_refused(tmp_path, store, spec, make_episode):
    other = EpisodeStore.create(tmp_path / "other", replace(spec, env_id="test/Other-v0"))
    other.write_shard("human", 0, [make_episode(0, 5)])
    shutil.copytree(other.path / "shards/human-00000", store.path / "shards/human-00000")
    with pytest.raises(ValueError, match=r"human-00000/episodes\.json.*another environment"):
        store.refresh()


def test_changed_specification_is_refused(store):
    file = store.path / "spec.json"
    content = json.loads(file.read_text())
    content["spec"]["frame_rate"] = 20.0
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"spec\.json: the specification has hash"):
        EpisodeStore.open(store.path)


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("action", lambda x: np.where(x > 2, np.nan, x).astype(np.float32), "column action must be finite"),
        ("pixels", lambda x: x.astype(np.float32), r"column pixels must be uint8 \(13, 7, 11, 3\), got float32"),
        ("state", lambda x: x[:-1], r"column state must be float32 \(13, 5\)"),
    ],
)
def test_bad_episodes_are_not_written(store, make_episode, column, change, message):
    episode = make_episode(0, 13)
    episode.arrays[column] = change(episode.arrays[column])
    with pytest.raises(ValueError, match=message):
        store.write_shard("scripted", 1, [episode])
    assert not store.has_shard("scripted", 1)


def test_room_is_checked(store, monkeypatch):
    store.check_room(10)
    usage = namedtuple("usage", "total used free")
    frame = store.num_bytes / store.num_frames
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, int(100 * frame)))
    store.check_room(90)
    with pytest.raises(ValueError, match="for 101 frames, but the disk has only"):
        store.check_room(101)


def test_unwritable_place_is_said_at_once(tmp_path, spec):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot write to the store"):
        EpisodeStore.create(tmp_path / "file" / "store", spec)
    with pytest.raises(ValueError, match=r"no episode store at .*spec\.json"):
        EpisodeStore.open(tmp_path / "nothing")


def test_held_out_groups_are_fixed_for_good():
    # Written down, so that no later change can move a demonstration from the held-out to the training data.
    held_out = [i for i in range(50) if is_held_out(f"human/{i}")]
    assert held_out == HELD_OUT_DEMONSTRATIONS
    groups = [f"scripted/{i}" for i in range(4000)]
    assert abs(np.mean([is_held_out(group) for group in groups]) - 0.15) < 0.02
    # A larger fraction holds out more, and never returns a group to the training data.
    assert all(is_held_out(group, 0.3) for group in groups if is_held_out(group, 0.15))
