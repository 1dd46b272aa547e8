"""LeRobot datasets both ways: every number bit for bit, pictures within a bound, and refusals that say where."""

import json
import shutil

import numpy as np
import pytest

from worldjepa.datasets import EpisodeStore
from worldjepa.datasets.lerobot import export_lerobot, import_lerobot
from worldjepa.types import EnvSpec, Episode, FieldSpec

pytest.importorskip("lerobot.datasets.lerobot_dataset", reason="needs the extra lerobot")

SIZE, VIDEO_ERROR = 64, 4.0  # grey levels, mean over a picture of flat colours


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Seven episodes with two cameras and rewards: a square that moves over a coloured ground."""
    fields = {
        "pixels": FieldSpec("uint8", (SIZE, SIZE, 3)),
        "pixels_wrist": FieldSpec("uint8", (SIZE, SIZE, 3)),
        "proprioception": FieldSpec("float32", (2,)),
        "action": FieldSpec("float32", (2,)),
        "state": FieldSpec("float32", (3,)),
        "reward": FieldSpec("float32", ()),
    }
    spec = EnvSpec("test/Env-v0", fields, (-1.0, -1.0), (1.0, 1.0), ("x", "y", "angle"), 10.0)
    store = EpisodeStore.create(tmp_path_factory.mktemp("store"), spec)
    rng, episodes = np.random.default_rng(0), []
    for number in range(7):
        length = 5 + number
        pictures = np.full((2, length, SIZE, SIZE, 3), (200, 120, 40 * (number % 3)), np.uint8)
        for t in range(length):
            pictures[0, t, 20:40, 4 * t : 4 * t + 12] = 30
            pictures[1, t, 4 * t : 4 * t + 12, 20:40] = 250
        action, reward = rng.normal(size=(length, 2)).astype(np.float32), rng.random(length).astype(np.float32)
        action[-1], reward[-1] = 0, 0
        state = rng.normal(size=(length, 3)).astype(np.float32)
        arrays = {"pixels": pictures[0], "pixels_wrist": pictures[1], "proprioception": state[:, :2].copy()}
        episodes.append(Episode({**arrays, "action": action, "state": state, "reward": reward}, f"h/{number}", "human"))
    store.write_shard("human", 0, episodes)
    store.refresh()
    return store


@pytest.fixture(scope="module", params=["image", "video"])
def exported(request, store, tmp_path_factory):
    root = tmp_path_factory.mktemp("lerobot") / request.param
    export_lerobot(store, root, task="push", videos=request.param == "video", episodes_per_part=3)
    return root


def test_a_round_trip_keeps_every_number_and_nearly_every_grey_level(store, exported, tmp_path):
    back = import_lerobot(exported, tmp_path / "back", shard_bytes=600_000)
    assert back.spec == store.spec and back.groups == store.groups and back.policies == store.policies
    for index in range(store.num_episodes):
        before, after = store.episode(index).arrays, back.episode(index).arrays
        for name in ("proprioception", "action", "state", "reward"):
            np.testing.assert_array_equal(after[name], before[name])
        for name in ("pixels", "pixels_wrist"):
            error = np.abs(np.asarray(after[name]).astype(int) - np.asarray(before[name])).mean()
            assert error == 0 if exported.name == "image" else error < VIDEO_ERROR


def test_lerobot_itself_reads_what_was_written(store, exported):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    data = LeRobotDataset("local/test", root=exported, delta_timestamps={"action": [0.0, 0.1]}, video_backend="pyav")
    assert data.num_episodes == 7 and data.num_frames == store.num_frames and data.fps == 10
    first = int(store.lengths[0])
    row = data[first + 1]  # episode 1, frame 1
    wanted = store.episode(1).arrays
    np.testing.assert_array_equal(row["action"], wanted["action"][1:3])
    np.testing.assert_array_equal(row["observation.state"], wanted["proprioception"][1])
    assert row["observation.images.wrist"].shape == (3, SIZE, SIZE) and row["task"] == "push"
    last = data[first - 1]  # the action that leads nowhere is the one before it, not zero
    np.testing.assert_array_equal(last["action"][0], store.episode(0).arrays["action"][-2])


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory):
    """Three episodes of two tasks; the first that LeRobot will see is the second of the store's."""
    fields = {
        "pixels": FieldSpec("uint8", (SIZE, SIZE, 3)),
        "proprioception": FieldSpec("float32", (2,)),
        "action": FieldSpec("float32", (2,)),
        "state": FieldSpec("float32", (2,)),
        "task": FieldSpec("int64", ()),
    }
    spec = EnvSpec("test/Env-v0", fields, (-1.0,) * 2, (1.0,) * 2, ("x", "y"), 10.0, ("pull", "push"))
    store = EpisodeStore.create(tmp_path_factory.mktemp("tasks"), spec)
    numbers = {name: np.zeros((4, 2), np.float32) for name in ("proprioception", "action", "state")}
    numbers["pixels"] = np.zeros((4, SIZE, SIZE, 3), np.uint8)
    store.write_shard("human", 0, [Episode({**numbers, "task": np.full(4, i)}, f"h/{i}", "human") for i in (1, 0, 1)])
    store.refresh()
    return store


