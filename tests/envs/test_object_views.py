"""ObjectViews: objects, views and the actions between them; the player's rotations; pictures that show what changed."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from scipy.spatial.transform import Rotation

from envs.object_shapes import CLASS_NAMES, NUM_CLASSES, NUM_PARTS, OBJECT_RADIUS, make_object, outline
from envs.object_views import (
    NUM_OBJECTS,
    ObjectViewer,
    ObjectViews,
    canonical,
    conjugate,
    multiply,
    relative_rotation,
    rotation_angle,
    rotation_from_euler,
    view_state,
)
from worldjepa.rollout import record_episode
from worldjepa.types import EnvSpec, GoalEnv, Player


def scipy_rotation(q: np.ndarray) -> Rotation:
    return Rotation.from_quat(np.asarray(q)[..., [1, 2, 3, 0]])


@pytest.fixture(scope="module")
def env(opengl) -> ObjectViews:
    return gym.make("worldjepa/ObjectViews-v0").unwrapped


def plain_view(number: int, angles=(0.3, 0.2, 0.5), hues=(0.1, 0.6)) -> np.ndarray:
    return view_state(number, NUM_CLASSES, np.array(angles), np.array(hues))


def test_relations_are_what_the_action_between_two_views_says(env):
    player, rng = ObjectViewer(), np.random.default_rng(0)
    states, actions = [player.reset(rng)[0]], []
    for _ in range(6):
        actions.append(player.act(states[-1]))
        states.append(player.view)
    states, actions = np.array(states).reshape(7, 8), np.array(actions)
    found = env.relations(states[:-1], states[1:])
    np.testing.assert_allclose(found["rotation"], actions[:, :4], atol=1e-6)
    np.testing.assert_allclose(found["hue"], actions[:, 4:], atol=1e-6)
    assert env.state_names.index(env.label_name) == 1


# ---- rotations ---------------------------------------------------------------------------------------------------


def test_rotations_agree_with_scipy():
    rng = np.random.default_rng(0)
    angles = rng.uniform(-np.pi, np.pi, (5, 7, 3))
    q, r = rotation_from_euler(angles), rotation_from_euler(angles[::-1])
    assert q.shape == (5, 7, 4) and (q[..., 0] >= 0).all()
    for here, there in zip(q.reshape(-1, 4), angles.reshape(-1, 3), strict=True):
        assert (scipy_rotation(here).inv() * Rotation.from_euler("xyz", there)).magnitude() < 1e-7
    product = scipy_rotation(q.reshape(-1, 4)) * scipy_rotation(r.reshape(-1, 4))
    assert (product.inv() * scipy_rotation(multiply(q, r).reshape(-1, 4))).magnitude().max() < 1e-7
    np.testing.assert_allclose(multiply(q, conjugate(q)), np.broadcast_to([1, 0, 0, 0], q.shape), atol=1e-12)
    np.testing.assert_allclose(
        multiply(relative_rotation(q, r), q),
        r * np.sign((multiply(relative_rotation(q, r), q) * r).sum(-1, keepdims=True)),
        atol=1e-12,
    )
    expected = (scipy_rotation(q.reshape(-1, 4)).inv() * scipy_rotation(r.reshape(-1, 4))).magnitude()
    np.testing.assert_allclose(rotation_angle(q, r).reshape(-1), expected, atol=1e-6)


def test_canonical_takes_one_of_two_signs():
    q = np.array([[-0.5, 0.5, 0.5, 0.5], [0.5, -0.5, 0.5, 0.5], [0, 0, -1, 0], [0, 0.6, -0.8, 0]])
    expected = [[0.5, -0.5, -0.5, -0.5], [0.5, -0.5, 0.5, 0.5], [0, 0, 1, 0], [0, 0.6, -0.8, 0]]
    np.testing.assert_array_equal(canonical(q), expected)
    np.testing.assert_array_equal(canonical(-q), expected)


# ---- objects -----------------------------------------------------------------------------------------------------


def test_every_object_fits_the_same_sphere_and_has_its_own_proportions():
    assert NUM_CLASSES == len(set(CLASS_NAMES)) == 14
    for label in range(NUM_CLASSES):
        shapes = []
        for seed in range(5):
            parts = make_object(label, np.random.default_rng(seed))
            points = np.concatenate([outline(part) for part in parts])
            assert 2 <= len(parts) <= NUM_PARTS
            assert np.linalg.norm(points, axis=-1).max() == pytest.approx(OBJECT_RADIUS)
            np.testing.assert_allclose(points.min(0), -points.max(0), atol=1e-9)
            np.testing.assert_allclose([np.linalg.norm(part.quat) for part in parts], 1)
            shapes.append([part.size for part in parts])
        assert len({str(shape) for shape in shapes}) == 5, CLASS_NAMES[label]


def test_no_grey_belongs_to_a_class():
    """Otherwise a colour histogram would tell classes apart."""
    for label in range(NUM_CLASSES):
        first = {make_object(label, np.random.default_rng(seed))[0].tone for seed in range(30)}
        assert len(first) == 3, CLASS_NAMES[label]


# ---- the environment ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error:.*:UserWarning:gymnasium")
def test_gymnasium_checker_passes(env):
    check_env(env)


def test_goal_env_contract(env):
    assert isinstance(env, GoalEnv)
    spec = EnvSpec.from_env(gym.make("worldjepa/ObjectViews-v0", image_size=40))
    assert spec.env_id == "worldjepa/ObjectViews-v0" and spec.raw_action_dim == 6 and spec.frame_rate == 10
    assert set(spec.fields) == {"pixels", "action", "state"} and spec.fields["pixels"].shape == (40, 40, 3)
    states = np.stack([env.reset(seed=s)[1]["state"] for s in range(6)]).reshape(2, 3, 8)
    assert states.dtype == np.float64 and len(np.unique(states[..., 0])) == 6
    assert env.reached(states, states).all() and not env.moved(states, states).any()
    targets = env.probe_targets(states)
    assert {name: value.shape for name, value in targets.items()} == {
        "rotation": (2, 3, 4),
        "floor_hue": (2, 3, 2),
        "light_hue": (2, 3, 2),
    }
    np.testing.assert_allclose(
        np.arctan2(targets["light_hue"][..., 1], targets["light_hue"][..., 0]) % (2 * np.pi), 2 * np.pi * states[..., 7]
    )
    picture = env.render()
    assert picture.shape == (256, 256, 3) and picture.dtype == np.uint8


def test_states_and_snapshots_are_exact(env):
    state = plain_view(77, angles=(2.0, -1.0, 3.0))
    np.testing.assert_array_equal(env.reset(options={"state": state})[1]["state"], state)
    snapshot = env.snapshot()
    observation = env.step(np.array([0.5, 0.5, 0.1, 0.2, 0.3, -0.4]))[0]
    after = env.get_state()
    env.observe_state(state), env.render_state(state)
    np.testing.assert_array_equal(env.get_state(), after)
    np.testing.assert_array_equal(env.observe_state(after)["pixels"], observation["pixels"])
    env.restore(snapshot)
    np.testing.assert_array_equal(env.get_state(), state)
    np.testing.assert_array_equal(env.reset(seed=4)[1]["state"], env.reset(seed=4)[1]["state"])


def test_a_step_turns_about_the_world_s_axes_and_hues_wrap(env):
    env.reset(options={"state": plain_view(3, (1.0, 0, 0), (0.9, 0.1))})
    quarter = np.array([np.cos(np.pi / 4), 0, 0, np.sin(np.pi / 4)])  # about z, which is up
    action = np.array([*(-0.5 * quarter), 0.3, -0.3])  # neither the sign nor the length of a quaternion matters
    state = env.step(action)[4]["state"]
    np.testing.assert_allclose(state[:2], [3, 3])
    np.testing.assert_allclose(state[2:6], rotation_from_euler(np.array([1.0, 0, np.pi / 2])), atol=1e-12)
    np.testing.assert_allclose(state[6:], [0.2, 0.8])
    assert env.step(np.array([9.0, 0, 0, 0, 0, 9]))[4]["state"][7] == pytest.approx(0.8)  # clipped: once around


def test_reached_and_moved_look_at_the_rotation_alone(env):
    goal = plain_view(5, (0.2, -0.4, 0.9), (0, 0))
    states = []
    for degrees in (0, 14, 16, 44, 46, 180):
        turn = rotation_from_euler(np.radians([degrees, 0, 0]))
        states.append([5, 5, *multiply(turn, goal[2:6]), 0.5, 0.5])
    assert env.reached(np.array(states), goal).tolist() == [True, True, False, False, False, False]
    assert env.moved(np.array(states), goal).tolist() == [False, False, False, False, True, True]
    info = env.reset(options={"state": states[1], "goal_state": goal})[1]
    assert info["is_success"] is True
    assert env.step(np.array([0, 1, 0, 0, 0, 0]))[4]["is_success"] is False


def test_float32_states_are_accepted_and_look_the_same(env):
    rng = np.random.default_rng(0)
    for number in (0, 4242, NUM_OBJECTS - 1):
        state = plain_view(number, rng.uniform(-3, 3, 3), (0.99999999, 0.3))
        rounded = state.astype(np.float32)
        assert rounded[0] == number and rounded[6] == 1
        there = env.reset(options={"state": rounded})[1]["state"]
        assert np.linalg.norm(there[2:6]) == pytest.approx(1, abs=1e-12) and there[6] == 0
        difference = env.observe_state(state)["pixels"].astype(int) - env.observe_state(rounded)["pixels"]
        assert np.abs(difference).mean() < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: -1}, "object must be a whole number"),
        ({0: 2**20}, "object must be a whole number"),
        ({0: 20.5}, "object must be a whole number"),
        ({1: 5}, "object 20 is of class 6.*meshes"),
        ({2: 2}, "length 1, got"),
        ({6: -0.1}, "floor_hue and light_hue must lie in 0..1"),
        ({7: np.nan}, "eight finite numbers"),
    ],
)
def test_bad_states_are_refused(env, change, message):
    state = plain_view(20)
    for index, value in change.items():
        state[index] = value
    for use in (env.set_state, env.observe_state, lambda s: env.reset(options={"goal_state": s})):
        with pytest.raises(ValueError, match=message):
            use(state)


def test_bad_actions_and_arguments_are_refused(env, tmp_path):
    env.reset(seed=0)
    for action, message in (
        (np.zeros(6), "must be a quaternion, got zeros"),
        (np.zeros(5), "six finite numbers"),
        (np.full(6, np.nan), "six finite numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            env.step(action)
    with pytest.raises(ValueError, match=r"has none"):
        ObjectViews(meshes=str(tmp_path))
    with pytest.raises(ValueError, match="image_size"):
        ObjectViews(image_size=8)
    with pytest.raises(ValueError, match="render_mode"):
        ObjectViews(render_mode="human")
    for arguments in ({"beyond": 1.5}, {"turn": -1}, {"max_angle_deg": 120}, {"meshes": "nowhere"}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            ObjectViewer(**arguments)
    ObjectViewer(max_angle_deg=120, beyond=0)


# ---- pictures ----------------------------------------------------------------------------------------------------


def pixels(env, *args, **kwargs) -> np.ndarray:
    return env.observe_state(plain_view(*args, **kwargs))["pixels"].astype(int)


def test_a_number_is_an_object(env):
    first = pixels(env, 14)
    assert (np.abs(pixels(env, 28) - first).max(-1) > 20).mean() > 0.005  # of the same class
    for number in range(15, 28):
        assert (np.abs(pixels(env, number) - first).max(-1) > 20).mean() > 0.03, number
    np.testing.assert_array_equal(pixels(env, 14), first)  # whatever was drawn in between


def test_objects_stay_within_the_picture_and_off_the_floor(env):
    """An object is where its picture differs from those of objects elsewhere: never at the rim."""
    rng = np.random.default_rng(1)
    pictures = np.stack([pixels(env, n, rng.uniform(-3, 3, 3)) for n in range(84)])
    seen = np.abs(pictures - np.median(pictures, 0)).max(-1) > 12
    rim = np.concatenate([seen[:, 0], seen[:, -1], seen[:, :, 0], seen[:, :, -1]], 1)
    assert not rim.any()
    rows, columns = seen.any(2).sum(1), seen.any(1).sum(1)
    assert 25 < np.maximum(rows, columns).mean() < 50  # of 64
    assert seen.any((1, 2)).all()


def test_turning_is_seen_for_every_class(env):
    for number in range(NUM_CLASSES):
        before = pixels(env, number)
        for axis in range(3):
            angles = np.array([0.3, 0.2, 0.5])
            angles[axis] += 0.6
            assert (np.abs(pixels(env, number, angles) - before).max(-1) > 20).mean() > 0.01, CLASS_NAMES[number]


def test_the_floor_s_hue_is_seen_on_the_floor_alone(env):
    red, green = (pixels(env, 16, hues=(hue, 0.5)) for hue in (0.0, 1 / 3))
    changed = np.abs(red - green).max(-1) > 8
    assert changed[-8:].all() and not changed[:8].any()  # the floor is below, the wall above
    other = np.abs(pixels(env, 16, hues=(0.6, 0.5)) - green).max(-1) > 8
    assert (changed != other).mean() < 0.01  # the same silhouette is cut out of it
    assert 0.02 < 1 - changed[32:].mean() < 0.6


def test_the_light_s_hue_is_seen_on_the_object_too(env):
    red, blue = (pixels(env, 20, hues=(0.1, hue)) for hue in (0.0, 2 / 3))
    assert (red[..., 0] - red[..., 2]).mean() > (blue[..., 0] - blue[..., 2]).mean() + 20
    assert (np.abs(red - blue).max(-1) > 8).mean() > 0.8


def test_meshes_are_classes_of_their_own(opengl, tmp_path):
    corners = [(0, 0, 0), (30, 0, 0), (0, 20, 0), (0, 0, 10)]
    faces = [(1, 3, 2), (1, 2, 4), (1, 4, 3), (2, 3, 4)]
    lines = [f"v {x + 100} {y} {z}" for x, y, z in corners] + ["f {} {} {}".format(*face) for face in faces]
    (tmp_path / "a.obj").write_text("\n".join(lines))
    (tmp_path / "b.obj").write_text("\n".join(lines[:4] + lines[4:6]))  # open, as many meshes are
    env = ObjectViews(meshes=str(tmp_path))
    assert env.num_classes == NUM_CLASSES + 2
    angles, hues = np.array([0.3, 0.2, 0.5]), np.array([0.1, 0.6])
    pictures = [env.observe_state(view_state(n, 16, angles, hues))["pixels"].astype(int) for n in (0, 14, 15, 14)]
    np.testing.assert_array_equal(pictures[1], pictures[3])
    seen = np.abs(pictures[1] - pictures[2]).max(-1) > 8
    assert seen.any() and (np.abs(pictures[1] - pictures[0]).max(-1) > 8).mean() > 0.03
    np.testing.assert_array_equal(pictures[0], ObjectViews().observe_state(view_state(0, 14, angles, hues))["pixels"])
    bright = {env.observe_state(view_state(14 + 16 * n, 16, angles, hues))["pixels"].mean() for n in range(12)}
    assert len(bright) == 2 and max(bright) > min(bright) + 2  # objects of a mesh: nearly white or grey
    rng = np.random.default_rng(0)
    views = [env.observe_state(view_state(14, 16, rng.uniform(-3, 3, 3), hues))["pixels"] for _ in range(20)]
    difference = np.abs(np.stack(views).astype(int) - np.median(views, 0)).max(-1) > 12
    assert difference.any((1, 2)).all()  # centred, though the file's vertices lie far off
    assert not difference[:, 0].any() and not difference[:, :, 0].any() and not difference[:, :, -1].any()
    player = ObjectViewer(meshes=str(tmp_path))
    assert max(record_episode(env, player, np.random.default_rng(s), 2).arrays["state"][0, 1] for s in range(40)) > 13
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "c.obj").write_text("# empty")
    with pytest.raises(ValueError, match=r"c\.obj is no mesh"):
        ObjectViews(meshes=str(tmp_path / "more"))


# ---- the player --------------------------------------------------------------------------------------------------


def past_a_quarter(q: np.ndarray) -> np.ndarray:
    """Whether a rotation is none of those with three Euler angles within +-90 degrees."""
    # scipy's middle angle lies within +-90 degrees, which makes the other two unique.
    return (np.abs(scipy_rotation(q).as_euler("xyz", degrees=True)) > 90.001).any(-1)


def test_the_player_s_actions_lead_to_the_views_it_draws(env):
    player, rng = ObjectViewer(beyond=0.5), np.random.default_rng(0)
    assert isinstance(player.label, str) and all(hasattr(player, name) for name in vars(Player) if name[0] != "_")
    for _ in range(8):
        state, group = player.reset(rng)
        assert group == f"object/{int(state[0]):07d}" and state[1] == state[0] % NUM_CLASSES
        state = env.reset(options={"state": state})[1]["state"]
        for _ in range(5):
            action = player.act(state)
            assert action.dtype == np.float32 and action.shape == (6,) and action[0] >= 0
            assert np.linalg.norm(action[:4]) == pytest.approx(1) and np.abs(action[4:]).max() <= 0.5
            after = env.step(action)[4]["state"]
            np.testing.assert_allclose(after[:6], player.view[:6], atol=1e-6)
            np.testing.assert_allclose((after - player.view + 0.5)[6:] % 1, 0.5, atol=1e-6)
            np.testing.assert_allclose(relative_rotation(state[2:6], after[2:6]), action[:4], atol=1e-6)
            state = after


def test_episodes_beyond_a_quarter_turn_are_labelled_and_new(env):
    player = ObjectViewer(beyond=0.4, label="mine")
    episodes = [record_episode(env, player, np.random.default_rng(seed), 4) for seed in range(60)]
    for episode in episodes:
        assert past_a_quarter(episode.arrays["state"][:, 2:6]).all() == (episode.policy == "beyond")
        assert past_a_quarter(episode.arrays["state"][:, 2:6]).any() == (episode.policy == "beyond")
        assert len(np.unique(episode.arrays["state"][:, 0])) == 1
        np.testing.assert_array_equal(episode.arrays["action"][-1], 0)
    policies = [episode.policy for episode in episodes]
    assert set(policies) == {"mine", "beyond"} and 12 <= policies.count("beyond") <= 36


def test_views_are_independent_or_stay_near_the_first():
    def spread(turn: float, beyond: float) -> np.ndarray:
        player, rng, angles = ObjectViewer(turn=turn, beyond=beyond), np.random.default_rng(0), []
        for _ in range(60):
            first, _ = player.reset(rng)
            for _ in range(3):
                player.act(first)
                assert past_a_quarter(player.view[2:6]) == (beyond == 1)
                hue = np.abs((player.view[6:] - first[6:] + 0.5) % 1 - 0.5).max()
                angles.append([rotation_angle(first[2:6], player.view[2:6]), hue])
        return np.array(angles)

    far, near, still = spread(1.0, 0.0), spread(0.2, 0.0), spread(0.2, 1.0)
    assert near.mean(0)[0] < 0.35 * far.mean(0)[0] and near[:, 1].max() <= 0.1 < far[:, 1].max()
    assert still.mean(0)[0] < 0.35 * spread(1.0, 1.0).mean(0)[0]
