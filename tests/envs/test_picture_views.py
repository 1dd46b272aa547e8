"""Views of pictures: actions lead to the views they mean, and pixels show what states say."""

import cv2
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.picture_views import NEUTRAL_VIEW, AugmentationPlayer, Augmentations, SaccadePlayer, Saccades
from envs.pictures import centre_weights, load_pictures, spectral_residual
from worldjepa.rollout import record_episode
from worldjepa.types import EnvSpec, GoalEnv

WORLDS = ((Saccades, SaccadePlayer), (Augmentations, AugmentationPlayer))
NAMES = Augmentations.state_names[2:]
SIZE, GLIMPSE = 60, 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven pictures of two classes, none of them square."""
    path, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for index in range(7):
        name = "ape" if index < 4 else "bee"
        (path / name).mkdir(exist_ok=True)
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (80, 70), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(path / name / f"{index}.{'png' if index % 2 else 'JPG'}"), image)
    return path


def make(world, folder, **arguments):
    return world(**{"source": folder, "picture_size": SIZE, "image_size": GLIMPSE, **arguments})


def make_player(player, folder, **arguments):
    sizes = {"image_size": GLIMPSE} if player is SaccadePlayer else {}
    return player(source=folder, picture_size=SIZE, **sizes, **arguments)


# ---- pictures ---------------------------------------------------------------------------------------------------


def test_a_folder_gives_its_pictures_by_class_cropped_to_the_middle(tmp_path):
    image = np.zeros((30, 90, 3), np.uint8)
    image[:, 30:60] = (255, 0, 0)  # blue, as OpenCV writes; the middle third
    for name, picture in (("b", image), ("a", image[:, :, ::-1]), (".hidden", image)):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "1.png"), picture)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    pictures, labels, names = load_pictures(tmp_path, 15)
    assert names == ("a", "b") and labels.tolist() == [0, 1] and labels.dtype == np.int64
    assert pictures.shape == (2, 15, 15, 3)
    assert (pictures[0] == (255, 0, 0)).all() and (pictures[1] == (0, 0, 255)).all()
    assert load_pictures(str(tmp_path), 15)[0] is pictures
    with pytest.raises(ValueError, match="read-only"):
        pictures[0] = 0


def test_folders_without_pictures_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "beside.png"), np.zeros((20, 20, 3), np.uint8))  # in no class's folder
    with pytest.raises(ValueError, match=r"one sub-folder of png or jpg pictures per class.*holds none"):
        Saccades(source=tmp_path)
    with pytest.raises(ValueError, match=r"'digits' or from a folder.*is neither"):
        AugmentationPlayer(source="digitz")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png.*cannot be read"):
        Augmentations(source=tmp_path)


def test_digits_are_all_there_and_stand_out_in_their_colour():
    from sklearn.datasets import load_digits

    pictures, labels, names = load_pictures("digits", 96)
    assert pictures.shape == (1797, 96, 96, 3) and names == tuple("0123456789")
    np.testing.assert_array_equal(labels, load_digits().target)
    assert len(np.unique(pictures.reshape(1797, -1)[:, ::97], axis=0)) == 1797
    # Strong colours are the digits'; clutter and ground are muted.
    strong = (pictures[:300].max(-1) - pictures[:300].min(-1).astype(int) > 140).mean((1, 2))
    assert (strong > 0.01).mean() > 0.95 and 0.05 < strong.mean() < 0.4


def test_a_digit_is_the_same_picture_at_another_size():
    large, small = (load_pictures("digits", size)[0][:20].astype(np.float32) for size in (96, 48))
    shrunk = np.stack([cv2.resize(x, (48, 48), interpolation=cv2.INTER_AREA) for x in large])
    same = np.abs(shrunk - small).mean((1, 2, 3))
    other = np.abs(shrunk - np.roll(small, 1, axis=0)).mean((1, 2, 3))
    assert same.max() < 8 and other.min() > 20


# ---- what both worlds share -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Saccades", "Augmentations"])
@pytest.mark.filterwarnings("error:.*:UserWarning:gymnasium")
def test_gymnasium_checker_passes_and_the_contract_holds(name):
    wrapped = gym.make(f"envs:worldjepa/{name}-v0")
    env = wrapped.unwrapped
    check_env(env)
    assert isinstance(env, GoalEnv)
    spec = EnvSpec.from_env(wrapped)
    width = len(env.state_names) - 2
    assert spec.action_low == (-1.0,) * width and spec.fields["pixels"].shape == (32, 32, 3)
    states = np.stack([env.reset(seed=s)[1]["state"] for s in range(6)]).reshape(2, 3, -1)
    assert states.dtype == np.float64 and len(np.unique(states[..., 0])) == 6
    assert env.reached(states, states).all() and not env.moved(states, states).any()
    targets = env.probe_targets(states)
    assert sum(value.shape[-1] for value in targets.values()) == width
    np.testing.assert_array_equal(np.concatenate(list(targets.values()), -1), states[..., 2:])
    other = states[0, 0].copy()
    other[0] += 1
    assert not env.reached(states[0, 0], other)


@pytest.mark.parametrize("world", [Saccades, Augmentations])
def test_observing_leaves_the_state_alone_and_goals_are_judged(world, folder):
    env = make(world, folder)
    observation, info = env.reset(seed=1)
    assert "is_success" not in info
    other = env.reset(seed=2)[1]["state"]
    env.reset(seed=1)
    env.render_state(other)
    assert (env.observe_state(other)["pixels"] != observation["pixels"]).any()
    np.testing.assert_array_equal(env.get_state(), info["state"])
    np.testing.assert_array_equal(env.observe_state(info["state"])["pixels"], observation["pixels"])
    snapshot = env.snapshot()
    env.step(np.full(env.action_space.shape, 0.3))
    assert (env.get_state() != snapshot).any()
    env.restore(snapshot)
    np.testing.assert_array_equal(env.get_state(), snapshot)
    assert env.reset(options={"state": other, "goal_state": snapshot})[1]["is_success"] is False
    assert env.reset(options={"state": snapshot, "goal_state": snapshot})[1]["is_success"] is True
    assert env.render().shape == (256, 256, 3) and make(world, folder, render_mode=None).render() is None


@pytest.mark.parametrize(("world", "player"), WORLDS)
def test_players_reach_the_views_they_mean(world, player, folder):
    env, rng = make(world, folder), np.random.default_rng(0)
    who, meant = make_player(player, folder), []
    draw = who._next_view
    who._next_view = lambda index, view: meant.append(draw(index, view)) or meant[-1]
    for _ in range(5):
        meant.clear()
        episode = record_episode(env, who, rng, 12)
        states = episode.arrays["state"].astype(np.float64)
        np.testing.assert_allclose(states[1:, 2:], meant, atol=1e-6)
        np.testing.assert_allclose(np.diff(states[:, 2:], axis=0), episode.arrays["action"][:-1], atol=1e-6)
        assert (states[:, :2] == states[0, :2]).all() and episode.group == f"picture/{int(states[0, 0]):07d}"
        assert (np.ptp(states[:, 2:], axis=0) > 0.1).all()
        for state, pixels in zip(episode.arrays["state"], episode.arrays["pixels"], strict=True):
            again = env.observe_state(state)["pixels"]  # from the state as it is stored, float32
            assert np.abs(again.astype(int) - pixels).mean() < 1


@pytest.mark.parametrize(("world", "player"), WORLDS)
def test_episodes_depend_on_the_seed_alone_and_show_every_picture(world, player, folder):
    def play(seed):
        rng, who = np.random.default_rng(seed), make_player(player, folder)
        return [record_episode(make(world, folder), who, rng, 4) for _ in range(80)]

    first, again, other = play(3), play(3), play(4)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.arrays["state"], b.arrays["state"])
        np.testing.assert_array_equal(a.arrays["pixels"], b.arrays["pixels"])
    assert {episode.group for episode in first} == {f"picture/{i:07d}" for i in range(7)}
    assert any((a.arrays["state"] != b.arrays["state"]).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("world", [Saccades, Augmentations])
def test_views_stay_in_bounds_and_slips_of_float32_are_taken(world, folder):
    env = make(world, folder)
    width = env.action_space.shape[0]
    env.reset(options={"state": [5, 1, *[0.75] * width]})
    assert env.step(np.full(width, 9.0))[4]["state"].tolist() == [5, 1, *[1.0] * width]
    assert env.step(np.full(width, -0.25))[4]["state"].tolist() == [5, 1, *[0.75] * width]
    assert env.step(np.full(width, -9.0))[4]["state"].tolist() == [5, 1, *[0.0] * width]  # clipped to -1, then to 0
    env.set_state([5, 1, 1 + 5e-7, *[-5e-7] * (width - 1)])
    assert env.get_state().tolist() == [5, 1, 1, *[0.0] * (width - 1)]


@pytest.mark.parametrize("world", [Saccades, Augmentations])
def test_bad_actions_states_and_options_are_refused(world, folder, refused_states):
    env = make(world, folder)
    good = env.reset(seed=0)[1]["state"]
    width = len(good) - 2
    for action in ([np.nan] * width, [0.0] * (width - 1), [[0.0] * width]):
        with pytest.raises(ValueError, match=f"{world.__name__} action must be {width} finite numbers"):
            env.step(np.array(action))

    def changed(index, value):
        return np.where(np.arange(width + 2) == index % (width + 2), value, good)

    bad = (
        (changed(2, np.nan), "finite numbers"),
        (good[:-1], "finite numbers"),
        (changed(0, 7), "picture must be one of 0..6"),
        (changed(0, 0.5), "picture must be one of 0..6"),
        (changed(1, 1 - good[1]), "label .* must fit its picture"),
        (changed(-1, 1.01), "must lie in 0..1"),
        (changed(2, -1e-4), "must lie in 0..1"),
    )
    refused_states(env, bad)
    with pytest.raises(ValueError, match="views"):
        env.reset(options={"views": good})


@pytest.mark.parametrize("world", [Saccades, Augmentations])
def test_bad_arguments_are_refused(world, folder):
    for name, value in (("image_size", 8), ("image_size", 32.0), ("picture_size", 15), ("render_mode", "human")):
        with pytest.raises(ValueError, match=name):
            make(world, folder, **{name: value})


def test_a_glimpse_must_be_smaller_than_the_picture(folder):
    for made in (Saccades, SaccadePlayer):
        with pytest.raises(ValueError, match="image_size must be smaller than picture_size"):
            made(source=folder, picture_size=32, image_size=32)
    assert Augmentations(source=folder, picture_size=32, image_size=32).reset(seed=0)[0]["pixels"].shape == (32, 32, 3)
    for inhibition in (-0.1, np.nan):
        with pytest.raises(ValueError, match="inhibition"):
            SaccadePlayer(source=folder, inhibition=inhibition)


# ---- saccades ---------------------------------------------------------------------------------------------------


def test_a_glimpse_is_the_crop_at_its_place(folder):
    env, picture = make(Saccades, folder), load_pictures(folder, SIZE)[0][2]
    for x, y, left, top in ((0, 0, 0, 0), (1, 0, 40, 0), (0.25, 0.5, 10, 20), (1, 1, 40, 40), (0.26, 0.51, 10, 20)):
        pixels = env.observe_state([2, 0, x, y])["pixels"]
        np.testing.assert_array_equal(pixels, picture[top : top + GLIMPSE, left : left + GLIMPSE])
        framed = env.render_state([2, 0, x, y]).astype(int)
        plain = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_LINEAR)
        rows, columns = np.nonzero((framed != plain).any(-1))
        scale = 256 / SIZE
        for edges, start in ((rows, top), (columns, left)):
            np.testing.assert_allclose([edges.min(), edges.max()], [start * scale, (start + GLIMPSE) * scale], atol=5)


def test_reached_and_moved_of_saccades(folder):
    env = make(Saccades, folder)
    goal = np.array([2, 0, 0.5, 0.5])
    states = np.array([[2, 0, 0.56, 0.56], [2, 0, 0.58, 0.58], [3, 0, 0.5, 0.5], [2, 0, 0.7, 0.7], [2, 0, 0.75, 0.75]])
    assert env.reached(states, goal).tolist() == [True, False, False, False, False]
    assert env.moved(states, goal).tolist() == [False, False, False, False, True]


@pytest.mark.parametrize("colour", [(250, 250, 250), (110, 110, 30)])
def test_a_lone_blob_stands_out_most(colour):
    assert spectral_residual(np.full((96, 96, 3), 110, np.uint8)).max() == 0
    for x, y in ((30, 60), (48, 48), (70, 22)):
        picture = np.full((96, 96, 3), 110, np.uint8)
        cv2.circle(picture, (x, y), 4, colour, -1, cv2.LINE_AA)
        saliency = spectral_residual(picture)
        row, column = np.unravel_index(saliency.argmax(), saliency.shape)
        assert abs(row - y) <= 5 and abs(column - x) <= 5
        far = np.hypot(*(np.indices((96, 96)) - np.array([y, x])[:, None, None])) > 20
        assert saliency[far].max() < 0.2 * saliency.max()


def test_glimpses_are_drawn_to_what_stands_out(tmp_path):
    (tmp_path / "dot").mkdir()
    for name, dot in (("0", (30, 60)), ("1", None)):
        picture = np.full((96, 96, 3), 110, np.uint8)
        if dot:
            cv2.circle(picture, dot, 4, (20, 20, 240), -1, cv2.LINE_AA)
        cv2.imwrite(str(tmp_path / "dot" / f"{name}.png"), picture)
    weights = centre_weights(str(tmp_path), 96, 32, 0)
    row, column = np.unravel_index(weights.argmax(), weights.shape)
    assert weights.shape == (65, 65) and abs(row + 16 - 60) <= 5 and abs(column + 16 - 30) <= 5
    assert (centre_weights(str(tmp_path), 96, 32, 1) == 1).all()  # nothing to see: anywhere
    env, player, rng = Saccades(tmp_path), SaccadePlayer(tmp_path), np.random.default_rng(0)
    seen = []
    while len(seen) < 20:
        start, _ = player.reset(rng)
        if start[0] == 0:
            glimpse = env.observe_state(start)["pixels"].astype(int)
            seen.append((glimpse[..., 0] - glimpse[..., 2] > 100).any())
    assert np.mean(seen) > 0.9


def test_the_eye_returns_less_where_it_has_looked(folder):
    def nearest(inhibition):
        player, rng, out = make_player(SaccadePlayer, folder, inhibition=inhibition), np.random.default_rng(0), []
        for _ in range(60):
            state, _ = player.reset(rng)
            centres = [state[2:].copy()]
            for _ in range(5):
                state[2:] += player.act(state)
                out.append(np.linalg.norm(np.array(centres) - state[2:], axis=1).min())
                centres.append(state[2:].copy())
        return np.array(out)

    with_it, without = nearest(0.2), nearest(0.0)
    assert with_it.mean() > 1.1 * without.mean()
    assert (with_it < 0.05).mean() < 0.5 * (without < 0.05).mean()


def test_long_episodes_never_run_out_of_places(folder):
    player = make_player(SaccadePlayer, folder, inhibition=5.0)
    state, _ = player.reset(np.random.default_rng(0))
    for _ in range(300):
        state[2:] += player.act(state)
        assert (state[2:] > -1e-6).all() and (state[2:] < 1 + 1e-6).all()


# ---- augmentations ----------------------------------------------------------------------------------------------


def view(env, index, **values):
    """float (image_size, image_size, 3) of a picture, neutral but for ``values``."""
    numbers = dict(zip(NAMES, NEUTRAL_VIEW, strict=True)) | values
    return env.observe_state([index, env._labels[index], *numbers.values()])["pixels"].astype(np.float64)


def sharpness(image):
    return np.abs(np.diff(image, axis=0)).mean() + np.abs(np.diff(image, axis=1)).mean()


def hue(image):
    """float (): mean direction of the colours, share of a turn."""
    yiq = image @ np.array([[0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]).T
    return np.angle(np.sum(yiq[..., 0] + 1j * yiq[..., 1])) / (2 * np.pi)


def test_the_neutral_view_is_the_picture(folder):
    env, pictures = make(Augmentations, folder), load_pictures(folder, SIZE)[0]
    for index in range(7):
        small = cv2.resize(pictures[index], (GLIMPSE, GLIMPSE), interpolation=cv2.INTER_AREA)
        assert np.abs(view(env, index) - small).max() <= 1


def test_each_number_changes_the_picture_in_its_sense():
    env = Augmentations("digits")
    for index in range(0, 40, 4):
        assert view(env, index, brightness=0).mean() == pytest.approx(0.6 * view(env, index).mean(), abs=1)
        assert view(env, index, brightness=1).mean() > 1.2 * view(env, index).mean()
        dark, dull = view(env, index, brightness=0), view(env, index, brightness=0, contrast=0)
        assert dull.std((0, 1)).mean() == pytest.approx(0.6 * dark.std((0, 1)).mean(), rel=0.1)
        assert dull.mean() == pytest.approx(dark.mean(), rel=0.1)
        strong, weak = (np.ptp(view(env, index, saturation=value), axis=-1).mean() for value in (0.5, 0))
        assert weak == pytest.approx(0.6 * strong, rel=0.1)
        sharp = [sharpness(view(env, index, blur=blur)) for blur in (0, 0.3, 0.6, 1)]
        assert (np.diff(sharp) < 0).all() and sharp[-1] < 0.8 * sharp[0]
        assert view(env, index, blur=1).mean() == pytest.approx(view(env, index).mean(), abs=3)


def test_hues_turn_by_a_tenth_either_way(tmp_path):
    (tmp_path / "plain").mkdir()
    cv2.imwrite(str(tmp_path / "plain" / "0.png"), np.full((96, 96, 3), (90, 110, 140), np.uint8))
    env = Augmentations(tmp_path)
    start, low, high = (hue(view(env, 0, hue=value)) for value in (0.5, 0.0, 1.0))
    assert (high - start) % 1 == pytest.approx(0.1, abs=0.01) and (start - low) % 1 == pytest.approx(0.1, abs=0.01)
    luma = [view(env, 0, hue=value) @ [0.299, 0.587, 0.114] for value in (0.0, 1.0)]
    assert np.ptp(luma) < 2


def test_crops_lie_where_they_say(tmp_path):
    """Red says x and green says y, so that a view tells which part of the picture it shows."""
    (tmp_path / "ramp").mkdir()
    ramp = np.zeros((96, 96, 3), np.uint8)
    ramp[..., 2] = np.arange(96) * 2
    ramp[..., 1] = np.arange(96)[:, None] * 2
    cv2.imwrite(str(tmp_path / "ramp" / "0.png"), ramp)
    env = Augmentations(tmp_path)

    def shown(**values):
        """left, top, width, height of the crop, as shares of the picture."""
        image = view(env, 0, **values) / 192
        x, y = image[0, :, 0], image[:, 0, 1]
        width, height = ((line[-1] - line[0]) * 32 / 31 for line in (x, y))
        return np.array([x[0] - width / 64, y[0] - height / 64, width, height])

    side = 0.2**0.5
    np.testing.assert_allclose(shown(), [0, 0, 1, 1], atol=0.03)
    np.testing.assert_allclose(shown(crop_scale=0, crop_x=0, crop_y=1), [0, 1 - side, side, side], atol=0.03)
    np.testing.assert_allclose(shown(crop_scale=0, crop_x=0.5, crop_y=0.25)[:2], [0.5 - side / 2, 0.138], atol=0.03)
    wide, tall = shown(crop_scale=0.3, crop_aspect=1)[2:], shown(crop_scale=0.3, crop_aspect=0)[2:]
    assert wide[0] / wide[1] == pytest.approx(4 / 3, rel=0.07) and tall[0] / tall[1] == pytest.approx(3 / 4, rel=0.07)
    assert wide.prod() == pytest.approx(0.44, abs=0.03) and tall.prod() == pytest.approx(0.44, abs=0.03)
    np.testing.assert_allclose(shown(crop_scale=1, crop_aspect=1)[2:], [1, 0.75**0.5], atol=0.03)


def test_reached_and_moved_of_augmentations(folder):
    env = make(Augmentations, folder)
    goal = np.array([2, 0, *[0.5] * 9])
    changes = {0.14: (True, False), 0.16: (False, False), -0.39: (False, False), 0.41: (False, True)}
    for change, expected in changes.items():
        states = goal + change * np.eye(11)[2:]  # one number at a time
        for found, value in zip((env.reached(states, goal), env.moved(states, goal)), expected, strict=True):
            assert found.tolist() == [value] * 9
