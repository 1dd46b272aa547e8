"""MovingShapes: the true flow is what pictures show, scenes stay what they are, and things stay in sight."""

import cv2
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.moving_shapes import (
    LAYER_NAMES,
    MOST_SIZES,
    NUM_TEXTURES,
    PAN,
    RADIUS,
    STATE_NAMES,
    MovingShapes,
    PanPlayer,
    random_scene,
)
from envs.shape_drawing import CLASS_NAMES, make_textures, paint
from worldjepa.collection import check_pictures, prepare_store
from worldjepa.rollout import Factory, record_episode
from worldjepa.types import EnvSpec, GoalEnv

SIZE = 48


@pytest.fixture(scope="module")
def env() -> MovingShapes:
    return MovingShapes(image_size=SIZE)


def scene(*sprites: dict, shape: str = "disc", texture: int = 7, **ground: float) -> np.ndarray:
    """A state by hand: the ground's and the sprites' numbers by name, in the middle and at rest where not said."""
    values = dict.fromkeys(STATE_NAMES, 0.0)
    values |= {"class": CLASS_NAMES.index(shape), "num_sprites": len(sprites), "texture": texture}
    for layer, numbers in zip(LAYER_NAMES, (ground, *sprites), strict=False):
        values |= {f"{layer}_{name}": number for name, number in {"x": 0.5, "y": 0.5, **numbers}.items()}
    return np.array([values[name] for name in STATE_NAMES])


def play(env, seed: int, num_steps: int) -> list[np.ndarray]:
    player, rng = PanPlayer(), np.random.default_rng(seed)
    states = [env.reset(options={"state": player.reset(rng)[0]})[1]["state"]]
    for _ in range(num_steps):
        states.append(env.step(player.act(states[-1]))[4]["state"])
    return states


def warped(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """What ``picture`` shows where ``flow`` leads, float32."""
    columns, rows = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in flow.shape[1::-1]))
    return cv2.remap(picture.astype(np.float32), columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR)


def plain(segments: np.ndarray, border: int = 2) -> np.ndarray:
    """bool: pixels with no layer's edge, and no picture's, within ``border``."""
    kernel = np.ones((2 * border + 1,) * 2, np.uint8)
    low, high = (change(segments.astype(np.uint8), kernel) for change in (cv2.erode, cv2.dilate))
    inner = np.zeros(segments.shape, bool)
    inner[border:-border, border:-border] = True
    return (low == high) & inner


# ---- the truth --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [1, 4])
def test_warping_the_next_picture_by_the_flow_gives_this_one(apart):
    env, errors, still, moved = MovingShapes(), [], [], []
    for seed in range(8):
        states = play(env, seed, apart)
        pictures = [env.observe_state(state)["pixels"].astype(float) for state in (states[0], states[-1])]
        flow, visible = env.flow(states[0], states[-1])
        # At its end, too, a point must lie off edges: colours are mixed there.
        off_edges = warped(plain(env.segments(states[-1])).astype(np.uint8), flow) == 1
        where = visible & plain(env.segments(states[0])) & off_edges
        assert where.mean() > 0.1
        errors.append(np.abs(warped(pictures[1], flow) - pictures[0])[where].mean())
        still.append(np.abs(pictures[1] - pictures[0])[where].mean())
        moved.append(np.linalg.norm(flow, axis=-1).mean())
    assert np.mean(errors) < 1 and max(errors) < 2  # a hundredth of the range; half a pixel would cost 4
    assert np.mean(still) > 15 * np.mean(errors)
    assert np.mean(moved) > 1.5 * apart


def test_a_pan_is_the_same_flow_everywhere(env):
    state = scene({"x": 0.4, "angle": 0.7}, {"x": 0.6, "log_scale": 0.2}, shape="star", angle=0.3)
    env.set_state(state)
    env.step([0.5, -0.25])
    flow, visible = env.flow(state, env.get_state())
    expected = SIZE * PAN * np.array([0.5, -0.25])
    np.testing.assert_allclose(flow, np.broadcast_to(expected, flow.shape), atol=1e-5)
    assert flow.dtype == np.float32 and visible.dtype == bool and visible.mean() > 0.95
    still, visible = env.flow(state, state)
    np.testing.assert_allclose(still, 0, atol=1e-6)
    assert visible.all()


