"""What a driver wants: to come on, on the route, and not into others."""

import pytest
import torch

from worldjepa.costs.driving import DrivingCost, along
from worldjepa.odometry import Area, Vehicle

AREA, VEHICLE = Area((-6.4, 25.6), (-12.8, 12.8), 0.8), Vehicle()
STRAIGHT = torch.stack([3.0 * torch.arange(1, 11), torch.zeros(10)], -1)[None]


def cost(poses, chance=None, speed=5.0, steer=0.0, route=STRAIGHT, **settings):
    """Of plans (N,K,3)."""
    poses = torch.as_tensor(poses, dtype=torch.float32)[None]
    chance = torch.zeros(1, poses.shape[2], *AREA.shape) if chance is None else chance
    felt = torch.tensor([speed, steer]).expand(*poses.shape[:3], 2)
    return DrivingCost(**settings)(chance, poses, felt, route, AREA, VEHICLE)[0]


def straight_on(*ends: float, steps: int = 4, beside: float = 0.0):
    return [[[end * (k + 1) / steps, beside, 0.0] for k in range(steps)] for end in ends]


def taken(x: float, y: float, steps: int = 4) -> torch.Tensor:
    """Something of one cell, there at every step."""
    near = (AREA.centres() - torch.tensor([x, y])).abs().amax(-1) < 0.41
    assert near.any()
    return near.float().expand(1, steps, -1, -1)


def test_it_is_minus_the_way_on_a_free_road():
    torch.testing.assert_close(cost(straight_on(8.0, 4.0, 0.0)), torch.tensor([-8.0, -4.0, 0.0]))


def test_beside_the_route_costs_with_the_square():
    near, far = (cost(straight_on(8.0, beside=off)) for off in (1.0, 2.0))
    torch.testing.assert_close(near + 8, torch.tensor([1.5]))
    torch.testing.assert_close(far + 8, torch.tensor([6.0]))


def test_haste_and_swing_cost_over_their_bounds_alone():
    plan = straight_on(8.0)
    assert torch.equal(cost(plan, speed=6.5), cost(plan, speed=3.0))
    torch.testing.assert_close(cost(plan, speed=8.5) + 8, torch.tensor([16.0]))
    swing = 36.0 * torch.tensor(0.4).tan() / 2.7 - 2.0
    torch.testing.assert_close(cost(plan, speed=6.0, steer=0.4) + 8, 0.5 * swing.square()[None])


def test_a_plan_ends_where_it_meets_something():
    stop, go, round_it = straight_on(3.0, 12.0) + straight_on(12.0, beside=3.0)
    # Taken are the cells with centres 6.0 and 6.8 m ahead; the car's front is there at the second of four steps.
    plans, there = [stop, go, round_it], taken(6.4, 0.0)
    free, met = cost(plans, beside=0.0), cost(plans, there, beside=0.0, tight=0.0)
    torch.testing.assert_close(free, torch.tensor([-3.0, -12.0, -12.0]))
    assert met[0] == free[0] and met[2] == free[2]  # neither comes near
    torch.testing.assert_close(met[1], torch.tensor(20.0 - 3.0))  # only its first step counts
    faint = cost([go], 0.05 * there)
    assert torch.equal(faint, cost([go]))  # it is unsure


def test_who_stands_meets_nobody():
    on_us = taken(0.4, 0.4)
    assert cost(straight_on(0.0), on_us) == 0
    assert cost(straight_on(4.0), on_us) > 10


def test_tight_places_cost_by_the_way_through_them():
    """Something half a metre from the car's side is passed, though not for nothing."""
    plan, beside = straight_on(8.0), taken(4.4, 1.6 + 0.4)
    driver = DrivingCost(unsure=0.1)
    body, room = driver.met(beside, torch.tensor(plan)[None], AREA, VEHICLE)
    assert not body.any() and room.max() > 0.1
    torch.testing.assert_close(cost(plan, beside, unsure=0.1) + 8, (0.5 * room * 2.0).sum(-1)[0])


def test_nothing_slips_through_the_box():
    """Wherever under the car a cell is taken, the body meets it; outside of the room around it, nothing does."""
    driver = DrivingCost(unsure=0.1)
    pose = torch.tensor([[[[5.0, 1.0, 0.5]]]])
    centres = AREA.centres()
    cos, sin = torch.tensor(0.5).cos(), torch.tensor(0.5).sin()
    away = centres - torch.tensor([5.0, 1.0])
    ahead, left = cos * away[..., 0] + sin * away[..., 1], cos * away[..., 1] - sin * away[..., 0]
    half = VEHICLE.length / 2, VEHICLE.width / 2
    inside = (ahead.abs() < half[0]) & (left.abs() < half[1])
    outside = (ahead.abs() > half[0] + driver.room[0] + 1.2) | (left.abs() > half[1] + driver.room[1] + 1.2)
    assert inside.sum() >= 10
    for kind, hit in ((inside, True), (outside, False)):
        for row, column in kind.nonzero()[::5].tolist():
            chance = torch.zeros(1, 1, *AREA.shape)
            chance[0, 0, row, column] = 1.0
            body, room = driver.met(chance, pose, AREA, VEHICLE)
            assert bool(body > 0.4) == bool(room > 0.4) == hit and body <= room


def test_along_a_bend_and_past_its_end():
    turn = torch.tensor([[[3.0, 0.0], [6.0, 0.0], [9.0, 0.0], [9.0, 3.0], [9.0, 6.0], [9.0, 6.0]]])  # its end twice
    places = torch.tensor([[[0.0, 0.0], [7.0, 0.5], [8.5, 4.0], [9.0, 9.0], [-1.0, 0.0]]])
    come, off = along(turn, places)
    torch.testing.assert_close(come, torch.tensor([[0.0, 7.0, 13.0, 15.0, -1.0]]))
    torch.testing.assert_close(off, torch.tensor([[0.0, 0.5, 0.5, 3.0, 0.0]]))


def test_the_route_under_the_car_bends_as_it_does_ahead():
    """On an arc of 10 m the points start 3 m ahead of us; a straight line through the first two passes 0.9 m beside."""
    angle = torch.arange(-1, 11) * 0.3
    arc = torch.stack([10 * angle.sin(), 10 - 10 * angle.cos()], -1)
    come, off = along(arc[None, 2:], arc[None, :3])
    assert off[0, 1:].max() < 0.1
    torch.testing.assert_close(come[0], torch.tensor([-3.0, 0.0, 3.0]), atol=0.3, rtol=0)


def test_a_chance_that_is_none_is_refused():
    with pytest.raises(ValueError, match="unsure must be a chance in"):
        DrivingCost(unsure=1.0)


def test_every_environment_has_a_cost_of_its_own():
    chance = torch.cat([taken(8.0, 0.0), torch.zeros_like(taken(8.0, 0.0))])
    poses = torch.tensor(straight_on(8.0)).expand(2, -1, -1, -1)
    felt = torch.tensor([5.0, 0.0]).expand(2, 1, 4, 2)
    both = DrivingCost()(chance, poses, felt, STRAIGHT.expand(2, -1, -1), AREA, VEHICLE)
    assert both[0, 0] > both[1, 0] + 5
