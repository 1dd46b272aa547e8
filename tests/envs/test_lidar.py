"""The LiDAR measures what geometry says, adds the noise that it is asked for, and refuses what makes no sense."""

import mujoco
import numpy as np
import pytest

from envs.lidar import CLEARNESS, Lidar

# A wall 20 m ahead, 3 m high, and the ground.
SCENE = """<mujoco><worldbody><geom type="plane" size="0 0 1"/>
<body mocap="true" pos="20.5 0 1.5"><geom type="box" size=".5 15 1.5"/></body></worldbody></mujoco>"""
SMALL = {"beams": 7, "azimuths": 64}


@pytest.fixture(scope="module")
def scene():
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    return model, data


def test_rays_go_where_they_are_said_to():
    lidar = Lidar(**SMALL, elevations=(10.0, -20.0))
    directions = lidar.directions
    np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1)
    np.testing.assert_allclose(np.degrees(np.arcsin(directions[:, 0, 2])), np.linspace(10, -20, 7))
    ahead, left, right = directions[0, 31:33], directions[0, 16], directions[0, 48]
    assert (ahead[:, 0] > 0.97).all() and ahead[0, 1] > 0 > ahead[1, 1]
    assert left[1] > 0.97 and right[1] < -0.97
    assert directions[0, 0, 0] < -0.97  # the first column looks back


@pytest.mark.parametrize(("x", "y", "heading"), [(0.0, 0.0, 0.0), (3.0, -2.0, 0.3)])
def test_ranges_are_those_of_a_wall_and_flat_ground(scene, x, y, heading):
    lidar = Lidar(beams=32, azimuths=64, max_range=50.0)
    ranges, geoms, cosines = lidar.cast(*scene, x, y, heading)
    turn = np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])
    directions = np.concatenate([lidar.directions[..., :2] @ turn, lidar.directions[..., 2:]], -1)
    with np.errstate(divide="ignore"):
        ground = np.where(directions[..., 2] < 0, -1.7 / directions[..., 2], np.inf)
        wall = np.where(directions[..., 0] > 0, (20 - x) / directions[..., 0], np.inf)
    met = [np.array([x, y, 1.7])[k] + wall * directions[..., k] for k in (1, 2)]
    wall[(np.abs(met[0]) > 15) | (met[1] > 3) | (met[1] < 0)] = np.inf
    expected = np.minimum(ground, wall)
    side = np.abs(met[0]) > 14.5  # the wall's edge and its ends are left out
    expected[expected > 50] = 0
    clear = ~(side & np.isfinite(met[0]) & (directions[..., 0] > 0.6))
    np.testing.assert_allclose(ranges[clear], expected[clear], atol=1e-6)
    assert set(np.unique(geoms[ranges == 0])) == {-1}
    on_wall = clear & (wall < ground) & (expected > 0)
    assert on_wall.sum() > 50 and (geoms[on_wall] == 1).all()
    np.testing.assert_allclose(cosines[on_wall], directions[on_wall][:, 0], atol=1e-6)
    on_ground = clear & (ground < wall) & (expected > 0)
    np.testing.assert_allclose(cosines[on_ground], -directions[on_ground][:, 2], atol=1e-6)


def test_the_ground_is_seen_far_from_the_origin_too(scene):
    """MuJoCo's own cutoff would lose an infinite plane there."""
    lidar = Lidar(**SMALL)
    ranges, geoms, _ = lidar.cast(*scene, -400.0, 300.0, 0.0)
    assert (geoms[-1] == 0).all()
    np.testing.assert_allclose(ranges[-1], 1.7 / np.sin(np.radians(25)))


def test_all_rays_at_once_meet_what_single_rays_meet(scene):
    lidar = Lidar(**SMALL)
    ranges, geoms, _ = lidar.cast(*scene, 4.0, 1.0, 0.0)
    met = np.zeros(1, np.int32)
    for row, column in np.ndindex(lidar.beams, lidar.azimuths):
        ray = np.ascontiguousarray(lidar.directions[row, column])
        distance = mujoco.mj_ray(*scene, np.array([4.0, 1.0, 1.7]), ray, None, 1, -1, met)
        if distance > 60 or met[0] < 0:
            assert geoms[row, column] == -1
        else:
            assert geoms[row, column] == met[0] and ranges[row, column] == pytest.approx(distance)


def test_noise_and_dropout_have_the_size_asked_for():
    lidar = Lidar(beams=64, azimuths=512, range_noise=0.05, dropout=0.1)
    ranges = np.full((64, 512), 9.0)  # where float16 counts in 1/128 m
    sweep = lidar.measure(ranges, np.full_like(ranges, 0.5), np.full_like(ranges, 0.25), np.random.default_rng(0))
    lost = sweep[..., 0] == 0
    assert lost.mean() == pytest.approx(0.1, abs=0.01)
    assert (sweep[lost] == 0).all()
    error = sweep[~lost][:, 0].astype(float) - 9
    assert error.mean() == pytest.approx(0, abs=0.002) and error.std() == pytest.approx(0.05, rel=0.03)
    np.testing.assert_allclose(sweep[~lost][:, 1], 0.25 * np.exp(-9 / CLEARNESS), rtol=1e-3)
    still = Lidar(beams=64, azimuths=512, range_noise=0.0, dropout=0.0)
    ranges[3] = 0
    sweep = still.measure(ranges, ranges, ranges, np.random.default_rng(0))
    assert (sweep[3] == 0).all() and (sweep[4:, :, 0] == 9).all() and sweep[..., 1].max() == 1


def test_points_lie_where_their_rays_ended(scene):
    lidar = Lidar(**SMALL, range_noise=0.0, dropout=0.0)
    ranges, geoms, cosines = lidar.cast(*scene, 0.0, 0.0, 0.0)
    sweep = lidar.measure(ranges, np.ones_like(ranges), cosines, np.random.default_rng(0))
    points = lidar.to_points(sweep)
    assert points.dtype == np.float32 and points.shape == ((ranges > 0).sum(), 4)
    met = geoms[ranges > 0]  # points come in the order of the rays
    assert (met == 0).sum() > 100 and np.abs(points[met == 0, 2] + 1.7).max() < 0.02
    assert (met == 1).sum() > 5 and np.abs(points[met == 1, 0] - 20).max() < 0.02
    np.testing.assert_array_equal(points[:, 3], sweep[sweep[..., 0] > 0][:, 1])


@pytest.mark.parametrize(
    "arguments",
    [
        *({"beams": 0}, {"azimuths": 2.5}, {"beams": True}, {"elevations": (-25.0, 3.0)}, {"height": np.nan}),
        *({"max_range": 0.0}, {"max_range": 1e5}, {"dropout": 1.0}, {"range_noise": -1.0}),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Lidar(**arguments)


def test_bad_sweeps_are_refused():
    lidar = Lidar(**SMALL)
    sweep = np.ones((7, 64, 2), np.float16)
    for bad, words in ((sweep[:6], r"\(7, 64, 2\)"), (-sweep, ">= 0"), (sweep * np.nan, "finite")):
        with pytest.raises(ValueError, match=words):
            lidar.to_points(bad)
