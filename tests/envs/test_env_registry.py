"""The environments are ours, found under their ids, and keep gymnasium's and the library's contracts."""

import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
import policies
from envs.pusht import PushT
from envs.two_room import TwoRoom
from worldjepa.types import EnvSpec, GoalEnv

REPOSITORY = Path(__file__).resolve().parents[2]
IDS = ("worldjepa/PushT-v0", "worldjepa/TwoRoom-v0")


@pytest.mark.parametrize("package", [envs, policies])
def test_packages_lie_in_this_repository(package):
    """An installed distribution with a top-level ``envs`` would silently win over an editable install."""
    assert REPOSITORY in Path(package.__file__).resolve().parents


def test_importing_envs_loads_no_simulator():
    code = "import sys, envs; print([m for m in ('pygame', 'pymunk', 'cv2', 'gym_pusht', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.filterwarnings("error:.*:UserWarning:gymnasium")
def test_gymnasium_checker_passes(env_id):
    check_env(gym.make(env_id).unwrapped)


@pytest.mark.parametrize("env_id", IDS)
def test_goal_env_contract(env_id):
    env = gym.make(env_id).unwrapped
    assert isinstance(env, GoalEnv)
    _, info = env.reset(seed=3)
    assert info["state"].dtype == np.float64 and info["state"].shape == (len(env.state_names),)
    spec = EnvSpec.from_env(gym.make(env_id))
    assert spec.env_id == env_id and spec.frame_rate == 10 and spec.action_low == (-1.0, -1.0)
    states = np.stack([env.reset(seed=s)[1]["state"] for s in range(6)]).reshape(2, 3, -1)
    assert env.reached(states, states).all() and not env.moved(states, states).any()
    for value in env.probe_targets(states).values():
        assert value.shape[:2] == (2, 3)


@pytest.mark.parametrize("env_id", IDS)
def test_same_seed_and_actions_reproduce_to_the_bit(env_id):
    def play():
        env = gym.make(env_id, image_size=40)
        env.action_space.seed(5)
        observation, info = env.reset(seed=11)
        out = [observation["pixels"], observation["proprioception"], info["state"]]
        for _ in range(40):
            observation, _, _, _, info = env.step(env.action_space.sample())
            out += [observation["pixels"], observation["proprioception"], info["state"]]
        return out

    for a, b in zip(play(), play(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("env_id", IDS)
def test_observe_state_leaves_the_simulation_alone(env_id):
    env = gym.make(env_id).unwrapped
    observation, info = env.reset(seed=1)
    other = env.reset(seed=2)[1]["state"]
    env.reset(seed=1)
    env.observe_state(other)
    env.render_state(other)
    np.testing.assert_array_equal(env.get_state(), info["state"])
    again = env.observe_state(info["state"])
    assert set(again) == set(env.observation_space.spaces)
    for name, value in observation.items():
        np.testing.assert_array_equal(value, again[name])


@pytest.mark.parametrize("env_id", IDS)
def test_success_is_reported_with_a_goal_only(env_id):
    env = gym.make(env_id).unwrapped
    _, info = env.reset(seed=0)
    assert "is_success" not in info
    start, goal = info["state"], env.reset(seed=1)[1]["state"]
    assert env.reset(options={"state": start, "goal_state": goal})[1]["is_success"] is False
    assert env.reset(options={"state": goal, "goal_state": goal})[1]["is_success"] is True
    assert env.step(np.zeros(2, np.float32))[4]["is_success"] is True


@pytest.mark.parametrize("env_class", [PushT, TwoRoom])
@pytest.mark.parametrize(
    "arguments", [{"image_size": 8}, {"image_size": 64.0}, {"render_mode": "human"}, {"render_size": 0}], ids=str
)
def test_bad_arguments_are_refused(env_class, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        env_class(**arguments)


@pytest.mark.parametrize("env_id", IDS)
def test_bad_actions_states_and_options_are_refused(env_id):
    env = gym.make(env_id).unwrapped
    _, info = env.reset(seed=0)
    for action in ([np.nan, 0.0], [0.0], [[0.0, 0.0]], [np.inf, 0.0]):
        with pytest.raises(ValueError, match="action"):
            env.step(np.array(action))
    broken = info["state"].copy()
    broken[0] = np.nan
    for state in (broken, info["state"][:1], np.zeros((3, 5))):
        with pytest.raises(ValueError, match="state"):
            env.reset(options={"state": state})
        with pytest.raises(ValueError, match="state"):
            env.reset(options={"goal_state": state})
        with pytest.raises(ValueError, match="state"):
            env.observe_state(state)
    with pytest.raises(ValueError, match="reset_to_state"):
        env.reset(options={"reset_to_state": info["state"]})
