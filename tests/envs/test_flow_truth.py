"""The simulators' optical flow takes the next picture back to the first one, and is what is worked out by hand."""

import cv2
import gymnasium as gym
import mujoco
import numpy as np
import pytest

from envs.mujoco import SOURCES
from envs.pusht import PushT
from envs.pusht_physics import random_state
from envs.pusht_players import ScriptedPusher
from envs.rendering import Renderer, make_camera
from envs.simulation import MujocoEnv
from envs.wanderer import Wanderer

STEPS = 6  # from one picture to the other
PLAYED = ["reacher-easy", "cheetah-run", "walker-walk", "gym-pusher", "fetch-push"]
SCENE = """
<mujoco>
  <asset><texture type="skybox" builtin="gradient" rgb1="1 1 1" rgb2="0 0 0" width="32" height="32"/></asset>
  <worldbody>
    <geom name="floor" type="plane" size="9 9 .1"/>
    <body name="box" pos="0 -.7 .5">
      <joint name="slide" type="slide" axis="1 0 0"/>
      <joint name="turn" type="hinge" axis="0 0 1"/>
      <geom type="box" size=".3 .3 .3"/>
    </body>
    <body name="ball" pos="-.7 .6 .5"><joint name="roll" type="hinge" axis="0 1 0"/><geom size=".4"/></body>
    <body name="ghost" pos=".9 .9 .5"><geom size=".2" rgba="1 0 0 .3"/></body>
    <body name="head" pos="0 0 30">
      <inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>
      <joint name="pan" type="hinge" axis="0 0 1"/>
      <camera name="sky" xyaxes="1 0 0 0 0 1" fovy="60"/>
    </body>
    <camera name="top" pos="0 0 4" fovy="45"/>
  </worldbody>
</mujoco>
"""
SLIDE, TURN, ROLL, PAN = range(4)
BOX, BALL = 1, 2


def scene_env(camera, size=33, xml=SCENE):
    model = mujoco.MjModel.from_xml_string(xml)
    return MujocoEnv(
        model,
        mujoco.MjData(model),
        key="flow",
        num_actions=1,
        frame_rate=10,
        places=lambda q: {},
        tolerances={},
        image_size=size,
        pixels=False,
        camera=camera,
    )


def at(env, **positions):
    state = np.zeros(len(env.state_names))
    for name, value in positions.items():
        state[env.state_names.index(name)] = value
    return state


def rays(size, fovy):
    """Right and down (size, size) of the middles of pixels, at a depth of 1."""
    along = ((np.arange(size) + 0.5) / size * 2 - 1) * np.tan(np.radians(fovy) / 2)
    return np.meshgrid(along, along)