@pytest.mark.parametrize("sidecar", [True, False])
def test_tasks_go_both_ways_by_their_words(sidecar, two_tasks, tmp_path):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    export_lerobot(two_tasks, tmp_path / "out", videos=False)
    data = LeRobotDataset("local/test", root=tmp_path / "out")
    assert [data[i]["task"] for i in (0, 4, 8)] == ["push", "pull", "push"]
    if not sidecar:
        (tmp_path / "out" / "meta" / "worldjepa.json").unlink()
    back = import_lerobot(tmp_path / "out", tmp_path / "back")
    assert sorted(back.spec.tasks) == ["pull", "push"] and (back.spec == two_tasks.spec or not sidecar)
    assert [back.spec.tasks[back.episode(i).arrays["task"][3]] for i in range(3)] == ["push", "pull", "push"]
    with pytest.raises(ValueError, match="2 tasks of its own"):
        export_lerobot(two_tasks, tmp_path / "again", task="push")


def test_a_single_task_is_kept_in_words(exported, tmp_path):
    (shutil.copytree(exported, tmp_path / "d") / "meta" / "worldjepa.json").unlink()
    back = import_lerobot(tmp_path / "d", tmp_path / "s")
    assert back.spec.tasks == ("push",) and "task" not in back.spec.fields


def test_pictures_can_be_shrunk_and_chosen(exported, tmp_path):
    back = import_lerobot(exported, tmp_path / "s", image_size=32, cameras=["observation.images.wrist"])
    assert back.spec.fields["pixels"].shape == (32, 32, 3) and "pixels_wrist" not in back.spec.fields
    assert back.spec.env_id == f"lerobot/{exported.name}" and back.spec.frame_rate == 10.0


def test_an_import_goes_on_and_keeps_what_is_there(exported, tmp_path):
    whole = import_lerobot(exported, tmp_path / "s", shard_bytes=600_000)
    shutil.rmtree(whole.path / "shards" / "lerobot-00001")
    kept = (whole.path / "shards" / "lerobot-00000" / "episodes.json").stat().st_mtime_ns
    again = import_lerobot(exported, tmp_path / "s", shard_bytes=600_000)
    assert again.hash == whole.hash
    assert (whole.path / "shards" / "lerobot-00000" / "episodes.json").stat().st_mtime_ns == kept


