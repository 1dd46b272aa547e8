"""PushT against gym-pusht's own environment, and against hand-made cases."""

import cv2
import numpy as np
import pymunk
import pytest

from envs.pusht import PushT, Renderer
from envs.pusht_physics import Physics, angle_difference, block_center, random_state

# After the line above, which quiets pygame.
from gym_pusht.envs.pusht import PushTEnv  # isort: skip


@pytest.fixture(scope="module")
def touching_state():
    """A state amid a push, and the simulation that got there."""
    physics = Physics()
    physics.restore(np.array([256.0, 130.0, 256.0, 200.0, 0.3, 0.0, 0.0]))
    for _ in range(6):
        physics.step(256.0, 300.0)
    assert np.abs(physics.state()[2:4] - (256, 200)).max() > 20
    return physics.state(), physics.snapshot()


def reference_picture(reference: PushTEnv, state: np.ndarray) -> np.ndarray:
    """gym-pusht's own 512 px surface for a state."""
    reference._setup()
    reference.agent.position = tuple(state[:2])
    reference.block.angle = state[4]
    reference.block.position = tuple(state[2:4])
    for body in (reference.agent, reference.block):
        reference.space.reindex_shapes_for_body(body)
    surface = reference._draw()
    return np.frombuffer(surface.get_view("0"), np.uint8).reshape(512, 512, 4)[..., 2::-1]


def test_physics_and_coverage_equal_gym_pusht():
    reference = PushTEnv()
    reference.reset(seed=7, options={"reset_to_state": [256.0, 420.0, 250.0, 230.0, 0.8]})
    env = PushT(action_mode="absolute", reward="coverage")

    def reference_state():
        agent, block = reference.agent, reference.block
        return np.array([*agent.position, *block.position, block.angle, *agent.velocity])

    env.reset(options={"state": reference_state()})
    start = env.get_state()
    rng, target = np.random.default_rng(0), np.zeros(2)
    coverages = []
    for step in range(200):
        if step % 8 == 0:  # now and then through the block, so that contacts are tested too
            target = block_center(env.get_state()) + rng.normal(size=2) * 60
        action = np.clip(target + rng.normal(size=2) * 10, 0, 512).astype(np.float32)
        _, reward, terminated, _, info = reference.step(action)
        _, our_reward, our_terminated, _, our_info = env.step(action)
        np.testing.assert_allclose(our_info["state"], reference_state(), rtol=0, atol=1e-9)
        assert (our_reward, our_terminated) == (pytest.approx(reward, abs=1e-9), terminated)
        coverages.append(our_info["coverage"])
        assert coverages[-1] == pytest.approx(info["coverage"], abs=1e-9)
    assert env.moved(start, env.get_state()) and max(coverages) > 0.3


def test_coverage_terminates_on_the_green_zone():
    env = PushT(reward="coverage")
    env.reset(options={"state": [60, 60, 256, 256, np.pi / 4]})
    _, reward, terminated, _, info = env.step(np.zeros(2))
    assert reward == 1.0 and terminated and info["coverage"] == pytest.approx(1.0)


@pytest.mark.parametrize(("size", "bound"), [(32, 0.6), (64, 0.3), (96, 0.3), (224, 0.2)])
def test_picture_matches_gym_pusht(size, bound):
    """Mean absolute difference in grey levels; small, and larger as soon as the block is a quarter of a pixel off."""
    reference, draw = PushTEnv(), Renderer(size)
    reference.reset(seed=0)
    rng, errors = np.random.default_rng(1), []
    for _ in range(8):
        state = random_state(rng)
        theirs = cv2.resize(reference_picture(reference, state), (size, size), interpolation=cv2.INTER_AREA)

        def error(x, y, state=state, theirs=theirs):
            return np.abs(draw(state + np.array([0, 0, x, y, 0, 0, 0])).astype(float) - theirs).mean()

        errors.append(error(0, 0))
        off = max(2, 512 / size / 4)
        assert errors[-1] < min(error(off, 0), error(-off, 0), error(0, off), error(0, -off))
    assert np.mean(errors) < bound, errors


def test_picture_follows_motions_smaller_than_its_pixels():
    draw, state = Renderer(64), np.array([300.0, 100.0, 256.0, 200.0, 0.4])
    for i, step in ((0, 1.0), (2, 1.0), (4, 0.02)):
        moved = state.copy()
        moved[i] += step
        assert (draw(moved) != draw(state)).any()
    green, block = draw([40, 40, 130, 400, 0.0]), draw([40, 40, 256, 256, np.pi / 4])
    middle = round(256 / 8)
    np.testing.assert_allclose(green[middle + 1, middle], [144, 238, 144], atol=1)
    np.testing.assert_allclose(block[middle + 1, middle], [143, 163, 184], atol=1)


def test_reset_is_exact():
    env, rng = PushT(), np.random.default_rng(0)
    for _ in range(20):
        state = random_state(rng)
        state[4] += rng.integers(-2, 3) * 2 * np.pi  # turns are kept
        state[5:] = rng.normal(size=2) * 50
        env.step(env.action_space.sample())
        np.testing.assert_allclose(env.reset(options={"state": state})[1]["state"], state, rtol=0, atol=1e-10)
        short = env.reset(options={"state": state[:5]})[1]["state"]
        np.testing.assert_allclose(short, [*state[:5], 0, 0], rtol=0, atol=1e-10)


