"""The players of PushT stay within bounds, move the block, and reach goals."""

import numpy as np
import pytest

from envs.pusht import PushT
from envs.pusht_physics import Physics, block_center, random_state
from envs.pusht_players import Demonstrator, GoalPusher, NoisyReplay, ScriptedPusher, stays_inside
from envs.pusht_pushing import CONTACTS, INERTIA, Pose, needed_motion, push_gain, push_length


def play(player, seed: int, steps: int = 76):
    """States (steps, 7), actions (steps - 1, 2) and group of one episode."""
    physics, rng = Physics(), np.random.default_rng(seed)
    state, group = player.reset(rng)
    physics.restore(state)
    states, actions = [physics.state()], []
    for _ in range(steps - 1):
        actions.append(player.act(states[-1]))
        physics.step_relative(*actions[-1].tolist())
        states.append(physics.state())
    return np.array(states), np.array(actions), group


def moved_share(states: np.ndarray) -> float:
    return PushT().moved(states[:, :-25], states[:, 25:]).mean()


def demonstrations():
    """Two toy demonstrations of 60 and 40 steps, in which only the agent moves."""
    rows = np.arange(100.0)
    states = np.stack([60 + rows, 80 + 0 * rows, 300 + 0 * rows, 300 + 0 * rows, 0.01 * rows], axis=1)
    return states, states[:, :2] + 20.0, np.array([60, 100])


def test_scripted_play_moves_the_block_in_most_windows():
    """Share of 25-step windows in which the block moves: 0.9 over many episodes, 0.2 for random actions."""
    player, rng = ScriptedPusher(), np.random.default_rng(0)
    episodes = [play(player, seed) for seed in range(14)]
    states = np.stack([states for states, _, _ in episodes])
    actions = np.stack([actions for _, actions, _ in episodes])
    assert actions.dtype == np.float32 and np.abs(actions).max() <= 1
    assert moved_share(states) > 0.7
    turned = np.abs(states[:, 25:, 4] - states[:, :-25, 4]) > np.pi / 9
    assert turned.mean() > 0.4
    assert len({group for _, _, group in episodes}) == len(episodes)

    class Random:
        def reset(self, rng):
            return random_state(rng), "random"

        def act(self, state):
            return rng.uniform(-1, 1, 2)

    assert moved_share(np.stack([play(Random(), seed)[0] for seed in range(14)])) < 0.5


def test_scripted_episodes_follow_from_their_seed():
    first, second = play(ScriptedPusher(), 4), play(ScriptedPusher(), 4)
    np.testing.assert_array_equal(first[0], second[0])
    assert first[2] == second[2] != play(ScriptedPusher(), 5)[2]
    # An episode does not depend on the one before it.
    player = ScriptedPusher()
    play(player, 9, steps=20)
    np.testing.assert_array_equal(play(player, 4)[0], first[0])


def test_contacts_lie_on_the_block_and_push_it_as_predicted():
    """A short push moves the centre by (n, torque / INERTIA) per px, in direction and in turn."""
    physics, pose = Physics(), Pose()
    ratio = []
    for contact in CONTACTS:
        x, y, nx, ny, torque = contact
        pose.update(np.array([0, 0, 250.0, 220.0, 0.7]))
        agent, target = pose.to_world(x - 16 * nx, y - 16 * ny), pose.to_world(x - 8 * nx, y - 8 * ny)
        physics.restore(np.array([*agent, 250.0, 220.0, 0.7, 0.0, 0.0]))
        before = physics.state()
        for _ in range(4):
            physics.step(*target)
        after = physics.state()
        move = block_center(after) - block_center(before)
        length, turn = float(np.hypot(*move)), after[4] - before[4]
        assert length > 1.5, contact
        expected = np.array([pose.cos * nx - pose.sin * ny, pose.sin * nx + pose.cos * ny])
        assert move @ expected / length > 0.97, contact
        np.testing.assert_allclose(turn, length * torque / INERTIA, atol=0.02)
        ratio.append(length * (1 + torque**2 / INERTIA))
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=0.2)  # the agent went equally far each time


def test_push_length_undoes_a_push():
    """A block displaced by exactly one push at a contact needs that push, and its gain is the whole distance."""
    pose, contact, length = Pose(), CONTACTS[3], 30.0
    _, _, nx, ny, torque = contact
    pose.update(np.array([0, 0, 250.0, 220.0, 2.9]))
    dx, dy = length * nx, length * ny
    x = pose.center_x + pose.cos * dx - pose.sin * dy
    y = pose.center_y + pose.sin * dx + pose.cos * dy
    need = needed_motion(pose, (x, y, 2.9 + length * torque / INERTIA - 2 * np.pi))
    np.testing.assert_allclose(need, (dx, dy, length * torque / INERTIA), atol=1e-9)
    assert push_length(need, contact) == pytest.approx(length)
    distance = np.sqrt(dx**2 + dy**2 + INERTIA * need[2] ** 2)
    assert push_gain(need, contact) == pytest.approx(distance)
    assert all(push_gain(need, other) <= distance + 1e-9 for other in CONTACTS)