def warped(picture, flow):
    """What ``picture`` has where ``flow`` points."""
    right, down = np.meshgrid(*[np.arange(len(picture), dtype=np.float32)] * 2)
    return cv2.remap(
        picture, right + flow[..., 0], down + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def differences(env, state, next_state):
    """Grey levels (size, size) between the picture and the next one, warped and not; flow, and visibility."""
    picture, other = (env.observe_state(s)["pixels"].astype(np.float32) for s in (state, next_state))
    flow, visible = env.flow(state, next_state)
    return np.abs(warped(other, flow) - picture).mean(-1), np.abs(other - picture).mean(-1), flow, visible


def played_pairs(name, count):
    """``count`` pairs of states, STEPS apart, that wandering leads to."""
    player, rng = Wanderer(f"worldjepa/{name}-v0"), np.random.default_rng(0)
    player.warm_up = 40
    for _ in range(count):
        state, _ = player.reset(rng)
        for _ in range(STEPS):
            *_, info = player.env.step(player.act(state))
        yield state, info["state"]


def make(name, **arguments):
    if name in SOURCES and SOURCES[name].package is not None:
        module, extra = SOURCES[name].package
        pytest.importorskip(module, reason=f"{name} needs the extra {extra}")
    return gym.make(f"worldjepa/{name}-v0", **arguments).unwrapped


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("name", PLAYED)
def test_the_next_picture_warped_by_the_flow_is_the_first(name):
    """Within 2 grey levels, and far better than the next picture as it is where something moved.

    What is left are edges, which pictures of 64 px blur, and light that changes as surfaces turn. gym-half_cheetah's
    black and white floor is too fine for such pictures: 3.5 levels instead of 13.
    """
    env, errors = make(name), []
    env.reset(seed=5)
    before = env.snapshot()
    for state, next_state in played_pairs(name, 4):
        error, still, flow, visible = differences(env, state, next_state)
        assert flow.dtype == np.float32 and flow.shape == (64, 64, 2)
        assert visible.dtype == bool and visible.shape == (64, 64) and 0.5 < visible.mean()
        errors.append(np.stack([error, still, np.linalg.norm(flow, axis=-1)], -1)[visible])
        flow, visible = env.flow(state, state)
        assert np.abs(flow).max() < 1e-4 and visible.all()
    error, still, length = np.concatenate(errors).T
    moved = length > 0.5
    assert error.mean() < 2 and error.mean() < still.mean(), (error.mean(), still.mean())
    assert moved.sum() > 20 and error[moved].mean() < 0.7 * still[moved].mean(), (error[moved].mean(), moved.sum())
    np.testing.assert_array_equal(env.snapshot(), before)


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("name", ["walker-walk", "cheetah-run", "gym-pusher"])
def test_in_even_light_the_inside_of_what_moved_looks_the_same(name):
    """With neither shading nor edges, what is left of the difference is a tenth at most: the flow itself is right."""
    env, errors = make(name, image_size=192), []
    model = env.model
    model.light_active[:] = model.mat_specular[:] = 0
    light = model.vis.headlight
    light.ambient[:], light.diffuse[:], light.specular[:] = 1, 0, 0
    for state, next_state in played_pairs(name, 3):
        error, still, flow, visible = differences(env, state, next_state)
        window = np.ones((5, 5), np.uint8)
        bodies = env.segments(state).astype(np.uint8)
        inside = cv2.erode(bodies, window) == cv2.dilate(bodies, window)
        inside &= cv2.erode(visible.astype(np.uint8), window) > 0
        moved = inside & (np.linalg.norm(flow, axis=-1) > 1) & (bodies > 0)
        moved_still = visible & (np.linalg.norm(flow, axis=-1) > 1)
        errors.append((error[moved], still[moved_still]))
    left, there = (np.concatenate(levels) for levels in zip(*errors, strict=True))
    assert len(left) > 100 and left.mean() < min(0.5, there.mean() / 10), (left.mean(), there.mean())


@pytest.mark.usefixtures("opengl")
@pytest.mark.parametrize("name", ["gym-half_cheetah", "walker-walk"])
def test_a_flow_that_is_half_a_pixel_off_is_worse(name):
    env, offsets = make(name), [(0, 0), (0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)]
    errors = np.zeros(len(offsets))
    for state, next_state in played_pairs(name, 3):
        picture, other = (env.observe_state(s)["pixels"].astype(np.float32) for s in (state, next_state))
        flow, visible = env.flow(state, next_state)
        moved = visible & (np.linalg.norm(flow, axis=-1) > 0.5)
        errors += [
            np.square(warped(other, flow + np.array(offset, np.float32)) - picture)[moved].sum() for offset in offsets
        ]
    assert errors[0] * 1.05 < errors[1:].min(), errors


@pytest.mark.usefixtures("opengl")
def test_a_sliding_and_a_turning_box_flow_as_worked_out():
    env = scene_env("top")
    start, size = at(env, slide=-0.2), 33
    on_box = env.segments(start) == BOX
    # The top lies 3.2 m below the camera, whose picture is 2 tan(22.5 degrees) high per m; the middle is the world's.
    scale = size / (2 * np.tan(np.radians(22.5)) * 3.2)
    right, down = rays(size, 45)
    x, y = 3.2 * right, -3.2 * down
    on_top = (np.abs(x + 0.2) < 0.29) & (np.abs(y + 0.7) < 0.29)
    assert on_box[on_top].all() and on_top.sum() > 20
    flow, visible = env.flow(start, at(env, slide=0.25))
    np.testing.assert_allclose(flow[on_top], np.broadcast_to([0.45 * scale, 0], flow[on_top].shape), atol=2e-3)
    assert visible[on_top].all()

    angle = 0.4
    flow, visible = env.flow(start, at(env, slide=-0.2, turn=angle))
    x, y = x[on_top] + 0.2, y[on_top] + 0.7
    turned = np.stack([np.cos(angle) * x - np.sin(angle) * y - x, y - np.sin(angle) * x - np.cos(angle) * y], -1)
    np.testing.assert_allclose(flow[on_top], turned * scale, atol=2e-3)
    assert visible[on_top].all()

    flow, visible = env.flow(start, at(env, slide=3.0))
    assert not visible[on_top].any(), "it has left the picture"


@pytest.mark.usefixtures("opengl")
def test_the_floor_is_covered_where_a_box_comes_and_a_ball_by_itself_where_it_rolls():
    env, size = scene_env("top"), 33
    start, moved = at(env, slide=-0.4), at(env, slide=0.6)
    floor, box_then = env.segments(start) == 0, env.segments(moved) == BOX
    flow, visible = env.flow(start, moved)
    assert np.abs(flow[floor]).max() < 1e-4
    np.testing.assert_array_equal(visible[floor], ~box_then[floor])

    angle, centre, eye = 1.3, np.array([-0.7, 0.6, 0.5]), np.array([0, 0, 4.0])
    flow, visible = env.flow(start, at(env, slide=-0.4, roll=angle))
    on_ball = env.segments(start) == BALL
    right, down = rays(size, 45)
    along = np.stack([right, -down, -np.ones_like(right)], -1)[on_ball]
    # The nearer point where the ray meets the sphere.
    a, b, c = (along**2).sum(-1), along @ (eye - centre), ((eye - centre) ** 2).sum() - 0.16
    normal = (eye + along * ((-b - np.sqrt(b**2 - a * c)) / a)[:, None] - centre) / 0.4
    cos, sin = np.cos(angle), np.sin(angle)
    normal = normal @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]).T
    there = eye - (centre + 0.4 * normal)
    facing = (there * normal).sum(-1) / np.linalg.norm(there, axis=-1)
    # A sphere is drawn as facets, which end a little inside of it.
    assert visible[on_ball][facing > 0.4].all() and not visible[on_ball][facing < -0.4].any()
    assert (facing < -0.4).sum() > 5
    scale = size / (2 * np.tan(np.radians(22.5)))
    expected = np.stack([-there[:, 0], there[:, 1]], -1) / there[:, 2:] * scale - along[:, :2] * [1, -1] * scale
    np.testing.assert_allclose(flow[on_ball][facing > 0.15], expected[facing > 0.15], atol=0.2)