def test_each_layer_has_its_own_motion(env):
    """Row by row against formulas: the sprite turns about its centre, the ground about the picture's."""
    state = scene({"x": 0.3, "y": 0.6, "vx": 0.05, "vangle": 0.1}, x=0.2, vy=-0.04, vlog_scale=0.02)
    env.set_state(state)
    env.step(np.zeros(2))
    flow, _ = env.flow(state, env.get_state())
    y, x = (np.indices((SIZE, SIZE)) + 0.5) / SIZE
    inside = env.segments(state) == 1
    turn = np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]) - np.eye(2)
    sprite = np.stack([x - 0.3, y - 0.6], -1) @ turn.T + [0.05, 0]
    ground = np.stack([x - 0.5, y - 0.5], -1) * (np.exp(0.02) - 1) + [0, -0.04]
    np.testing.assert_allclose(flow, SIZE * np.where(inside[..., None], sprite, ground), atol=1e-5)


def test_what_is_covered_or_leaves_cannot_be_seen(env):
    here = scene({"x": 0.2, "y": 0.3}, {"x": 0.7, "y": 0.3})
    there = scene({"x": 0.2, "y": 0.3}, {"x": 0.25, "y": 0.3})  # sprite 2 goes onto sprite 1
    segments, next_segments = env.segments(here), env.segments(there)
    _, visible = env.flow(here, there)
    assert visible[segments == 2].all()
    for layer in (0, 1):
        np.testing.assert_array_equal(visible[segments == layer], next_segments[segments == layer] != 2)
    assert not visible[segments == 1].all() and visible[segments == 1].any()
    _, back = env.flow(there, here)  # sprite 1 was covered: nothing that is seen gets lost but ground under sprite 2
    assert back[next_segments > 0].all()
    np.testing.assert_array_equal(back[next_segments == 0], segments[next_segments == 0] != 2)

    here, there = scene({"x": 0.9}), scene({"x": 1.0}, x=0.4)
    flow, visible = env.flow(here, there)
    columns = np.indices((SIZE, SIZE))[1] + 0.5
    sprite = env.segments(here) == 1
    np.testing.assert_array_equal(visible[sprite], (columns + 0.1 * SIZE <= SIZE)[sprite])
    np.testing.assert_allclose(flow[sprite], [[0.1 * SIZE, 0]] * sprite.sum(), atol=1e-5)
    assert not visible[~sprite & (columns < 0.1 * SIZE)].any()


def test_segments_are_what_is_drawn_and_the_later_sprite_is_on_top(env):
    sprites = {"x": 0.35}, {"x": 0.5, "y": 0.6}, {"x": 0.62}
    state = scene(*sprites, shape="cross", angle=0.4)
    segments, pixels = env.segments(state), env.observe_state(state)["pixels"].astype(float)
    assert segments.dtype == np.int64 and np.unique(segments).tolist() == [0, 1, 2, 3]
    places, textures = (np.arange(SIZE) + 0.5) / SIZE, make_textures(7, CLASS_NAMES.index("cross"), 4)
    drawn = np.stack(
        [paint(textures[k], state[3 + 8 * k : 7 + 8 * k], places, places).clip(0, 255).round() for k in range(4)]
    )
    sure = plain(segments, 1)
    expected = np.take_along_axis(drawn, segments[None, :, :, None], 0)[0]
    np.testing.assert_array_equal(pixels[sure], expected[sure])
    np.testing.assert_array_equal(env.segments(scene(sprites[0], shape="cross"))[segments == 1], 1)
    fewer = env.segments(scene(*sprites[:2], shape="cross"))
    np.testing.assert_array_equal(np.where(segments == 3, 3, fewer), segments)


