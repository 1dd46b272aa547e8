"""A generated stand-in of the human demonstrations, in the two formats in which they come."""

import gymnasium
import numpy as np
import pyarrow
import pyarrow.parquet
import pymunk
import pytest
import zarr

from envs.pusht_physics import PushTEnv
from worldjepa.datasets import (
    Demonstrations,
    EpisodeStore,
    find_demonstrations,
    is_held_out,
    load_pusht_demonstrations,
)
from worldjepa.datasets import demonstrations as module
from worldjepa.datasets.demonstrations import fit_poses, import_demonstrations
from worldjepa.types import EnvSpec

LENGTHS = (13, 7, 11)


@pytest.fixture
def recorded():
    """Random states and targets in float32, as the real recording holds them."""
    rng = np.random.default_rng(0)
    rows = sum(LENGTHS)
    states = np.concatenate(
        [rng.uniform(50, 450, (rows, 4)), rng.uniform(0, 2 * np.pi, (rows, 1))], axis=1, dtype=np.float32
    )
    actions = np.clip(states[:, :2] + rng.normal(size=(rows, 2)) * 80, 20, 490).astype(np.float32)
    return Demonstrations(states.astype(np.float64), actions.astype(np.float64), np.cumsum(LENGTHS))


@pytest.fixture
def zarr_path(tmp_path, recorded):
    path = tmp_path / module.ZARR_NAME
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    group.create_array("data/state", data=recorded.states.astype(np.float32))
    group.create_array("data/action", data=recorded.actions.astype(np.float32))
    group.create_array("meta/episode_ends", data=recorded.episode_ends)
    return path


def vertices(pose) -> np.ndarray:
    """gym-pusht's own keypoints (8, 2) of a block at ``pose``."""
    _, shapes = PushTEnv.add_tee(pymunk.Space(), (float(pose[0]), float(pose[1])), float(pose[2]))
    return PushTEnv.get_keypoints(shapes)


@pytest.fixture
def write_lerobot(tmp_path, recorded):
    """Writes a LeRobot dataset folder in two files, the later episodes in the first one; rows may be changed."""

    def write(change=lambda columns: None):
        ends = recorded.episode_ends
        keypoints = np.stack([vertices(pose) for pose in recorded.states[:, 2:]]).reshape(-1, 16)
        columns = {
            "observation.environment_state": keypoints.astype(np.float32),
            "observation.state": recorded.states[:, :2].astype(np.float32),
            "action": recorded.actions.astype(np.float32),
            "episode_index": np.repeat(np.arange(3), LENGTHS),
            "frame_index": np.concatenate([np.arange(n) for n in LENGTHS]),
        }
        change(columns)
        folder = tmp_path / "pusht_keypoints"
        (folder / "data/chunk-000").mkdir(parents=True)
        for name, rows in (("file-000", slice(ends[0], None)), ("file-001", slice(0, ends[0]))):
            table = pyarrow.table({key: list(value[rows]) for key, value in columns.items()})
            pyarrow.parquet.write_table(table, folder / f"data/chunk-000/{name}.parquet")
        return folder

    return write


@pytest.fixture
def env():
    env = gymnasium.make("envs:worldjepa/PushT-v0", image_size=32)
    yield env
    env.close()


def test_zarr_holds_what_was_recorded(zarr_path, recorded):
    loaded = load_pusht_demonstrations(zarr_path)
    np.testing.assert_array_equal(loaded.states, recorded.states)
    np.testing.assert_array_equal(loaded.actions, recorded.actions)
    np.testing.assert_array_equal(loaded.episode_ends, recorded.episode_ends)
    assert loaded.hash == recorded.hash
    states, actions = loaded.episode(1)
    np.testing.assert_array_equal(states, recorded.states[13:20])
    np.testing.assert_array_equal(actions, recorded.actions[13:20])


def test_lerobot_keypoints_give_the_same_states(write_lerobot, recorded):
    loaded = load_pusht_demonstrations(write_lerobot())
    np.testing.assert_allclose(loaded.states[:, :4], recorded.states[:, :4], atol=1e-3)
    turn = np.exp(1j * loaded.states[:, 4]) / np.exp(1j * recorded.states[:, 4])
    np.testing.assert_allclose(np.angle(turn), 0, atol=1e-5)
    assert (loaded.states[:, 4] >= 0).all() and (loaded.states[:, 4] < 2 * np.pi).all()
    np.testing.assert_array_equal(loaded.actions, recorded.actions)
    np.testing.assert_array_equal(loaded.episode_ends, recorded.episode_ends)


def test_pose_fit_is_exact_and_refuses_other_points():
    poses = np.array([[100.0, 200.0, 1.3], [256, 256, 0.1], [400, 150, 5.9]])
    points = np.stack([vertices(pose) for pose in poses])
    np.testing.assert_allclose(fit_poses(points), poses, atol=1e-9)
    with pytest.raises(ValueError, match=r"not the tee's 8 vertices in gym_pusht's order.*misses them by up to"):
        fit_poses(points[:, ::-1])
    with pytest.raises(ValueError, match="not the tee's 8 vertices"):
        fit_poses(points * [1, -1])  # a mirrored tee is none
    with pytest.raises(ValueError, match="must be finite"):
        fit_poses(points * np.nan)


