"""Streets follow from their numbers, states say all, boxes and rays agree, and a driver needs eyes."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401, registers
from envs.street import NUM_WAYPOINTS, WAYPOINT_SPACING, Street
from envs.street_driver import HELD_OUT, TRAINING, BlindDriver, Driver, StreetPlayer
from envs.street_geometry import CLEARANCE, SPACING, overlaps, path_length
from envs.street_layout import (
    CLASSES,
    EGO_SIZE,
    NUM_MOVERS,
    PEDESTRIAN,
    make_layout,
)
from envs.street_traffic import (
    ARRIVED,
    MAX_STEER,
    MOVER_PROGRESS,
    PROGRESS,
    SPEED,
    STEER,
    STEP,
    WHEELBASE,
    advance,
    all_boxes,
    collides,
    drive,
    ego_box,
    project,
    start_state,
)
from worldjepa.rollout import record_episode
from worldjepa.types import EnvSpec, GoalEnv

ID = "worldjepa/Street-v0"
SMALL = {"beams": 32, "azimuths": 128}


@pytest.fixture(scope="module")
def played():
    """An environment, and the observations and states of a drive on a held-out street."""
    env = Street(HELD_OUT, pixels=True, image_size=48, **SMALL)
    observation, info = env.reset(seed=5)
    observations, infos, driver = [observation], [info], Driver()
    for _ in range(25):
        observation, _, _, _, info = env.step(driver.act(info["state"]))
        observations.append(observation)
        infos.append(info)
    return env, observations, infos


# ---- the contract -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error:.*:UserWarning:gymnasium")
def test_gymnasium_checker_passes():
    check_env(gym.make(ID, **SMALL).unwrapped)


def test_goal_env_contract(played):
    env, _, infos = played
    assert isinstance(env, GoalEnv)
    spec = EnvSpec.from_env(gym.make(ID))
    assert spec.env_id == ID and spec.frame_rate == 5 and spec.action_low == (-1.0, -1.0)
    assert spec.fields["sweep"].shape == (32, 512, 2) and spec.fields["sweep"].dtype == "float16"
    assert spec.fields["state"].shape == (9 + 2 * NUM_MOVERS,) and "pixels" not in spec.fields
    states = np.stack([info["state"] for info in infos[:6]]).reshape(2, 3, -1)
    assert env.reached(states, states).all() and not env.moved(states, states).any()
    start, end = infos[0]["state"], infos[-1]["state"]
    assert np.linalg.norm(start[2:4] - end[2:4]) > 10 and env.moved(start, end) and not env.reached(start, end)
    elsewhere = end.copy()
    elsewhere[0] += 1
    assert env.moved(end, elsewhere) and not env.reached(end, elsewhere)
    assert {k: v.shape for k, v in env.probe_targets(states).items()} == {"speed": (2, 3, 1), "steer": (2, 3, 1)}
    assert env.reset(options={"state": start, "goal_state": end})[1]["is_success"] is False
    assert env.reset(options={"state": end, "goal_state": end})[1]["is_success"] is True


def test_a_stored_state_looks_as_it_did(played):
    env, observations, infos = played
    for observation, info in zip(observations[::6], infos[::6], strict=True):
        stored = info["state"].astype(np.float32)
        np.testing.assert_array_equal(stored, info["state"])  # nothing is lost
        now = env.get_state()
        again = env.observe_state(stored)
        np.testing.assert_array_equal(env.get_state(), now)
        assert set(again) == set(env.observation_space.spaces) == {"sweep", "proprioception", "route", "pixels"}
        for name, value in observation.items():
            np.testing.assert_array_equal(value, again[name])
            assert value.dtype == env.observation_space[name].dtype


def test_the_same_actions_lead_to_the_same_street(played):
    _, observations, infos = played
    other, driver = Street(HELD_OUT, pixels=True, image_size=48, **SMALL), Driver()
    other.set_state(infos[10]["state"])
    for at in range(10, 14):
        observation, _, _, _, info = other.step(driver.act(infos[at]["state"]))
        np.testing.assert_array_equal(info["state"], infos[at + 1]["state"])
        np.testing.assert_array_equal(observation["sweep"], observations[at + 1]["sweep"])
    assert (observations[3]["sweep"] != observations[4]["sweep"]).mean() > 0.3


def test_streets_for_training_and_judging_share_nothing():
    assert TRAINING[1] <= HELD_OUT[0] < HELD_OUT[1] <= 2**24
    for layouts in (TRAINING, HELD_OUT, (7, 8)):
        env = Street(layouts, beams=2, azimuths=3)
        numbers = [env.reset(seed=seed)[1]["state"][0] for seed in range(4)]
        assert all(layouts[0] <= number < layouts[1] for number in numbers)
    player = StreetPlayer(HELD_OUT)
    state, group = player.reset(np.random.default_rng(0))
    assert HELD_OUT[0] <= state[0] < HELD_OUT[1] and group == f"street/{int(state[0]):08d}"
    a, b = make_layout(TRAINING[0]), make_layout(HELD_OUT[0])
    assert a.route.shape != b.route.shape or not np.allclose(a.route, b.route)


def test_bad_arguments_states_and_actions_are_refused(played, refused_states):
    for arguments in ({"beams": 0}, {"image_size": 8}, {"render_mode": "human"}, {"render_size": 0}, {"dropout": 2}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            Street(**arguments)
    for layouts in ((5, 5), (-1, 3), (0, 2**24 + 1)):
        with pytest.raises(ValueError, match="layouts"):
            Street(layouts)
    env, _, infos = played
    for action in ([np.nan, 0.0], [0.0], [[0.0, 0.0]], [np.inf, 0.0]):
        with pytest.raises(ValueError, match="action"):
            env.step(np.array(action))

    def changed(**values):
        state = infos[3]["state"].copy()
        for name, value in values.items():
            state[env.state_names.index(name)] = value
        return state

    state = infos[3]["state"]
    refused_states(
        env,
        [
            (state[:5], "37 finite numbers"),
            (changed(x=np.nan), "37 finite numbers"),
            (changed(layout=0.5), "layout must be a whole number"),
            (changed(layout=2**24), "layout must be a whole number"),
            (changed(tick=-1), "tick must be a whole number"),
            (changed(x=1e6), "within 1000"),
            (changed(speed=11), "m/s"),
            (changed(steer=0.7), "steering angle"),
        ],
    )
    with pytest.raises(ValueError, match="cruise"):
        Driver(cruise=0)
    with pytest.raises(ValueError, match="disturbed"):
        StreetPlayer(disturbed=0.9)
    with pytest.raises(ValueError, match="slowed"):
        StreetPlayer(slowed=1.1)


def test_a_sweep_that_nobody_looks_at_is_left_out(played):
    env = Street((3, 6), **SMALL)
    everything = env.reset(seed=0)[0]
    env.shown = frozenset({"route"})
    shown = env.reset(seed=0)[0]
    assert set(everything) - set(shown) == {"sweep"}
    np.testing.assert_array_equal(shown["route"], everything["route"])


def test_a_cloud_holds_what_stands_on_the_road(played):
    env = Street((3, 6), cloud=200, **SMALL)
    observation = env.reset(seed=0)[0]
    points = env.lidar.to_points(observation["sweep"])[:, :3]
    assert env.observation_space.contains(observation)
    assert observation["cloud"].shape == (200, 3)
    assert {tuple(point) for point in observation["cloud"]} <= {tuple(point) for point in points}
    assert observation["cloud"][:, 2].min() > 0.3 - env.lidar.height > points[:, 2].min()
    env.shown = frozenset({"cloud"})
    alone = env.reset(seed=0)[0]
    assert "sweep" not in alone and "cloud" not in played[1][0]
    np.testing.assert_array_equal(alone["cloud"], observation["cloud"])
    assert not Street((3, 6), cloud=5, dropout=1 - 1e-12, **SMALL).reset(seed=0)[0]["cloud"].any()
    with pytest.raises(ValueError, match="cloud must be >= 0 points, got -1"):
        Street(cloud=-1)


def test_episodes_start_at_any_speed():
    player = StreetPlayer(slowed=1.0)
    rngs = [np.random.default_rng(seed) for seed in range(6)]
    slowed = [player.reset(rng)[0][5] for rng in rngs]
    player.slowed = 0.0
    full = [player.reset(np.random.default_rng(seed))[0][5] for seed in range(6)]
    assert all(a <= b for a, b in zip(slowed, full, strict=True)) and np.mean(slowed) < np.mean(full)


def test_vectors_of_streets_and_copies_work():
    def make():
        return gym.make(ID, layouts=(3, 6), **SMALL)

    vector = gym.vector.AsyncVectorEnv([make, make])
    try:
        observation, info = vector.reset(seed=4)
        alone = make()
        first, first_info = alone.reset(seed=4)
        np.testing.assert_array_equal(observation["sweep"][0], first["sweep"])
        np.testing.assert_array_equal(info["state"][0], first_info["state"])
        action = np.array([[0.1, 1.0], [0.0, -1.0]], np.float32)
        after = vector.step(action)[0]["sweep"][0]
        np.testing.assert_array_equal(after, pickle.loads(pickle.dumps(alone)).step(action[0])[0]["sweep"])
    finally:
        vector.close()


# ---- what streets are like --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(30, 42))
def test_nothing_overlaps_at_the_start_and_the_way_is_free(number):
    layout = make_layout(number)
    assert layout.kind in ("straight", "bend", "tee", "crossing") and 70 < layout.length < 155
    state = start_state(layout)
    boxes, classes = all_boxes(layout, state)
    assert 32 <= len(boxes) <= 50 and set(classes.tolist()) >= {1, 3, 4}
    everything = np.concatenate([ego_box(state)[None], boxes])
    for i in range(len(everything)):
        assert not overlaps(everything[i], everything[i + 1 :]).any(), (number, i)
    for box in layout.boxes:  # the line that the expert follows keeps clear of them, the whole way
        line = layout.line[:: int(1 / SPACING)]
        cars = np.concatenate([line[:, :2], np.tile([0.75, *EGO_SIZE], (len(line), 1)), line[:, 2:]], 1)
        assert not overlaps(box, cars, CLEARANCE - 0.3).any(), number
    for place in layout.line[: len(layout.route) // 2 : 7, :2]:
        assert np.hypot(*(layout.route[:, :2] - place).T).min() < 1.0  # and stays in the lane


def test_movers_neither_jump_nor_run_into_one_another():
    for number in (2, 3):
        layout = make_layout(number)
        state = start_state(layout)
        for _ in range(60):
            after = advance(layout, state, np.array([0.0, 0.0]))  # our car stands at the start
            step = after[MOVER_PROGRESS] - state[MOVER_PROGRESS]
            step = np.where(layout.laps, np.mod(step, layout.path_lengths), step)
            assert (step >= -1e-9).all() and (step <= 7.0 * STEP + 1e-6).all()
            boxes, classes = all_boxes(layout, after)
            movers = boxes[: len(boxes) - len(layout.boxes)]
            riding = movers[classes[: len(movers)] != PEDESTRIAN]
            for i in range(len(riding)):
                assert not overlaps(riding[i], riding[i + 1 :]).any()
                assert not overlaps(riding[i], layout.boxes).any()
            state = after
        assert not collides(layout, state)  # nobody drives into a car that stands


def test_rays_and_boxes_agree(played):
    env, observations, infos = played
    names_seen = set()
    for at in (0, 12, 25):
        state = infos[at]["state"]
        boxes, names = env.boxes(state)
        rows, classes = env.hits(state)
        heard = observations[at]["sweep"][..., 0] > 0
        assert (rows < len(boxes)).all() and (rows[classes <= 0] == -1).all() and (rows[classes > 0] >= 0).all()
        assert not heard[classes == -1].any() and heard[classes >= 0].mean() == pytest.approx(0.98, abs=0.01)
        points = env.lidar.to_points(observations[at]["sweep"])[:, :3]
        rows, classes = rows[heard], classes[heard]
        assert np.abs(points[classes == 0, 2] + 1.7).max() < 0.15 and (classes == 0).sum() > 1000
        for row in np.unique(rows[rows >= 0]):
            assert [CLASSES[kind] for kind in np.unique(classes[rows == row])] == [names[row]]
            names_seen.add(names[row])
            x, y, z = (points[rows == row] - boxes[row, :3]).T
            cos, sin = np.cos(boxes[row, 6]), np.sin(boxes[row, 6])
            outside = np.abs([x * cos + y * sin, y * cos - x * sin, z]).T - boxes[row, 3:6] / 2
            assert outside.max() < 0.13, names[row]  # 5 standard deviations of the noise, and float16
    assert names_seen >= {"car", "building"}


def test_the_route_lies_ahead(played):
    env, observations, infos = played
    ahead = observations[0]["route"]
    assert ahead.shape == (NUM_WAYPOINTS, 2) and ahead[0, 0] == pytest.approx(WAYPOINT_SPACING, abs=0.1)
    assert np.abs(np.hypot(*np.diff(ahead, axis=0).T) - WAYPOINT_SPACING).max() < 0.1
    state = infos[0]["state"].copy()
    layout = make_layout(int(state[0]))
    state[2:5], state[PROGRESS] = layout.route[-9], path_length(layout.route) - 8 * SPACING
    waypoints = env.observe_state(state)["route"]
    np.testing.assert_allclose(waypoints[1:], np.tile([4.0, 0.0], (NUM_WAYPOINTS - 1, 1)), atol=0.3)  # its end


def test_pictures_show_our_car_and_the_rays(played):
    env, observations, infos = played
    picture = env.render_state(infos[9]["state"])
    assert picture.shape == (320, 256, 3) and picture.dtype == np.uint8
    assert picture[133, 128].tolist() == [204, 40, 40] and picture[256:].max() > 100
    assert observations[9]["pixels"].shape == (48, 48, 3)


# ---- the car ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steer", [0.5, -0.2])
def test_the_car_drives_circles_of_the_bicycle_radius(steer):
    car = np.array([1.0, 2.0, 0.7, 5.0, steer * MAX_STEER])
    places = []
    for _ in range(200):
        car, distance = drive(car, np.array([steer, 0.0]))
        assert distance == pytest.approx(5.0 * STEP)
        places.append(car[:2] - WHEELBASE / 2 * np.array([np.cos(car[2]), np.sin(car[2])]))
    places = np.array(places)
    system = np.c_[2 * places, np.ones(len(places))]
    x, y, rest = np.linalg.lstsq(system, np.square(places).sum(1), rcond=None)[0]
    assert np.sqrt(rest + x * x + y * y) == pytest.approx(WHEELBASE / np.tan(abs(steer) * MAX_STEER), rel=1e-6)


def test_throttle_brake_and_wheel_keep_their_limits():
    car = np.zeros(5)
    for step in range(1, 30):
        car, _ = drive(car, np.array([9.0, 9.0]))  # clipped
        assert car[3] == pytest.approx(min(3.0 * STEP * step, 10.0))
        assert car[4] == pytest.approx(min(1.0 * STEP * step, MAX_STEER))
    for step in range(1, 20):
        car, distance = drive(car, np.array([0.0, -1.0]))
        assert car[3] == pytest.approx(max(10.0 - 6.0 * STEP * step, 0.0))
    assert distance == 0.0


# ---- drivers ----------------------------------------------------------------------------------------------------


def outcome(number: int, driver) -> tuple[bool, bool]:
    """Whether the drive on a street ends with a collision, and whether it gets to the end without."""
    layout = make_layout(number)
    state = start_state(layout)
    for _ in range(400):
        state = advance(layout, state, driver.act(state))
        if collides(layout, state):
            return True, False
        if state[PROGRESS] >= layout.length - ARRIVED:
            return False, True
    return False, False


def test_eyes_are_worth_something():
    numbers = range(HELD_OUT[0] + 300, HELD_OUT[0] + 306)
    expert = np.array([outcome(number, Driver()) for number in numbers])
    blind = np.array([outcome(number, BlindDriver()) for number in numbers])
    assert expert[:, 0].sum() == 0 and expert[:, 1].sum() >= 5
    assert blind[:, 0].sum() >= 4


def test_episodes_end_well_or_badly_as_they_should(played):
    env, _, infos = played
    state = infos[0]["state"].copy()
    layout = make_layout(int(state[0]))
    parked = layout.boxes[layout.classes == 1][0]
    state[2:5] = parked[[0, 1, 6]]
    state[PROGRESS] = SPACING * np.hypot(*(layout.route[:, :2] - parked[:2]).T).argmin()
    info = env.reset(options={"state": state})[1]
    assert info["collided"] and not info["success"]
    _, reward, terminated, _, info = env.step(np.zeros(2))
    assert terminated and info["collided"] and reward < -10

    state = infos[0]["state"].copy()
    state[2:4] += 9.0 * np.array([np.sin(state[4]), -np.cos(state[4])])  # astray
    env.reset(options={"state": state})
    _, reward, terminated, _, info = env.step(np.zeros(2))
    assert terminated and not info["success"] and reward < -10

    state = infos[0]["state"].copy()
    state[2:5], state[PROGRESS], state[SPEED], state[STEER] = layout.route[-3], layout.length - 1.0, 2.0, 0.0
    state[MOVER_PROGRESS] = layout.path_lengths  # all gone
    env.reset(options={"state": state})
    _, _, terminated, _, info = env.step(np.zeros(2))
    assert terminated and info["success"] and info["completion"] > 0.98 and info["distance"] == pytest.approx(0.4)


def test_the_player_records_what_was_executed_and_recovers():
    env = Street(beams=2, azimuths=3)
    player = StreetPlayer(strength=0.4)
    episode = record_episode(env, player, np.random.default_rng(1), num_frames=60)
    assert episode.group.startswith("street/") and episode.arrays["sweep"].shape == (60, 2, 3, 2)
    states, actions = episode.arrays["state"].astype(np.float64), episode.arrays["action"]
    assert np.abs(actions).max() <= 1 and len(np.unique(states[:, 0])) == 1
    meant = np.stack([player.driver.act(state) for state in states[:-1]])
    pushed = np.abs(meant - actions[:-1]).max(1) > 1e-6
    assert 0.05 < pushed.mean() < 0.6
    layout = make_layout(int(states[0, 0]))
    astray = [project(layout.route, state[2:4], state[PROGRESS])[1] for state in states]
    assert max(astray) < 3.0
    assert player.keep(states)
    states[30, 2:5] = layout.boxes[0][[0, 1, 6]]
    assert not player.keep(states)