def test_flow_and_pictures_do_not_depend_on_the_size():
    small, large = MovingShapes(image_size=20), MovingShapes(image_size=60)  # the middles of every third pixel agree
    for seed in range(3):
        first, *_, last = play(small, seed, 2)
        flow, visible = small.flow(first, last)
        large_flow, large_visible = large.flow(first, last)
        np.testing.assert_allclose(large_flow[1::3, 1::3], 3 * flow, atol=1e-4)
        np.testing.assert_array_equal(large_visible[1::3, 1::3], visible)
        np.testing.assert_array_equal(large.segments(first)[1::3, 1::3], small.segments(first))
        inside = plain(small.segments(first), 1)
        pictures = [world.observe_state(first)["pixels"].astype(int) for world in (small, large)]
        assert np.abs(pictures[1][1::3, 1::3] - pictures[0])[inside].max() <= 1


def test_there_is_no_flow_between_scenes(env):
    first, second = scene({}, {}), scene({})
    for other in (second, scene({}, {}, texture=8), scene({}, {}, shape="heart")):
        with pytest.raises(ValueError, match=r"no flow from one scene to another: class, num_sprites, texture"):
            env.flow(first, other)
    for method in (env.segments, env.render_state, lambda state: env.flow(state, first)):
        with pytest.raises(ValueError, match="state"):
            method(np.full(len(STATE_NAMES), np.nan))


# ---- motion -----------------------------------------------------------------------------------------------------


def test_steps_are_determined_and_a_state_is_all_there_is(env):
    first, again = play(env, 5, 20), play(env, 5, 20)
    np.testing.assert_array_equal(first, again)
    assert (np.array(first) != np.array(play(env, 6, 20))).any()
    other = MovingShapes(image_size=SIZE)
    env.set_state(first[7])
    other.set_state(env.get_state())
    for _ in range(5):
        mine, its = env.step([0.3, -1.0]), other.step([0.3, -1.0])
        np.testing.assert_array_equal(mine[0]["pixels"], its[0]["pixels"])
        np.testing.assert_array_equal(mine[4]["state"], its[4]["state"])
    env.step([9.0, -9.0])
    other.step([1.0, -1.0])  # actions are clipped
    np.testing.assert_array_equal(env.get_state(), other.get_state())


def test_a_scene_stays_one_and_things_stay_in_sight_and_keep_moving(env):
    for seed, pan in enumerate(([0, 0], [1, 1], [-1, 0.5])):
        state = env.reset(seed=seed)[1]["state"]
        states = [state := env.step(pan)[4]["state"] for _ in range(200)]
        for earlier in states:
            env.set_state(earlier)  # every state that is reached is a valid one
            np.testing.assert_array_equal(env.get_state(), earlier)
        layers = np.array(states)[:, 3:].reshape(200, 4, 8)
        sprites = layers[:, 1 : 1 + int(state[1])]
        assert (np.array(states)[:, :3] == state[:3]).all()
        margin = 0.02 if seed == 0 else 0
        assert sprites[..., :2].min() >= margin and sprites[..., :2].max() <= 1 - margin
        assert np.abs(layers[..., 3]).max() <= MOST_SIZES[1]
        assert not layers[:, 1 + int(state[1]) :].any()
    env.set_state(scene({"x": 0.7, "vx": 0.06, "vlog_scale": 0.05}))
    track = np.array([env.step([0, 0])[4]["state"] for _ in range(60)])
    x, size = (track[:, STATE_NAMES.index(f"sprite1_{name}")] for name in ("x", "log_scale"))
    for numbers, fastest in ((x, 0.06), (size, 0.05)):  # to and fro, as fast as before, without a jolt
        speeds = np.diff(numbers)
        assert (np.sign(speeds[1:]) != np.sign(speeds[:-1])).sum() >= 3
        assert np.abs(speeds).max() == pytest.approx(fastest, rel=0.3)
        assert np.abs(np.diff(speeds)).max() < 1.2 * fastest
    assert x.min() > 0 and x.max() < 1


