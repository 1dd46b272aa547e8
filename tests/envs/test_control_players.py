"""Experts and wanderers of the control suite: better than nothing, diverse, and the same for the same seed."""

import numpy as np
import pytest

from envs.control import Control
from envs.control_players import SEARCHES, ControlPlayer, GoalSeeker, Mppi
from envs.wanderer import Wanderer


def gathered(task, act, steps, seed=0, action_repeat=1):
    env = Control(task, action_repeat, pixels=False)
    state, total = env.reset(seed=seed)[1]["state"], 0.0
    for _ in range(steps):
        _, reward, *_, info = env.step(act(state))
        state, total = info["state"], total + reward
    return total


def random_actions(num_actions, seed=0):
    rng = np.random.default_rng(seed)
    return lambda state: rng.uniform(-1, 1, num_actions)


def test_the_expert_stays_on_the_target_where_chance_does_not():
    for seed in range(2):
        expert = Mppi("reacher-easy")
        expert.begin(np.random.default_rng(seed))
        by_chance = gathered("reacher-easy", random_actions(2), 150, seed)
        assert gathered("reacher-easy", expert.act, 150, seed) > 100 > 60 > by_chance


def test_the_expert_plans_in_the_steps_that_are_played():
    expert = Mppi("point_mass-easy", action_repeat=4)
    expert.begin(np.random.default_rng(0))
    assert gathered("point_mass-easy", expert.act, 100, action_repeat=4) > 200


@pytest.mark.parametrize("task", SEARCHES)
def test_the_same_seed_gives_the_same_actions(task):
    state = Control(task, pixels=False).reset(seed=0)[1]["state"]
    made = []
    for _ in range(2):
        expert = Mppi(task)
        expert.begin(np.random.default_rng(7))
        made.append(np.stack([expert.act(state) for _ in range(3)]))
    np.testing.assert_array_equal(*made)
    assert made[0].dtype == np.float32 and np.abs(made[0]).max() <= 1


def test_there_is_no_expert_for_every_task():
    with pytest.raises(ValueError, match=r"walker-walk.*reacher-easy"):
        Mppi("walker-walk")
    with pytest.raises(ValueError, match="expert_fraction"):
        ControlPlayer("reacher-easy", expert_fraction=1.5)


def test_players_make_episodes_of_their_own_that_a_seed_repeats():
    player = ControlPlayer("reacher-easy", expert_fraction=0.5)
    starts, groups, moves = [], [], []
    for seed in (0, 1, 2, 0):
        start, group = player.reset(np.random.default_rng(seed))
        starts.append(start)
        groups.append(group)
        moves.append(np.stack([player.act(start) for _ in range(5)]))
    assert len(set(groups)) == 3 and groups[0] == groups[3]
    np.testing.assert_array_equal(starts[0], starts[3])
    np.testing.assert_array_equal(moves[0], moves[3])
    assert np.abs(starts[0] - starts[1]).max() > 0.01 and np.abs(moves[0] - moves[1]).max() > 0.01
    assert np.abs(moves).max() <= 1 and player.keep(np.zeros((3, 6))) and not player.keep(np.full((3, 6), np.nan))


def test_a_wanderer_plays_any_environment():
    player = Wanderer("worldjepa/gym-pusher-v0")
    start, _ = player.reset(np.random.default_rng(0))
    assert start.shape == (22,) and player.act(start).shape == (7,)


@pytest.mark.parametrize("correlations", [(), (1.0,), (0.5, -0.1)])
def test_correlations_of_wandering_are_checked(correlations):
    with pytest.raises(ValueError, match=r"correlations must be numbers in \[0, 1\)"):
        Wanderer("worldjepa/reacher-easy-v0", correlations=correlations)


def test_the_less_correlated_an_arm_wanders_the_less_its_wrist_is_at_the_limits():
    env = Control("reacher-easy", 2, pixels=False)

    def share_at_limits(rho: float) -> float:
        player = ControlPlayer("reacher-easy", 2, expert_fraction=0.0, correlations=[rho])
        wrists = []
        for seed in range(20):
            start, _ = player.reset(np.random.default_rng(seed))
            env.reset(options={"state": start})
            wrists += [env.step(player.act(start))[4]["state"][1] for _ in range(50)]
        return float((np.abs(wrists) > 2.6).mean())

    assert share_at_limits(0.8) < 0.7 * share_at_limits(0.98)


def test_the_goal_seeker_reaches_what_standing_still_does_not():
    env = Control("reacher-easy", 2, pixels=False)
    start = env.reset(seed=0)[1]["state"]
    goal = start.copy()
    goal[:2] += (1.0, -0.8)
    seeker = GoalSeeker("reacher-easy", 2)
    reached = {}
    for name, act in (("seeker", seeker.act), ("still", lambda state: np.zeros(2))):
        seeker.reset(start, goal)
        env.reset(options={"state": start, "goal_state": goal})
        reached[name] = any(env.step(act(env.get_state()))[4]["is_success"] for _ in range(50))
    assert reached == {"seeker": True, "still": False}
