"""A driver that plans: on a road that it sees as it is, it goes, stops in time and passes, alone or beside others."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from policies.driving import DrivingPolicy
from worldjepa.costs.driving import DrivingCost
from worldjepa.odometry import Area, Vehicle, chained
from worldjepa.planners import CEM

AREA, VEHICLE = Area((-6.4, 25.6), (-12.8, 12.8), 0.8), Vehicle()


class ClearWorld(nn.Module):
    """Its sweep says which cells are taken, for good, and its car does as it is told."""

    def __init__(self):
        super().__init__()
        self.area, self.vehicle = AREA, VEHICLE
        self.action_low, self.action_high = torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0])
        self.weight = nn.Parameter(torch.zeros(1))

    def look(self, seen: dict[str, Tensor]) -> Tensor:
        return seen["sweep"].float()[:, :, None]

    def rollout(self, before: Tensor, now: Tensor, move: Tensor, steps: int) -> Tensor:
        return now[:, None].expand(-1, steps, -1, -1, -1)

    def chance(self, latent: Tensor) -> Tensor:
        return 20 * (latent[:, :, 0] - 0.5)

    def response(self, felt: Tensor, action: Tensor) -> Tensor:
        speed, steer = felt.unbind(-1)
        turn, throttle = action.unbind(-1)
        speed = (speed + 0.2 * torch.where(throttle > 0, 3 * throttle, 6 * throttle)).clamp(0, 10)
        return torch.stack([speed, steer + (0.6 * turn - steer).clamp(-0.2, 0.2)], -1)

    def driven(self, felt: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        states = [felt]
        for step in range(action.shape[-2]):
            states.append(self.response(states[-1], action[..., step, :]))
        chain = torch.stack(states, -2)
        return chained(VEHICLE.moved(chain[..., :-1, :], chain[..., 1:, :])), chain[..., 1:, :]


def make_policy(**settings) -> DrivingPolicy:
    planner = CEM(100, 4, 10, initial_std=0.6, min_std=0.05)
    return DrivingPolicy(ClearWorld(), planner, DrivingCost(), horizon=5, hold=2, **settings)


def drive(policy: DrivingPolicy, taken: list[tuple[float, float]], steps: int = 40, seed: int = 0):
    """On a straight road along x, with posts at ``taken``; (x, y, speed) at every step."""
    policy.reset({}, [seed])
    pose, felt, world, path = torch.zeros(3), torch.tensor([5.0, 0.0]), policy.model, []
    for _ in range(steps):
        action = torch.from_numpy(policy.act(seen(pose, felt, taken)))[0]
        after = world.response(felt, action.clamp(-1, 1))
        move = VEHICLE.moved(felt, after)
        cos, sin = pose[2].cos(), pose[2].sin()
        pose = pose + torch.stack([cos * move[0] - sin * move[1], sin * move[0] + cos * move[1], move[2]])
        felt = after
        path.append((*pose[:2].tolist(), float(felt[0])))
    return np.array(path)


def seen(pose: Tensor, felt: Tensor, taken: list[tuple[float, float]]) -> dict[str, np.ndarray]:
    cos, sin = pose[2].cos(), pose[2].sin()

    def ours(points: Tensor) -> Tensor:
        away = points - pose[:2]
        return torch.stack([cos * away[:, 0] + sin * away[:, 1], cos * away[:, 1] - sin * away[:, 0]], -1)

    cells = np.zeros((1, *AREA.shape), np.float32)
    for x, y in ours(torch.tensor(taken).view(-1, 2)).tolist():
        column, row = int((x + 6.4) // 0.8), int((y + 12.8) // 0.8)
        if 0 <= column < cells.shape[2] and 0 <= row < cells.shape[1]:
            cells[0, row, column] = 1.0
    ahead = torch.stack([pose[0] + 3.0 * torch.arange(1, 11), torch.zeros(10)], -1)
    return {"sweep": cells, "proprioception": felt[None].numpy(), "route": ours(ahead)[None].numpy()}


WALL = [(30.0, 0.8 * k) for k in range(-8, 9)]


def test_on_a_free_road_it_comes_on_at_its_speed():
    path = drive(make_policy(), [])
    assert path[-1, 0] > 40 and np.abs(path[:, 1]).max() < 0.3
    assert 6.0 < path[20:, 2].mean() < 7.2


def test_it_stops_before_what_it_cannot_pass():
    path = drive(make_policy(), WALL, steps=60)
    assert path[-1, 2] < 0.2 and 20 < path[-1, 0] < 30 - VEHICLE.length / 2


def test_it_drives_round_what_leaves_it_room():
    """A post half in its way: straight on would hit it, and so would no more than a swerve of its room."""
    path = drive(make_policy(), [(20.0, -1.0), (20.0, -0.6)])
    beside = path[np.abs(path[:, 0] - 20.0) < VEHICLE.length / 2]
    assert path[-1, 0] > 30 and len(beside) and (beside[:, 1] - VEHICLE.width / 2 > -0.6).all()


def test_a_drive_does_not_depend_on_the_others():
    """Two environments side by side plan as each does alone."""
    pose, felts = torch.zeros(3), torch.tensor([[5.0, 0.0], [2.0, 0.1]])
    alone = []
    for i, taken in enumerate(([], WALL)):
        policy = make_policy()
        policy.reset({}, [i])
        alone.append(policy.act(seen(pose, felts[i], taken))[0])
    both = make_policy()
    both.reset({}, [0, 1])
    parts = [seen(pose, felts[i], taken) for i, taken in enumerate(([], WALL))]
    together = both.act({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    np.testing.assert_array_equal(together, np.stack(alone))


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="replan_every between 1 and horizon"):
        make_policy(replan_every=11)