def test_goal_pusher_reaches_goals_25_steps_away():
    env, expert, solved = PushT(), GoalPusher(), []
    for seed in range(4):
        states, _, _ = play(ScriptedPusher(), 100 + seed)
        start, goal = states[20], states[45]
        if env.reached(start, goal):
            continue
        _, info = env.reset(options={"state": start, "goal_state": goal})
        expert.reset(start, goal)
        for _ in range(50):
            action = expert.act(info["state"])
            assert action.dtype == np.float32 and np.abs(action).max() <= 1
            info = env.step(action)[4]
            if info["is_success"]:
                break
        solved.append(info["is_success"])
    assert len(solved) >= 3 and all(solved)


def test_noisy_replay_names_its_demonstration_and_spares_the_others():
    states, actions, ends = demonstrations()
    player, rng = NoisyReplay(states, actions, ends, episodes=[1]), np.random.default_rng(0)
    for _ in range(20):
        state, group = player.reset(rng)
        assert group == "human/1" and state.shape == (7,)
        assert 0.6 - 1e-9 <= state[4] <= 0.7 and (state[5:] == 0).all()  # rows 60..70: 30 steps before the end


def test_noisy_replay_without_noise_is_the_demonstration():
    states, actions, ends = demonstrations()
    player, exact = NoisyReplay(states, actions, ends, episodes=[0, 1]), 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        state, _ = player.reset(rng)
        row = round(state[4] / 0.01)
        first = player.act(states[row])
        if (np.abs(state[:2] - states[row, :2]) < 1e-12).all() and np.allclose(first, 0.2, atol=1e-7):
            exact += 1
            end = int(ends[np.searchsorted(ends, row, side="right")]) - 1
            for later in range(row + 1, end + 5):  # holds the last target past the end
                np.testing.assert_allclose(
                    player.act(states[min(later, 99)]),
                    np.clip((actions[min(later, end)] - states[min(later, 99), :2]) / 100, -1, 1),
                    atol=1e-6,
                )
    # One of 5 noises, 1 of 3 jitters and 1 of 3 offsets is zero: 4.4 of 200.
    assert 1 <= exact <= 15
    assert np.abs(play(player, 3)[1]).max() <= 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda s, a, e: (s[:, :4], a, e, [0]), "states"),
        (lambda s, a, e: (s, a[:-1], e, [0]), "actions"),
        (lambda s, a, e: (s, a * np.nan, e, [0]), "finite"),
        (lambda s, a, e: (s, a, e[:1], [0]), "episode_ends"),
        (lambda s, a, e: (s, a, e[::-1], [0]), "episode_ends"),
        (lambda s, a, e: (s, a, e, [2]), "0..1"),
        (lambda s, a, e: (s, a, e, []), "0..1"),
    ],
)
def test_noisy_replay_refuses_broken_demonstrations(fault, message):
    with pytest.raises(ValueError, match=message):
        NoisyReplay(*fault(*demonstrations()))


def test_episodes_that_press_the_block_through_a_wall_are_not_kept():
    states = np.tile([100.0, 100, 250, 250, 0, 0, 0], (5, 1))
    assert stays_inside(states)
    for value in (3.0, 505.0, np.nan):
        broken = states.copy()
        broken[2, 3] = value
        assert not stays_inside(broken)


def test_goal_pusher_refuses_bad_goals():
    with pytest.raises(ValueError, match="state"):
        GoalPusher().reset(np.zeros(7), np.full(7, np.nan))
    with pytest.raises(ValueError, match="width"):
        GoalPusher(width=0)


def test_the_demonstrator_solves_the_task_and_stands_still():
    """Against the same player stopped at the start: coverage of what is kept, in gym-pusht's own measure."""
    env, player, best, first = PushT(image_size=32, action_mode="absolute", reward="coverage"), Demonstrator(), [], []
    for seed in range(6):
        start, _ = player.reset(np.random.default_rng(seed))
        env.reset(options={"state": start})
        states, actions = [env.get_state()], []
        first.append(env.coverage())
        for _ in range(75):
            actions.append(player.act(states[-1]))
            env.step(actions[-1])
            states.append(env.get_state())
        assert np.min(actions) >= 20 and np.max(actions) <= 492
        if player.keep(np.array(states)):
            best.append(env.coverage())
            np.testing.assert_allclose(actions[-1], states[-2][:2], atol=0.5)
    assert len(best) >= 4 and np.mean(best) > 0.9 > 0.5 > np.mean(first)