def test_speeds_are_what_is_promised():
    """At 64 px: the ground up to 4 px, 3 degrees, 3 %, sprites up to 6 px, 10 degrees, 5 % per step."""
    rng = np.random.default_rng(0)
    states = np.stack([random_scene(rng) for _ in range(500)])
    layers = states[:, 3:].reshape(500, 4, 8)
    for some, bounds in ((layers[:, :1], (4, 3, 3)), (layers[:, 1:], (6, 10, 5))):
        speeds = 64 * np.linalg.norm(some[..., 4:6], axis=-1), np.degrees(some[..., 6]), 100 * some[..., 7]
        for speed, bound in zip(speeds, bounds, strict=True):
            assert 0.95 * bound < np.abs(speed).max() <= bound
    there = layers[:, 1:][np.arange(3) < states[:, 1:2]]
    assert 10 < 64 * RADIUS * np.exp(there[:, 3]).min() and 64 * RADIUS * np.exp(there[:, 3]).max() < 21
    assert 0.19 < there[:, :2].min() and there[:, :2].max() < 0.81


# ---- the contract -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error:.*:UserWarning:gymnasium")
def test_gymnasium_checker_passes_and_the_contract_holds():
    wrapped = gym.make("envs:worldjepa/MovingShapes-v0")
    env = wrapped.unwrapped
    check_env(env)
    assert isinstance(env, GoalEnv)
    spec = EnvSpec.from_env(wrapped)
    assert spec.action_low == (-1.0, -1.0) and spec.fields["pixels"].shape == (64, 64, 3)
    states = np.stack([env.reset(seed=s)[1]["state"] for s in range(6)]).reshape(2, 3, -1)
    assert states.dtype == np.float64 and states.shape[-1] == len(STATE_NAMES) == 35
    assert env.reached(states, states).all() and not env.moved(states, states).any()
    assert not env.reached(states[0], states[1]).any()
    targets = env.probe_targets(states)
    assert {name: value.shape for name, value in targets.items()} == {"centre": (2, 3, 2), "log_scale": (2, 3, 1)}
    assert env.state_names.index(env.label_name) == 0


def test_reached_and_moved_look_at_every_sprite(env):
    goal = scene({"x": 0.3}, {"x": 0.7})
    states = np.stack([scene({"x": 0.3 + d}, {"x": 0.7}, vx=0.01) for d in (0.09, 0.11, 0.29, 0.31)])
    assert env.reached(states, goal).tolist() == [True, False, False, False]
    assert env.moved(states, goal).tolist() == [False, False, False, True]
    assert not env.reached(scene({"x": 0.3}, {"x": 0.7}, texture=8), goal)
    np.testing.assert_allclose(env.probe_targets(goal)["centre"], [0.5, 0.5])
    assert env.reset(options={"state": goal, "goal_state": states[1]})[1]["is_success"] is False
    assert env.reset(options={"state": goal, "goal_state": states[0]})[1]["is_success"] is True


def test_relations_say_how_things_moved(env):
    state = scene({"x": 0.3}, {"y": 0.6}, x=0.1, vx=0.02, vangle=0.03, vlog_scale=-0.01)
    env.set_state(state)
    env.step([1, 0])
    found = env.relations(np.stack([state, state]), np.stack([state, env.get_state()]))
    np.testing.assert_allclose(found["ground"], [[0] * 4, [0.02 + PAN, 0, 0.03, -0.01]], atol=1e-12)
    np.testing.assert_allclose(found["centre"], [[0, 0], [PAN, 0]], atol=1e-12)


def test_observing_leaves_the_scene_alone(env):
    observation, info = env.reset(seed=1)
    other = random_scene(np.random.default_rng(3))
    for method in (env.render_state, env.segments, lambda state: env.flow(state, state)):
        method(other)
    assert (env.observe_state(other)["pixels"] != observation["pixels"]).any()
    np.testing.assert_array_equal(env.get_state(), info["state"])
    np.testing.assert_array_equal(env.observe_state(info["state"])["pixels"], observation["pixels"])
    snapshot = env.snapshot()
    env.step(np.zeros(2))
    env.restore(snapshot)
    np.testing.assert_array_equal(env.get_state(), snapshot)
    assert env.render().shape == (256, 256, 3) and MovingShapes(render_mode=None).render() is None
    small = cv2.resize(MovingShapes(image_size=32).render(), (32, 32), interpolation=cv2.INTER_AREA)
    pixels = MovingShapes(image_size=32)._observe(MovingShapes().get_state())["pixels"]
    assert np.abs(small.astype(int) - pixels).mean() < 6  # the same scene, drawn larger