def test_two_restores_of_a_push_agree_exactly(touching_state):
    state, snapshot = touching_state
    env, other = PushT(), PushT()
    other.reset(seed=5)
    ends = []
    for one in (env, other, env):
        one.restore(snapshot)
        np.testing.assert_allclose(one.get_state(), state, rtol=0, atol=1e-10)
        np.testing.assert_allclose(one.snapshot(), snapshot, rtol=0, atol=1e-10)
        for _ in range(12):
            one.step(np.array([0.1, 0.6]))
        ends.append(one.snapshot())
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[0], ends[2])
    with pytest.raises(ValueError, match="snapshot"):
        env.restore(state)


def test_snapshot_carries_the_block_velocity(touching_state):
    """A state stops the block; a snapshot does not, and so follows the live simulation more closely."""
    state, snapshot = touching_state
    assert np.abs(snapshot[7:9]).max() > 1
    live, copy, stopped = Physics(), Physics(), Physics()
    live.restore(np.array([256.0, 130.0, 256.0, 200.0, 0.3, 0.0, 0.0]))
    for _ in range(6):
        live.step(256.0, 300.0)
    copy.restore(snapshot)
    stopped.restore(state)
    for one in (live, copy, stopped):
        one.step(256.0, 300.0)
    error, stopped_error = (np.abs(one.state() - live.state())[:5].max() for one in (copy, stopped))
    assert error < 0.5 and error < stopped_error


def test_relative_actions_are_targets_100_px_away_inside_the_arena():
    relative, absolute = PushT(), PushT(action_mode="absolute")
    state = [60.0, 300.0, 300.0, 200.0, 0.0]
    for action, target in (((0.5, -0.25), (110, 275)), ((-1, 0), (20, 300)), ((7, 0), (160, 300)), ((0, 1), (60, 400))):
        relative.reset(options={"state": state})
        absolute.reset(options={"state": state})
        relative.step(np.array(action, dtype=float))
        absolute.step(np.array(target, dtype=float))
        np.testing.assert_array_equal(relative.get_state(), absolute.get_state())


def test_block_center_is_the_centre_of_gravity():
    physics, rng = Physics(), np.random.default_rng(2)
    for _ in range(5):
        state = random_state(rng)
        physics.restore(state)
        center = physics.block.local_to_world(physics.block.center_of_gravity)
        np.testing.assert_allclose(block_center(state), center, atol=1e-9)
        targets = PushT().probe_targets(np.stack([state] * 3))
        np.testing.assert_allclose(targets["block_center"], [center] * 3, atol=1e-9)
        np.testing.assert_allclose(targets["block_angle"], [[np.cos(state[4]), np.sin(state[4])]] * 3)
        np.testing.assert_array_equal(targets["agent_xy"], [state[:2]] * 3)


def test_angle_difference_wraps():
    a = np.array([3.1, -3.1, 0.1, 7.0, 0.1 + 4 * np.pi])
    b = np.array([-3.1, 3.1, -0.1, 7.0 - 2 * np.pi, 0.1])
    np.testing.assert_allclose(angle_difference(a, b), [6.2 - 2 * np.pi, 2 * np.pi - 6.2, 0.2, 0, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("change", "reached", "moved"),
    [
        ({}, True, False),
        ({0: 19.9}, True, False),
        ({0: 20.1}, False, False),
        ({0: 15.0, 2: 15.0}, False, False),  # 21.2 px over the four numbers together
        ({3: -19.9}, True, False),
        ({3: 20.1}, False, True),
        ({2: 15.0, 3: 15.0}, False, True),
        ({4: np.radians(19.9)}, True, False),
        ({4: np.radians(20.1)}, False, True),
        ({4: np.radians(-340.1)}, True, False),  # 19.9 degrees the other way round
        ({4: np.radians(-339.9)}, False, True),
        ({4: 6 * np.pi}, True, False),
        ({5: 400.0, 6: -400.0}, True, False),  # velocities do not count
    ],
)
def test_reached_and_moved(change, reached, moved):
    env, goal = PushT(), np.array([200.0, 210.0, 300.0, 310.0, 3.1, 0.0, 0.0])
    state = goal.copy()
    for i, value in change.items():
        state[i] += value
    assert bool(env.reached(state, goal)) is bool(env.reached(goal, state)) is reached
    assert bool(env.moved(state, goal)) is bool(env.moved(goal, state)) is moved


def test_random_starts_keep_agent_and_block_apart():
    env = PushT()
    for seed in range(30):
        env.reset(seed=seed)
        shape = pymunk.Circle(env.physics.agent, 15)
        assert not [hit for hit in env.physics.space.shape_query(shape) if hit.shape.body is env.physics.block]


def test_unknown_modes_and_agents_outside_are_refused():
    with pytest.raises(ValueError, match="action_mode must be one of relative, absolute; got 'delta'"):
        PushT(action_mode="delta")
    with pytest.raises(ValueError, match="reward must be one of coverage, none; got 'dense'"):
        PushT(reward="dense")
    with pytest.raises(ValueError, match="agent must stand in the arena"):
        PushT().reset(options={"state": [-3.0, 50, 200, 200, 0]})


def test_the_task_starts_where_gym_pushts_does():
    import gymnasium

    theirs = gymnasium.make("gym_pusht/PushT-v0", obs_type="state").unwrapped
    ours = PushT(image_size=32, action_mode="absolute", reward="coverage")
    for seed in range(20):
        theirs.reset(seed=seed)
        ours.reset(seed=seed)
        state = ours.get_state()
        clear = np.linalg.norm(state[:2] - block_center(state)) > 95
        if clear:  # else gym-pusht's own first step has pushed the two apart already
            wanted = [*theirs.agent.position, *theirs.block.position, theirs.block.angle]
            np.testing.assert_allclose(state[:5], wanted, atol=1e-6)
