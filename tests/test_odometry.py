"""Our own motion as the simulator has it, and what it does to a view from above."""

import numpy as np
import pytest
import torch

from envs.street_traffic import STEP, WHEELBASE, drive
from worldjepa.odometry import Area, Vehicle, chained, placed, then
from worldjepa.voxels import STREET

AREA = Area((-6.4, 25.6), (-12.8, 12.8), 0.8)


def test_a_vehicle_moves_as_the_streets_car_does():
    rng, vehicle = np.random.default_rng(0), Vehicle(WHEELBASE, STEP)
    car = np.array([3.0, -2.0, 0.7, 5.0, 0.1])
    start, felt, steps = car.copy(), [car[3:]], []
    for _ in range(30):
        before = car
        car, _ = drive(car, rng.uniform(-1, 1, 2))
        felt.append(car[3:])
        cos, sin = np.cos(before[2]), np.sin(before[2])
        dx, dy = car[:2] - before[:2]
        steps.append([cos * dx + sin * dy, cos * dy - sin * dx, car[2] - before[2]])
    chain = torch.tensor(np.array(felt))
    moves = vehicle.moved(chain[:-1], chain[1:])
    np.testing.assert_allclose(moves.numpy(), np.array(steps), atol=1e-9)
    pose = chained(moves)[-1].numpy()
    cos, sin = np.cos(start[2]), np.sin(start[2])
    east, north = cos * pose[0] - sin * pose[1], sin * pose[0] + cos * pose[1]
    np.testing.assert_allclose(start[:2] + np.array([east, north]), car[:2], atol=1e-9)


def test_poses_one_after_the_other():
    g = torch.Generator().manual_seed(0)
    a, b, c = torch.randn(3, 5, 3, generator=g, dtype=torch.float64)
    torch.testing.assert_close(then(then(a, b), c), then(a, then(b, c)))
    points = torch.randn(5, 4, 2, generator=g, dtype=torch.float64)
    torch.testing.assert_close(placed(points, then(a, b)), placed(placed(points, b), a))


def blob(x: float, y: float) -> torch.Tensor:
    return torch.exp(-(AREA.centres() - torch.tensor([x, y])).square().sum(-1) / 4)[None, None]


def test_a_thing_that_stands_is_found_again_where_it_then_is():
    for pose in ([2.0, 0.0, 0.0], [0.0, 1.5, 0.0], [3.0, -1.0, 0.4]):
        pose = torch.tensor([pose])
        here = torch.tensor([[9.0, 2.0]])
        cos, sin = pose[0, 2].cos(), pose[0, 2].sin()
        dx, dy = (here - pose[:, :2])[0]
        there = float(cos * dx + sin * dy), float(cos * dy - sin * dx)
        carried = AREA.carried(blob(9.0, 2.0), pose)
        torch.testing.assert_close(carried, blob(*there), atol=0.06, rtol=0)
        assert (AREA.carried(blob(9.0, 2.0), torch.zeros(1, 3)) - blob(9.0, 2.0)).abs().max() < 1e-5
        assert (blob(*there) - blob(9.0, 2.0)).abs().max() > 0.3  # it has moved in the view


def test_what_comes_into_view_is_unknown():
    seen = AREA.carried(torch.ones(1, 1, *AREA.shape), torch.tensor([[4.0, 0.0, 0.0]]))[0, 0]
    assert (seen[:, -6:] < 0.99).any(1).all() and (seen[2:-2, :-6] > 0.99).all()


def test_an_area_is_cut_out_of_the_grid():
    bev = torch.arange(64 * 64.0).view(64, 64)
    cut = AREA.cut(bev, STREET)
    assert cut.shape == AREA.shape == (32, 40)
    assert cut[0, 0] == bev[16, 24] and cut[-1, -1] == bev[47, 63]
    # The cell whose middle is here is that of the points here.
    middle = AREA.centres()[5, 7]
    assert torch.equal(((middle - torch.tensor(STREET.low[:2])) / 0.8).floor(), torch.tensor([31.0, 21.0]))
    for x, y in (((-6.0, 25.6), (-12.8, 12.8)), ((-6.4, 32.0), (-12.8, 12.8)), ((-6.4, 25.6), (-32.0, 12.8))):
        with pytest.raises(ValueError, match="whole cells"):
            Area(x, y, 0.8).cut(bev, STREET)