@pytest.mark.usefixtures("opengl")
def test_the_sky_turns_with_the_camera():
    env, angle, size = scene_env("sky"), 0.2, 33
    start = at(env)
    assert (env.segments(start) == 0).all()
    flow, visible = env.flow(start, at(env, pan=angle))
    right, _ = rays(size, 60)
    middle = size // 2
    expected = (np.tan(np.arctan(right[middle]) + angle) - right[middle]) * size / (2 * np.tan(np.radians(30)))
    np.testing.assert_allclose(flow[middle, :, 0], expected, atol=1e-3)
    np.testing.assert_allclose(flow[middle, :, 1], 0, atol=1e-3)
    np.testing.assert_array_equal(visible[middle], np.arange(size) + expected <= size - 0.5)
    flow, visible = env.flow(start, at(env, pan=np.pi))
    assert np.isfinite(flow).all() and not visible.any(), "behind the camera"


@pytest.mark.usefixtures("opengl")
def test_what_is_nearly_transparent_is_looked_through():
    env = scene_env("top")
    assert set(np.unique(env.segments(at(env)))) == {0, BOX, BALL}


@pytest.mark.usefixtures("opengl")
def test_the_reachers_target_moves_with_its_state():
    env = make("reacher-easy")
    state = env.reset(seed=0)[1]["state"]
    state[-2:] = [0.1, 0.05]
    moved = state.copy()
    moved[-2] -= 0.03
    flow, visible = env.flow(state, moved)
    row, column = np.argwhere(np.abs(flow[..., 0]) > 1).mean(0)
    assert column > 32 > row and flow[round(row), round(column), 0] < -1 and visible[round(row), round(column)]
    assert (env.get_state()[-2:] != state[-2:]).all()


