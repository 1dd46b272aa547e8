"""TwoRoom: walls hold, the door opens, the player goes through it."""

import numpy as np
import pytest

from envs.two_room import STEP, TwoRoom, TwoRoomPlayer, random_state


def push(env: TwoRoom, start, action, steps: int = 30) -> np.ndarray:
    env.reset(options={"state": np.array(start)})
    for _ in range(steps):
        env.step(np.array(action, dtype=float))
    return env.get_state()


def test_the_wall_stops_the_agent_and_the_door_does_not():
    env = TwoRoom(door_y=0.3)
    assert push(env, [0.2, 0.8], [1, 0])[0] < 0.5
    assert push(env, [0.8, 0.8], [-1, 0])[0] > 0.5
    assert push(env, [0.2, 0.3], [1, 0])[0] > 0.9
    np.testing.assert_allclose(push(env, [0.2, 0.3], [0.5, -0.25], 1), [0.2 + STEP / 2, 0.3 - STEP / 4])
    np.testing.assert_allclose(push(env, [0.2, 0.3], [9, 0], 1), [0.2 + STEP, 0.3])  # clipped
    assert push(env, [0.41, 0.8], [1, -0.5], 2)[1] == pytest.approx(0.75)  # slides along the wall
    for action in ([1, 0], [-1, 0], [0, 1], [0, -1]):
        end = push(env, [0.2, 0.8], action)
        assert (end >= 0).all() and (end <= 1).all()


def test_state_is_exact_and_snapshots_restore():
    env = TwoRoom()
    state = np.array([0.123456789, 0.3])
    np.testing.assert_array_equal(env.reset(options={"state": state})[1]["state"], state)
    snapshot = env.snapshot()
    env.step(np.array([1.0, 1.0]))
    env.restore(snapshot)
    np.testing.assert_array_equal(env.get_state(), state)


def test_reached_and_moved():
    env = TwoRoom()
    goal = np.array([[0.2, 0.2], [0.2, 0.2], [0.8, 0.2]])
    state = np.array([[0.27, 0.2], [0.2, 0.29], [0.2, 0.2]])
    assert env.reached(state, goal).tolist() == [True, False, False]
    assert env.moved(state, goal).tolist() == [False, False, True]


def test_pictures_show_the_agent_and_the_door():
    env = TwoRoom(image_size=50, door_y=0.3)
    picture = env.observe_state(np.array([0.2, 0.7]))["pixels"]
    assert picture[35, 10].tolist() == [200, 40, 40]
    assert picture[35, 25].max() < 100 and picture[15, 25].min() == 255


def test_player_goes_through_the_door_within_bounds():
    env, rng = TwoRoom(door_y=0.7), np.random.default_rng(0)
    player, crossings = TwoRoomPlayer(door_y=0.7), 0
    for _ in range(10):
        state, _ = player.reset(rng)
        _, info = env.reset(options={"state": state})
        states = [info["state"]]
        for _ in range(75):
            action = player.act(states[-1])
            assert action.dtype == np.float32 and np.abs(action).max() <= 1
            states.append(env.step(action)[4]["state"])
        crossings += (np.diff(np.array(states)[:, 0] < 0.5) != 0).sum()
    assert crossings >= 10


def test_a_state_in_the_wall_is_refused_but_float32_rounding_is_not():
    env, rng = TwoRoom(), np.random.default_rng(0)
    with pytest.raises(ValueError, match="cannot stand in a wall"):
        env.reset(options={"state": [0.5, 0.2]})
    with pytest.raises(ValueError, match="door_y"):
        TwoRoom(door_y=0.95)
    for _ in range(50):
        env.reset(options={"state": random_state(rng).astype(np.float32)})
    for start, action in (([0.2, 0.8], [1, 0.3]), ([0.8, 0.8], [-1, 1])):
        env.reset(options={"state": push(env, start, action).astype(np.float32)})
