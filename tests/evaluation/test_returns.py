"""Returns: the sum of what the environment gave, whatever the batch or the workers."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest

from worldjepa.evaluation.returns import gather_returns

STEPS = 12


class Walk(gym.Env):
    """A number that actions move; the reward is where it is, and an episode ends beyond 3."""

    state_names = ("x",)
    metadata = {"render_fps": 10}
    observation_space = gym.spaces.Dict(place=gym.spaces.Box(-10, 10, (1,), np.float32))
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, says_success=True):
        self.says_success = says_success

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = float(self.np_random.uniform(-1, 1))
        return self._seen(), {}

    def step(self, action):
        self.x += float(action[0])
        info = {"is_success": self.x > 2} if self.says_success else {}
        return self._seen(), self.x, self.x > 3, False, info

    def get_state(self):
        return np.array([self.x])

    def _seen(self):
        return {"place": np.array([self.x], np.float32)}


class Drift:
    """Moves by a constant and by noise of its own stream."""

    num_plans, plan_seconds = 0, 0.0
    observes = ("place", "state")

    def __init__(self, drift, tasks):
        self.drift = drift

    def reset(self, goal_observation, seeds):
        assert goal_observation == {}
        self.rngs = [np.random.default_rng(seed) for seed in seeds]

    def act(self, observation):
        np.testing.assert_allclose(observation["place"], observation["state"], atol=1e-6)
        return np.array([[self.drift + 0.1 * rng.standard_normal()] for rng in self.rngs], np.float32)


def gather(**settings):
    policies = {"up": partial(Drift, 0.4), "down": partial(Drift, -0.4)}
    return gather_returns(policies, Walk, num_episodes=7, num_steps=STEPS, seed=3, **settings)


def test_a_result_depends_neither_on_batches_nor_on_workers():
    alone, together, spread = gather(batch_size=1), gather(batch_size=7), gather(batch_size=2, num_workers=2)
    for name in ("up", "down"):
        for other in (together, spread):
            np.testing.assert_array_equal(alone[name].total, other[name].total)
            np.testing.assert_array_equal(alone[name].trajectories, other[name].trajectories)


def test_rewards_are_added_up_until_the_episode_ends():
    results = gather()
    assert results["up"].success.all() and not results["down"].success.any()
    for name in ("up", "down"):
        for total, states in zip(results[name].total, results[name].trajectories[:, :, 0], strict=True):
            over = np.flatnonzero(states > 3)
            end = over[0] if len(over) else STEPS
            assert total == pytest.approx(states[1 : end + 1].sum())
            assert (states[end:] == states[end]).all()
        best = [states[1:].max() for states in results[name].trajectories[:, :, 0]]
        np.testing.assert_allclose(results[name].best, best)  # after the end the last state stays
    summary = results["up"].summary()
    low, high = summary["return"]["ci95"]
    assert summary["best_reward"]["mean"] == pytest.approx(np.mean(summary["episodes"]["best_reward"]))
    assert low < summary["return"]["mean"] < high and summary["success"]["rate"] == 1.0


def test_every_policy_starts_from_the_same_places():
    results = gather()
    np.testing.assert_array_equal(results["up"].trajectories[:, 0], results["down"].trajectories[:, 0])
    assert len(np.unique(results["up"].trajectories[:, 0])) == 7


def test_an_environment_that_never_speaks_of_success_has_none():
    results = gather_returns(
        {"up": partial(Drift, 0.4)}, partial(Walk, says_success=False), num_episodes=2, num_steps=3
    )
    assert results["up"].success is None and results["up"].summary()["success"] is None


class Told(Walk):
    """Says how far it has come; nobody asks it once all is over."""

    outcomes = ("way",)

    def step(self, action):
        assert self.x <= 3
        seen, reward, over, cut, info = super().step(action)
        return seen, reward, over, cut, {**info, "way": self.x, "other": 5.0}


def test_outcomes_are_those_of_an_episodes_last_step():
    results = gather_returns(
        {"up": partial(Drift, 0.4), "down": partial(Drift, -0.4)}, Told, num_episodes=5, num_steps=40, batch_size=2
    )
    for result in results.values():
        assert list(result.outcomes) == ["way"]
        np.testing.assert_array_equal(result.outcomes["way"], result.trajectories[:, -1, 0])
        assert result.trajectories.shape == (5, 41, 1)
    summary = results["up"].summary()
    assert summary["outcomes"]["way"]["mean"] > 3
    assert summary["episodes"]["way"] == results["up"].outcomes["way"].tolist()


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="num_episodes"):
        gather_returns({}, Walk, num_episodes=0, num_steps=3)
