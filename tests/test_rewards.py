"""Rewards go from the environment through stores and clips into a head that plans can be judged by."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from test_training import FRAMESKIP, SPEC, build, dot_store, predicted_by_right_and_wrong_actions, settings

from worldjepa.config import RefinementSettings
from worldjepa.datasets.store import EpisodeStore
from worldjepa.datasets.windows import Windows
from worldjepa.objectives import OneStepError, RewardError, RolloutError
from worldjepa.refinement import refine
from worldjepa.rollout import record_episode
from worldjepa.systems.world_model import build_system
from worldjepa.training import train
from worldjepa.types import EnvSpec, Episode, FieldSpec

REWARDED = replace(SPEC, fields={**SPEC.fields, "reward": FieldSpec("float32", ())})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The dots of the training tests; a step's reward is how far right it ended, about -1..1."""
    folder = tmp_path_factory.mktemp("rewarded")
    plain, store = dot_store(folder / "plain"), EpisodeStore.create(folder / "store", REWARDED)
    episodes = []
    for index in range(plain.num_episodes):
        arrays = {name: np.asarray(values[:]) for name, values in plain.episode(index).arrays.items()}
        reward = np.append((arrays["state"][1:, 0] - 8) / 5, 0).astype(np.float32)
        episodes.append(Episode({**arrays, "reward": reward}, plain.groups[index], "random"))
    store.write_shard("random", 0, episodes)
    store.refresh()
    return store


def rewarded_system(store, seed=0):
    system, windows = build(store, seed)
    model = system.model
    terms = {"one_step": OneStepError(), "rollout": RolloutError(), "reward": RewardError()}
    terms["sigreg"] = system.objective.terms["sigreg"]
    return build_system(model, terms, {"one_step": 1.0, "rollout": 1.0, "sigreg": 0.05, "reward": 1.0}), windows


class Counting(gym.Env):
    """Rewards 1, 2, 3, ..; says nothing else."""

    state_names, metadata = ("n",), {"render_fps": 1}
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    observation_space = gym.spaces.Dict(n=gym.spaces.Box(0, 99, (1,), np.float32))

    def __init__(self, rewarded):
        self.rewarded = rewarded

    def reset(self, *, seed=None, options=None):
        self.n = 0
        return self._seen(), {"state": np.array([0.0])}

    def step(self, action):
        self.n += 1
        return self._seen(), float(self.n), False, False, {"state": np.array([float(self.n)])}

    def _seen(self):
        return {"n": np.array([self.n], np.float32)}


class Still:
    label = "still"

    def reset(self, rng):
        return np.zeros(1), "still/0"

    def act(self, state):
        return np.zeros(1)

    def keep(self, states):
        return True


def test_an_environment_that_says_so_has_its_rewards_recorded():
    rng = np.random.default_rng(0)
    assert record_episode(Counting(True), Still(), rng, 5).arrays["reward"].tolist() == [1, 2, 3, 4, 0]
    assert "reward" not in record_episode(Counting(False), Still(), rng, 5).arrays
    assert EnvSpec.from_env(Counting(True)).fields["reward"] == FieldSpec("float32", ())
    assert "reward" not in EnvSpec.from_env(Counting(False)).fields


def test_a_clips_reward_is_the_mean_over_each_model_step(store):
    windows = Windows(store, 4, FRAMESKIP, ("pixels",))
    episode, start = (int(x[0]) for x in windows.locate(np.array([9])))
    raw = np.asarray(store.episode(episode).arrays["reward"])[start : start + 3 * FRAMESKIP]
    clip = windows.gather(np.array([9]))
    np.testing.assert_allclose(clip.reward[0], raw.reshape(3, FRAMESKIP).mean(1), rtol=1e-6)
    assert clip.to("cpu").reward.shape == (1, 3)


def test_without_rewards_there_is_no_head_and_no_term(tmp_path):
    store = dot_store(tmp_path / "store")
    system, windows = rewarded_system(store)
    assert system.model.reward is None and "reward" not in system.objective.terms
    assert windows.sample(2, 0, 0).reward is None


def test_the_head_reads_latents_and_leaves_them_alone(store):
    system, windows = rewarded_system(store)
    losses = system(windows.sample(8, 0, 0))
    losses["reward"].backward()
    assert all(parameter.grad is not None for parameter in system.model.reward.parameters())
    others = [*system.model.encoder.parameters(), *system.model.predictor.parameters()]
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in others)


def test_rewards_are_guessed_from_imagined_latents_better_than_their_mean(store, tmp_path):
    system, windows = rewarded_system(store)
    train(system, windows, settings(steps=250, batch_size=32, learning_rate=5e-3), tmp_path)
    refine(system, windows, settings(), RefinementSettings(steps=100, batch_size=64), tmp_path, lambda model: {})
    right, wrong = predicted_by_right_and_wrong_actions(system, store)
    spread = right.reward.var()
    errors = [float((p.rollout_reward - p.reward).square().mean() / spread) for p in (right, wrong)]
    assert errors[0] < 0.5 and errors[0] < 0.8 * errors[1]
