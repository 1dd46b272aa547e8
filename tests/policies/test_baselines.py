import numpy as np
import pytest
from point_mass import PointMass, Seeker

from policies.baselines import PlayerPolicy, RandomPolicy, ReplayPolicy, StillPolicy, baselines
from worldjepa.types import EnvSpec

NOTHING: dict[str, np.ndarray] = {}


def random_actions(seeds, num_steps=50, **settings):
    settings = {"low": (-1, -1), "high": (1, 1), "mean": (0.1, -0.2), "std": (0.2, 0.3)} | settings
    policy = RandomPolicy(**settings)
    policy.reset(NOTHING, seeds)
    return np.stack([policy.act(NOTHING) for _ in range(num_steps)], 1)


def test_random_policy_has_the_statistics_of_the_data():
    actions = random_actions(range(2000)).astype(np.float64)
    assert actions.shape == (2000, 50, 2)
    np.testing.assert_allclose(actions.mean((0, 1)), (0.1, -0.2), atol=0.01)
    np.testing.assert_allclose(actions.std((0, 1)), (0.2, 0.3), atol=0.01)
    inside = np.corrcoef(actions[:, 5, 0], actions[:, 9, 0])[0, 1]
    across = np.corrcoef(actions[:, 4, 0], actions[:, 5, 0])[0, 1]
    assert abs(inside - 0.8) < 0.05 and abs(across) < 0.08


def test_random_policy_keeps_to_bounds_and_seeds():
    actions = random_actions(range(3), std=(5.0, 5.0))
    assert actions.min() == -1 and actions.max() == 1
    assert np.array_equal(actions[1:2], random_actions([1], std=(5.0, 5.0)))
    assert not np.array_equal(actions[0], actions[1])
    with pytest.raises(ValueError, match="one length"):
        random_actions([0], std=(1.0,))


def test_still_and_replay():
    still = StillPolicy(2)
    still.reset(NOTHING, [0, 1, 2])
    assert not still.act(NOTHING).any() and still.act(NOTHING).shape == (3, 2)
    recorded = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    replay = ReplayPolicy(recorded)
    for _ in range(2):  # a reset starts over
        replay.reset(NOTHING, [0, 1, 2])
        played = np.stack([replay.act(NOTHING) for _ in range(6)], 1)
        assert np.array_equal(played[:, :4], recorded) and not played[:, 4:].any()
    with pytest.raises(ValueError, match="3 pairs"):
        replay.reset(NOTHING, [0])


def test_players_get_states_and_only_their_own():
    policy = PlayerPolicy(Seeker)
    policy.reset({"state": np.array([[10.0, 0, 0], [0, 0, 9]])}, [0, 1])
    action = policy.act({"state": np.array([[0.0, 0, 0], [0, 2, 9]])})
    np.testing.assert_allclose(action, [[1, 0], [0, -0.5]])
    policy.reset({"state": np.array([[0.0, 10, 0], [0, 0, 0]])}, [0, 1])
    np.testing.assert_allclose(policy.act({"state": np.zeros((2, 3))}), [[0, 1], [0, 0]])


def test_privileged_observations_are_declared():
    spec = EnvSpec.from_env(PointMass())
    made = baselines(spec, (0.0, 0.0), (0.2, 0.3), 5, Seeker)
    assert list(made) == ["random", "still", "replay", "scripted_pusher"]
    assert list(baselines(spec, (0.0, 0.0), (0.2, 0.3), 5)) == ["random", "still", "replay"]
    assert [p.observes for p in (RandomPolicy, StillPolicy, ReplayPolicy, PlayerPolicy)] == [(), (), (), ("state",)]