def test_lerobot_without_the_block_is_refused_with_a_hint(write_lerobot):
    folder = write_lerobot(lambda columns: columns.pop("observation.environment_state"))
    with pytest.raises(
        ValueError, match=r"environment_state missing; .* lerobot/pusht_keypoints, not in lerobot/pusht"
    ):
        load_pusht_demonstrations(folder)


def test_broken_sets_are_refused_by_name(tmp_path, zarr_path, recorded):
    del zarr.open_group(str(zarr_path), mode="a")["meta/episode_ends"]
    with pytest.raises(ValueError, match=r"replay\.zarr: expected the arrays .*; meta/episode_ends missing"):
        load_pusht_demonstrations(zarr_path)
    with pytest.raises(ValueError, match="expected a zarr group, a LeRobot dataset folder"):
        load_pusht_demonstrations(tmp_path)
    with pytest.raises(ValueError, match=r"states \(N,5\) and actions \(N,2\)"):
        Demonstrations(recorded.states[:, :4], recorded.actions, recorded.episode_ends)
    with pytest.raises(ValueError, match="episode_ends must rise to 31"):
        Demonstrations(recorded.states, recorded.actions, recorded.episode_ends[:-1])


def test_import_keeps_states_and_makes_actions_relative(tmp_path, recorded, env):
    store = EpisodeStore.create(tmp_path / "store", EnvSpec.from_env(env))
    assert import_demonstrations(store, recorded, env, episodes_per_shard=2) == 3
    assert store.groups == ["human/0", "human/1", "human/2"]
    assert set(store.policies) == {"human"}
    for index, length in enumerate(LENGTHS):
        arrays = store.episode(index).arrays
        states, targets = recorded.episode(index)
        assert len(arrays["state"]) == length
        np.testing.assert_array_equal(arrays["state"][:, :5], states.astype(np.float32))
        np.testing.assert_array_equal(arrays["state"][:, 5:], 0)
        expected = np.clip((targets - states[:, :2]) / 100, -1, 1)
        np.testing.assert_allclose(arrays["action"][:-1], expected[:-1], atol=1e-6)
        np.testing.assert_array_equal(arrays["action"][-1], 0)
        np.testing.assert_array_equal(arrays["pixels"][3], env.unwrapped.observe_state(states[3])["pixels"])
    assert import_demonstrations(store, recorded, env, episodes_per_shard=2) == 0
    other = Demonstrations(recorded.states, recorded.actions + 1, recorded.episode_ends)
    with pytest.raises(ValueError, match="has other demonstrations"):
        import_demonstrations(store, other, env, episodes_per_shard=2)


def test_import_into_the_task_keeps_targets_and_has_rewards(tmp_path, recorded):
    """Absolute actions, and the reward of the state that each leads to."""
    env = gymnasium.make("envs:worldjepa/PushT-v0", image_size=32, action_mode="absolute", reward="coverage")
    store = EpisodeStore.create(tmp_path / "store", EnvSpec.from_env(env))
    import_demonstrations(store, recorded, env)
    arrays, (states, targets) = store.episode(1).arrays, recorded.episode(1)
    np.testing.assert_allclose(arrays["action"][:-1], np.clip(targets[:-1], 0, 512), atol=1e-4)
    for t in (0, len(states) - 2):
        env.reset(options={"state": states[t + 1]})
        np.testing.assert_allclose(arrays["reward"][t], min(env.unwrapped.coverage() / 0.95, 1), atol=1e-6)
    assert arrays["reward"][-1] == 0


def test_a_given_place_is_taken_or_refused(zarr_path, write_lerobot, tmp_path):
    assert find_demonstrations(zarr_path)[0] == zarr_path
    assert find_demonstrations(tmp_path)[0] == zarr_path  # a folder that has it
    folder = write_lerobot()
    assert find_demonstrations(folder)[0] == folder
    assert find_demonstrations("someone/pusht_keypoints")[0] == "someone/pusht_keypoints"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no demonstrations at .*empty: expected pusht_cchi_v7_replay\.zarr"):
        find_demonstrations(tmp_path / "empty")


def test_auto_asks_the_environment_variable_then_the_hub_and_says_so(zarr_path, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLDJEPA_DATA", str(tmp_path))
    place, sentence = find_demonstrations("auto")
    assert place == zarr_path and "WORLDJEPA_DATA" in sentence
    monkeypatch.delenv("WORLDJEPA_DATA")
    monkeypatch.setattr(module, "_hub_problem", lambda: "cannot be reached (Test)")
    assert find_demonstrations() == (
        None,
        "scripted players only: WORLDJEPA_DATA is not set, and the hub cannot be reached (Test)",
    )
    monkeypatch.setattr(module, "_hub_problem", lambda: None)
    assert find_demonstrations()[0] == "lerobot/pusht_keypoints"


def test_offline_switch_of_the_hub_is_obeyed(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args, **kwargs: None)
    assert module._hub_problem() == "is switched off (HF_HUB_OFFLINE)"


def test_real_demonstrations_when_at_hand():
    try:
        place, _ = find_demonstrations("../shared/data")
    except ValueError as error:
        pytest.skip(str(error))
    real = load_pusht_demonstrations(place)
    assert (len(real), len(real.states)) == (206, 25650)
    assert sum(is_held_out(f"human/{i}") for i in range(206)) == 24