def test_bad_actions_states_and_options_are_refused(env, refused_states):
    good = scene({}, {})
    env.set_state(good)
    for action in ([np.nan, 0.0], [0.0], [[0.0, 0.0]]):
        with pytest.raises(ValueError, match="MovingShapes action must be two finite numbers"):
            env.step(np.array(action))

    def changed(name, value):
        return np.where(np.array(STATE_NAMES) == name, value, good)

    bad = (
        (good[:-1], "35 finite numbers"),
        (changed("ground_x", np.nan), "35 finite numbers"),
        (changed("class", 12), r"class of a MovingShapes state must be a whole number in 0\.\.11, got 12"),
        (changed("class", 0.5), "class"),
        (changed("num_sprites", 0), "num_sprites"),
        (changed("num_sprites", 4), "num_sprites"),
        (changed("texture", NUM_TEXTURES), "texture"),
        (changed("sprite1_x", -0.1), r"sprite1_x of a MovingShapes state must be 0\.\.1, got -0\.1"),
        (changed("sprite2_vangle", 0.2), "sprite2_vangle"),
        (changed("ground_log_scale", 0.5), "ground_log_scale"),
        (changed("sprite2_angle", 3.2), "sprite2_angle"),
        (changed("sprite3_x", 0.5), "2 sprites must have zeros for the others"),
    )
    refused_states(env, bad)
    with pytest.raises(ValueError, match="scene"):
        env.reset(options={"scene": good})
    for arguments in ({"image_size": 8}, {"image_size": 64.0}, {"render_mode": "human"}, {"render_size": 0}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            MovingShapes(**arguments)


# ---- episodes ---------------------------------------------------------------------------------------------------


def test_players_pan_smoothly_over_scenes_of_every_class(env):
    rng, player, seen, groups = np.random.default_rng(0), PanPlayer(label="mine"), [], set()
    for _ in range(80):
        episode = record_episode(env, player, rng, 4)
        states = episode.arrays["state"]
        assert (states[:, :3] == states[0, :3]).all() and episode.policy == "mine"
        assert episode.group == f"scene/{int(states[0, 2]):07d}"
        seen.append(states[0, :2])
        groups.add(episode.group)
    assert {int(label) for label, _ in seen} == set(range(12)) and {int(n) for _, n in seen} == {1, 2, 3}
    assert len(groups) == 80
    player.reset(rng)
    pans = np.array([player.act(np.zeros(35)) for _ in range(600)])
    assert pans.dtype == np.float32 and pans.shape == (600, 2) and np.abs(pans).max() <= 1
    assert 0.3 < pans.std() < 0.6
    assert 0.6 < np.corrcoef(pans[1:].ravel(), pans[:-1].ravel())[0, 1] < 0.95
    for arguments in ({"correlation": 1.0}, {"strength": -1.0}, {"strength": np.nan}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            PanPlayer(**arguments)


def test_a_store_holds_what_the_environment_draws(tmp_path):
    recipe = Factory("gymnasium.make", {"id": "envs:worldjepa/MovingShapes-v0", "image_size": 20})
    player = Factory("envs.moving_shapes.PanPlayer")
    store, _ = prepare_store(tmp_path / "store", recipe, player, None, None, 6, 5, 3)
    assert store.num_episodes == 6 and store.num_frames == 30 and store.spec.state_names == STATE_NAMES
    env = recipe.build()
    check_pictures(store, env)  # from states as they are stored, float32
    states = store.episode(4).arrays["state"].astype(float)
    flow, visible = env.unwrapped.flow(states[0], states[1])
    assert flow.shape == (20, 20, 2) and visible.any()
