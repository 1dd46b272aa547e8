"""Which OpenGL draws is found out once, in a child process, and said where none does."""

import os

import mujoco
import numpy as np
import pytest

from envs import rendering
from envs.rendering import Renderer, make_camera, pick_backend

SCENE = """
<mujoco><worldbody>
  <light pos="0 0 3"/><geom type="plane" size="1 1 .1" rgba=".2 .3 .4 1"/>
  <body pos="0 0 .2"><joint name="x" type="slide" axis="1 0 0"/><geom size=".1" rgba="1 0 0 1"/></body>
  <camera name="top" pos="0 0 2"/>
</worldbody></mujoco>
"""


@pytest.fixture
def undecided(monkeypatch):
    """As in a fresh process without MUJOCO_GL, and back again afterwards."""
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    pick_backend.cache_clear()
    yield monkeypatch
    pick_backend.cache_clear()


def test_the_first_one_that_draws_is_taken_and_remembered(undecided):
    asked = []
    undecided.setattr(
        rendering, "_failure", lambda backend: asked.append(backend) or ("no" if backend == "egl" else None)
    )
    undecided.setenv("MUJOCO_GL", "")
    assert pick_backend() == pick_backend() == "osmesa" == os.environ["MUJOCO_GL"]
    assert asked == ["egl", "osmesa"]


def test_what_the_user_set_wins_without_a_trial(undecided):
    undecided.setattr(rendering, "_failure", lambda backend: pytest.fail("tried"))
    undecided.setenv("MUJOCO_GL", "osmesa")
    assert pick_backend() == "osmesa"


def test_where_nothing_draws_the_line_to_type_is_said(undecided):
    undecided.setattr(rendering, "_failure", lambda backend: f"{backend} is broken")
    with pytest.raises(RuntimeError, match=r"egl is broken.*osmesa is broken(.|\n)*apt install libegl1"):
        pick_backend()


def test_drawing_that_is_switched_off_is_said(undecided):
    undecided.setenv("MUJOCO_GL", "disable")
    with pytest.raises(RuntimeError, match="unset it"):
        pick_backend()


def test_a_driver_that_kills_its_process_kills_only_the_trial(undecided):
    undecided.setattr(rendering, "_TRIAL", "import os; os.abort()")
    assert "exit code" in rendering._failure("egl")
    undecided.setattr(rendering, "_TRIAL", "import time; time.sleep(60)")
    undecided.setattr(rendering, "TRIAL_SECONDS", 0.5)
    assert "within" in rendering._failure("egl")


@pytest.mark.usefixtures("opengl")
def test_pictures_show_the_state_and_leave_the_model_as_it_was():
    model = mujoco.MjModel.from_xml_string(SCENE)
    data, other = mujoco.MjData(model), mujoco.MjData(model)
    other.qpos[0] = 0.5
    mujoco.mj_forward(model, data), mujoco.mj_forward(model, other)
    before = model.vis.quality.offsamples, model.vis.global_.offwidth
    fast, pretty = Renderer(model, 40, 48), Renderer(model, 40, 48, pretty=True)
    camera = make_camera(model, "top")
    first, moved, again = (fast.draw(model, d, camera) for d in (data, other, data))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (40, 48, 3) and first.dtype == np.uint8
    red = [np.argwhere(p[..., 0].astype(int) - p[..., 2] > 60).mean(0) for p in (first, moved)]
    assert red[1][1] > red[0][1] + 8 and abs(red[1][0] - red[0][0]) < 1  # x points right
    assert not np.array_equal(pretty.draw(model, data, camera), first)
    assert before == (model.vis.quality.offsamples, model.vis.global_.offwidth)
    with pytest.raises(ValueError, match=r"'side'.*top"):
        make_camera(model, "side")


@pytest.mark.usefixtures("opengl")
def test_renderers_that_take_turns_with_others_draw_what_they_draw_alone():
    """Each goes back to its own context, whoever made another one current in between."""
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = make_camera(model, "top")
    small, large = Renderer(model, 16, 16), Renderer(model, 40, 48)
    alone = [renderer.draw(model, data, camera) for renderer in (small, small, large, large)]
    foreign = rendering._context_class(rendering.pick_backend())(24, 24)
    turns = []
    for renderer in (small, large, large, small):
        foreign.make_current()
        turns.append(renderer.draw(model, data, camera))
    foreign.free()
    for before, after in zip((alone[0], alone[2], alone[3], alone[1]), turns, strict=True):
        np.testing.assert_array_equal(after, before)