@pytest.mark.usefixtures("opengl")
def test_what_cannot_be_answered_is_refused():
    env = make("reacher-easy")
    state = env.reset(seed=0)[1]["state"]
    for bad in (state[:4], np.full_like(state, np.nan)):
        for ask in (lambda s: env.flow(state, s), lambda s: env.flow(s, state), env.segments):
            with pytest.raises(ValueError, match="6 finite numbers"):
                ask(bad)
    cloth = '<mujoco><worldbody><flexcomp name="cloth" type="grid" count="3 3 1" dim="2"/></worldbody></mujoco>'
    env = scene_env(None, xml=cloth)
    with pytest.raises(ValueError, match="1 flexes and 0 skins, which bend"):
        env.segments(at(env))
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with pytest.raises(ValueError, match="pretty=False"):
        Renderer(model, 40, 40, pretty=True).draw_depth(model, data, make_camera(model, "top"))


@pytest.mark.usefixtures("opengl")
def test_a_renderer_that_goes_takes_nothing_of_the_others_along():
    """Buffers have the same numbers in every OpenGL context; those of the one that goes are freed, not its heirs'."""
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = make_camera(model, "top")
    first = Renderer(model, 40, 40)
    second = Renderer(model, 40, 48)  # is the current one when the first goes
    expected = second.draw(model, data, camera)
    del first
    second.draw_depth(model, data, camera)
    np.testing.assert_array_equal(second.draw(model, data, camera), expected)
    third = Renderer(model, 16, 16)
    fourth = Renderer(model, 40, 48)
    del third
    np.testing.assert_array_equal(fourth.draw(model, data, camera), expected)


def pusht_pairs(count):
    """Pairs of states of PushT, STEPS apart, between which the block is pushed."""
    player, env, rng = ScriptedPusher(), PushT(), np.random.default_rng(0)
    while count:
        state, _ = player.reset(rng)
        env.reset(options={"state": state})
        states = [state]
        for _ in range(30):
            states.append(env.step(player.act(states[-1]))[-1]["state"])
        moved = [pair for pair in zip(states, states[STEPS:], strict=False) if env.moved(pair[0], pair[1])]
        if moved:
            yield moved[0]
            count -= 1


def test_pushts_next_picture_warped_by_the_flow_is_the_first():
    env = PushT()
    env.reset(seed=3)
    before, errors = env.snapshot(), []
    rng = np.random.default_rng(1)
    for state, next_state in [*pusht_pairs(4), *((random_state(rng), random_state(rng)) for _ in range(4))]:
        error, still, flow, visible = differences(env, state, next_state)
        assert flow.dtype == np.float32 and visible.dtype == bool and visible.mean() > 0.9
        moved = visible & (np.linalg.norm(flow, axis=-1) > 0.5)
        errors.append([error[visible].mean(), error[moved].mean(), still[moved].mean()])
        assert errors[-1][0] < 1.2 and errors[-1][1] < errors[-1][2] / 2
        flow, visible = env.flow(state, state)
        assert np.abs(flow).max() < 1e-5 and visible.all()
    assert np.mean(errors, 0)[0] < 0.8, errors
    np.testing.assert_array_equal(env.snapshot(), before)


