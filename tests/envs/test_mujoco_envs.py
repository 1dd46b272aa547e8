"""MuJoCo environments keep gymnasium's contracts and ours: exact states, pictures of any state, goals."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs.control import TASKS, Control
from envs.mujoco import SOURCES, Mujoco
from worldjepa.types import EnvSpec, GoalEnv

REPOSITORY = Path(__file__).resolve().parents[2]
OWN = [*envs.CONTROL_TASKS, *(name for name in envs.MUJOCO_SOURCES if SOURCES[name].package is None)]
EXTRAS = [name for name in envs.MUJOCO_SOURCES if SOURCES[name].package is not None]


def make(name, **arguments):
    return gym.make(f"worldjepa/{name}-v0", **arguments).unwrapped


def actions(env, count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, *env.action_space.shape))


def played(env, moves):
    for action in moves:
        observation, reward, *_, info = env.step(action)
    return observation, reward, info["state"]


def test_what_is_registered_is_what_there_is():
    assert set(envs.CONTROL_TASKS) == set(TASKS) and set(envs.MUJOCO_SOURCES) == set(SOURCES)


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("name", OWN)
@pytest.mark.filterwarnings("ignore:.*infinity.*")
def test_checkers_of_gymnasium_and_sb3_pass(name):
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    env = make(name, image_size=32)
    check_env(env)
    sb3.check_env(env)
    assert isinstance(env, GoalEnv) and EnvSpec.from_env(env).fields["reward"].shape == ()


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("name", OWN)
def test_a_state_says_everything_that_follows_and_that_is_seen(name):
    env = make(name, image_size=32)
    _, info = env.reset(seed=1)
    moves = actions(env, 30)
    observation, reward, state = played(env, moves)
    env.reset(seed=2, options={"state": info["state"]})
    again, same_reward, same_state = played(env, moves)
    np.testing.assert_allclose(same_state, state, atol=1e-9)
    np.testing.assert_allclose(same_reward, reward, atol=1e-9)
    env.reset(seed=3)
    shown = env.observe_state(same_state)
    for key, value in again.items():
        np.testing.assert_array_equal(shown[key], value)
    assert np.abs(shown["pixels"].astype(int) - observation["pixels"]).mean() < 0.01


@pytest.mark.parametrize("name", OWN)
def test_a_snapshot_goes_on_to_the_bit(name):
    env = make(name, pixels=False)
    env.reset(seed=0)
    played(env, actions(env, 20))
    snapshot = env.snapshot()
    _, reward, state = played(env, actions(env, 20, seed=1))
    env.reset(seed=5)
    env.restore(snapshot)
    _, same_reward, same_state = played(env, actions(env, 20, seed=1))
    np.testing.assert_array_equal(same_state, state)
    assert same_reward == reward


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("name", ["reacher-easy", "gym-reacher"])
def test_looking_at_another_state_leaves_the_simulation_alone(name):
    env = make(name, image_size=32)
    other = env.reset(seed=2)[1]["state"]
    observation, info = env.reset(seed=1)
    before = env.snapshot()
    env.observe_state(other), env.render_state(other)
    np.testing.assert_array_equal(env.snapshot(), before)
    np.testing.assert_array_equal(env.observe_state(info["state"])["pixels"], observation["pixels"])


def test_seeds_reproduce_and_differ():
    for name in ("reacher-easy", "gym-pusher"):
        env = make(name, pixels=False)
        first, second, other = (env.reset(seed=seed)[1]["state"] for seed in (4, 4, 5))
        np.testing.assert_array_equal(first, second)
        assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize(
    ("env", "bodies"),
    [
        (lambda: Control("reacher-easy", pixels=False), {"elbow": ("body", "hand"), "fingertip": ("geom", "finger")}),
        (lambda: Mujoco("gym-reacher", pixels=False), {"elbow": ("body", "body1"), "fingertip": ("body", "fingertip")}),
    ],
)
def test_places_are_where_the_simulator_has_them(env, bodies):
    env = env()
    for seed in range(5):
        state = env.reset(seed=seed)[1]["state"]
        mujoco.mj_forward(env.model, env.data)
        for place, (kind, name) in bodies.items():
            found = getattr(env.data, kind)(name).xpos[:2]
            np.testing.assert_allclose(env.probe_targets(state)[place], found, atol=1e-9)


def test_goals_are_reached_within_the_tolerance_and_not_beyond():
    env = make("point_mass-easy", pixels=False)
    goal = np.array([0.1, 0.1, 0.0, 0.0])
    away = goal + np.array([[0.014, 0, 3.0, 0], [0.016, 0, 0, 0], [0.05, 0, 0, 0]])
    assert env.reached(away, goal).tolist() == [True, False, False]
    assert env.moved(away, goal).tolist() == [False, False, True]
    _, info = env.reset(options={"state": goal, "goal_state": goal})
    assert info["is_success"] is True
    assert "is_success" not in env.reset(seed=0)[1]


def test_the_reachers_target_belongs_to_its_state():
    env = make("reacher-easy", pixels=False)
    state = env.reset(seed=0)[1]["state"]
    moved = state.copy()
    moved[-2:] = env.probe_targets(state)["fingertip"]
    env.reset(seed=1, options={"state": moved})
    assert env.step(np.zeros(2))[1] == 1.0
    env.reset(seed=1, options={"state": state})
    assert env.step(np.zeros(2))[1] == 0.0


def test_repeated_actions_add_their_rewards():
    once, thrice = Control("cartpole-swingup", pixels=False), Control("cartpole-swingup", 3, pixels=False)
    state = once.reset(seed=0)[1]["state"]
    thrice.reset(options={"state": state})
    rewards = [once.step(np.array([0.5]))[1] for _ in range(3)]
    assert thrice.step(np.array([0.5]))[1] == pytest.approx(sum(rewards))
    np.testing.assert_array_equal(once.get_state(), thrice.get_state())
    assert thrice.metadata["render_fps"] == 33


def test_states_alone_need_no_opengl():
    code = (
        "import gymnasium, envs; e = gymnasium.make('worldjepa/cheetah-run-v0', pixels=False); e.reset(seed=0);"
        "print(sorted(e.step(e.action_space.sample())[0]))"
    )
    off = {name: value for name, value in os.environ.items() if name != "PYOPENGL_PLATFORM"} | {"MUJOCO_GL": "disable"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True, env=off)
    assert done.stdout.strip() == "['proprioception']"
    pictures = subprocess.run([*command[:2], code.replace("False", "True")], capture_output=True, text=True, env=off)
    assert pictures.returncode and "MUJOCO_GL=disable switches drawing off; unset it" in pictures.stderr


def test_bad_arguments_are_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"reacher-hard.*did you mean 'reacher-easy'"):
        Control("reacher-hard")
    with pytest.raises(ValueError, match=r"gym-recher.*did you mean 'gym-reacher'"):
        Mujoco("gym-recher")
    with pytest.raises(ValueError, match="action_repeat"):
        Control("reacher-easy", action_repeat=0)
    with pytest.raises(ValueError, match=r"no camera is called 'top'.*fixed"):
        Control("reacher-easy", pixels=False, camera="top")
    env = make("reacher-easy", pixels=False)
    env.reset(seed=0)
    for action in ([np.nan, 0], [0], [[0, 0]]):
        with pytest.raises(ValueError, match="action"):
            env.step(np.array(action))
    with pytest.raises(ValueError, match=r"6 finite numbers \(shoulder"):
        env.reset(options={"state": np.zeros(4)})
    with pytest.raises(ValueError, match="snapshot"):
        env.restore(np.zeros(3))
    with pytest.raises(ValueError, match="reset options"):
        env.reset(options={"target": 1})


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ogbench", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'worldjepa\[ogbench\]'"):
        Mujoco("ogbench-cube")


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("name", EXTRAS)
def test_environments_of_other_packages(name):
    module, extra = SOURCES[name].package
    pytest.importorskip(module, reason=f"{name} needs the extra {extra}")
    env = make(name, image_size=32)
    _, info = env.reset(seed=1)
    played(env, actions(env, 5))
    state = env.get_state()
    env.reset(seed=2, options={"state": info["state"], "goal_state": state})
    observation, _, again = played(env, actions(env, 5))
    np.testing.assert_allclose(again, state, atol=1e-6)
    assert observation["pixels"].shape == (32, 32, 3) and observation["pixels"].std() > 5
    assert bool(env.reached(again, state))