def test_an_export_goes_on_after_a_kill(store, tmp_path, monkeypatch):
    from worldjepa.datasets import lerobot as module

    add, count = module._add_episode, []

    def dies(data, store, index, task):
        if len(count) == 4:
            raise KeyboardInterrupt
        count.append(index)
        add(data, store, index, task)

    monkeypatch.setattr(module, "_add_episode", dies)
    arguments = {"task": "push", "videos": False, "episodes_per_part": 3}
    with pytest.raises(KeyboardInterrupt):
        export_lerobot(store, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
    again = []
    monkeypatch.setattr(module, "_add_episode", lambda *words: (again.append(words[2]), add(*words)))
    export_lerobot(store, tmp_path / "out", **arguments)
    assert again == [3, 4, 5, 6]  # the first part of three was whole
    assert import_lerobot(tmp_path / "out", tmp_path / "s").num_episodes == 7
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.fixture
def broken(store, tmp_path):
    """A copy with images, to be damaged."""
    export_lerobot(store, tmp_path / "broken", task="push", videos=False)
    return tmp_path / "broken"


def rewrite(root, change):
    import pyarrow.parquet

    file = next(root.glob("data/**/*.parquet"))
    pyarrow.parquet.write_table(change(pyarrow.parquet.read_table(file)), file)


def with_value(name, row, value):
    def change(table):
        import pyarrow

        values = table[name].to_pylist()
        values[row] = value
        return table.set_column(table.schema.get_field_index(name), name, pyarrow.array(values, table[name].type))

    return change


def truncate(root, pattern):
    file = next(root.glob(pattern))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGE = {
    "NaN": (
        lambda root: rewrite(root, with_value("action", 6, [float("nan"), 0.0])),
        r"file-000.parquet: episode 1, feature action: expected finite",
    ),
    "times": (
        lambda root: rewrite(root, with_value("timestamp", 7, 0.5)),
        r"file-000.parquet: episode 1, feature timestamp: expected 10 frames per second",
    ),
    "frames": (lambda root: rewrite(root, lambda table: table.slice(0, 9)), r"episode 1 has 4 frames, expected 6"),
    "parquet": (lambda root: truncate(root, "data/**/*.parquet"), r"file-000.parquet: episode 0: truncated"),
    "info": (lambda root: truncate(root, "meta/info.json"), r"meta: not the metadata of a LeRobot dataset"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_nothing_half_written(broken, tmp_path, kind):
    damage, message = DAMAGE[kind]
    damage(broken)
    with pytest.raises(ValueError, match=message):
        import_lerobot(broken, tmp_path / "s")
    assert not list((tmp_path / "s").glob("shards/*"))


def test_a_truncated_video_is_named(store, tmp_path):
    export_lerobot(store, tmp_path / "v", task="push")
    truncate(tmp_path / "v", "videos/observation.images.wrist/**/*.mp4")
    with pytest.raises(ValueError, match=r"wrist.*mp4: episode \d, feature observation.images.wrist: truncated"):
        import_lerobot(tmp_path / "v", tmp_path / "s")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([0.0], r"episode 1, feature action: expected shape \(2,\) per frame \("),
        (None, r"episode 1, feature action: expected shape \(2,\) per frame \("),
    ],
)
def test_rows_of_another_length_are_named(broken, tmp_path, value, message):
    import pyarrow

    def ragged(table):
        values = table["action"].to_pylist()
        values[6] = value
        place = table.schema.get_field_index("action")
        return table.set_column(place, "action", pyarrow.array(values, pyarrow.list_(pyarrow.float32())))

    rewrite(broken, ragged)
    with pytest.raises(ValueError, match=message):
        import_lerobot(broken, tmp_path / "s")


def test_a_shape_that_is_not_what_the_metadata_says_is_refused(broken, tmp_path):
    info = json.loads((broken / "meta" / "info.json").read_text())
    info["features"]["observation.state"]["shape"] = [3]
    (broken / "meta" / "info.json").write_text(json.dumps(info))
    (broken / "meta" / "worldjepa.json").unlink()
    with pytest.raises(ValueError, match=r"feature observation.state: expected shape \(3,\) per frame"):
        import_lerobot(broken, tmp_path / "s")


def test_what_is_missing_or_in_the_way_is_named(store, broken, tmp_path):
    with pytest.raises(ValueError, match=r"expected the feature observation.images.left, it has action"):
        import_lerobot(broken, tmp_path / "s", cameras=["observation.images.left"])
    swapped = import_lerobot(broken, tmp_path / "w", cameras=["observation.images.wrist", "observation.images.main"])
    assert {"pixels", "pixels_main"} <= set(swapped.spec.fields)
    with pytest.raises(ValueError, match="exists already"):
        export_lerobot(store, broken)
    with pytest.raises(ValueError, match=r"episodes must be some of 0..6"):
        export_lerobot(store, tmp_path / "new", episodes=[9])
    with pytest.raises(ValueError, match="a LeRobot dataset's folder"):
        import_lerobot(tmp_path / "nothing", tmp_path / "s")