def test_pushts_shapes_flow_as_worked_out():
    env = PushT(image_size=96)
    scale = 96 / 512
    state = np.array([400.0, 100.0, 200.0, 300.0, 0.7])
    flow, _ = env.flow(state, np.add(state, [-32, 64, 0, 0, 0]))
    owner = env.segments(state)
    assert owner.dtype == np.int64 and set(np.unique(owner)) == {0, 1, 2}
    np.testing.assert_allclose(flow[owner == 2], np.broadcast_to([-32 * scale, 64 * scale], flow[owner == 2].shape))
    assert np.abs(flow[owner != 2]).max() < 1e-5

    flow, visible = env.flow(state, np.add(state, [0, 0, 16, -8, 0]))
    np.testing.assert_allclose(flow[owner == 1] - [16 * scale, -8 * scale], 0, atol=1e-5)
    assert np.abs(flow[owner != 1]).max() < 1e-5 and visible[owner == 1].all()

    # Turning goes about the body's origin, which is where the state says.
    angle = 2 * np.pi + 0.5
    flow, _ = env.flow(state, np.add(state, [0, 0, 0, 0, angle]))
    rows, columns = np.nonzero(owner == 1)
    x, y = (columns + 0.5) / scale - 0.5 - 200, (rows + 0.5) / scale - 0.5 - 300
    turned = np.stack([np.cos(angle) * x - np.sin(angle) * y - x, np.sin(angle) * x + np.cos(angle) * y - y], -1)
    np.testing.assert_allclose(flow[owner == 1], turned * scale, atol=1e-4)


def test_pushts_segments_are_what_its_picture_shows():
    env, rng = PushT(image_size=224), np.random.default_rng(2)
    for _ in range(4):
        state = random_state(rng)
        red, green, blue = np.moveaxis(env.observe_state(state)["pixels"].astype(int), -1, 0)
        agent = blue > red + 90
        block = (red < 190) & (green < red + 30) & ~agent
        shown, drawn = env.segments(state), np.where(agent, 2, block)
        assert (shown != drawn).mean() < 0.001
        for number in (1, 2):
            middles = [np.argwhere(labels == number).mean(0) for labels in (shown, drawn)]
            np.testing.assert_allclose(*middles, atol=0.5)
            assert (drawn == number).sum() == pytest.approx((shown == number).sum(), rel=0.08)


def test_pushts_agent_covers_the_block_and_the_block_the_floor():
    env = PushT()
    away = np.array([60.0, 60.0, 256.0, 200.0, 0.0])
    over = np.array([256.0, 260.0, 256.0, 200.0, 0.0])  # on the stem
    _, visible = env.flow(away, over)
    owner, owner_then = env.segments(away), env.segments(over)
    hidden = owner_then == 2
    assert hidden.sum() > 6 and (owner[hidden] == 1).all()
    np.testing.assert_array_equal(visible, ~hidden)
    _, visible = env.flow(away, np.add(away, [0, 0, 100, 0, 0]))
    moved = env.segments(np.add(away, [0, 0, 100, 0, 0])) == 1
    np.testing.assert_array_equal(visible[owner == 0], ~moved[owner == 0])
    _, visible = env.flow(away, np.add(away, [0, 0, 400, 0, 0]))
    assert not visible[owner == 1].all(), "a part has left the picture"


def test_bad_states_of_pusht_are_refused():
    env, state = PushT(), np.array([100.0, 100, 256, 256, 0])
    for bad in (state[:4], state * np.nan, state - 200):
        for ask in (lambda s: env.flow(state, s), lambda s: env.flow(s, state), env.segments):
            with pytest.raises(ValueError, match=r"PushT state|arena"):
                ask(bad)
