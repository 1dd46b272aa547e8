"""What a driver wants of a plan: to come on along the route, to meet nobody, and to sit comfortably."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldjepa.odometry import Area, Vehicle, placed


class DrivingCost(nn.Module):
    """Minus the m that a plan comes on along the route, and prices of what goes wrong on the way, in m.

    Args:
        meeting: of certainly being where something stands, for one step.
        beside: of being 1 m beside the route on average; it grows with the square.
        haste: of being 1 m/s over ``cruise`` on average; with the square.
        swing: of 1 m/s^2 sideways over ``sideways`` on average; with the square.
        cruise: m/s; ``sideways``: m/s^2.
        room: m that shall be free before and behind the car, and on both sides.
        unsure: chance below which a cell counts as free.
    """

    def __init__(
        self,
        meeting: float = 8.0,
        beside: float = 0.3,
        haste: float = 1.0,
        swing: float = 0.5,
        cruise: float = 6.5,
        sideways: float = 2.0,
        room: tuple[float, float] = (0.8, 0.4),
        unsure: float = 0.2,
    ):
        super().__init__()
        self.meeting, self.beside, self.haste, self.swing = meeting, beside, haste, swing
        self.cruise, self.sideways, self.room, self.unsure = cruise, sideways, tuple(room), unsure

    def forward(
        self, chance: Tensor, poses: Tensor, felt: Tensor, route: Tensor, area: Area, vehicle: Vehicle
    ) -> Tensor:
        """Cost (B,N), float32.

        Args:
            chance: (B,K,Y,X) 0..1 that something stands in a cell in K steps, in the present frame.
            poses: (B,N,K,3) where the plans lead, and ``felt`` (B,N,K,2): speed and steering angle there.
            route: (B,R,2) points of the route ahead, in the present frame, m.
        """
        speed, steer = felt.unbind(-1)
        come, off = along(route, poses[..., :2])
        cost = -come[..., -1] + self.beside * off.square().mean(-1)
        cost = cost + self.haste * (speed - self.cruise).clamp_min(0).square().mean(-1)
        swing = (speed.square() * steer.tan() / vehicle.wheelbase).abs()
        cost = cost + self.swing * (swing - self.sideways).clamp_min(0).square().mean(-1)
        return cost + self.meeting * self.met(chance, poses, area, vehicle).sum(-1)

    def met(self, chance: Tensor, poses: Tensor, area: Area, vehicle: Vehicle) -> Tensor:
        """(B,N,K): the largest chance over the car's box and the room around it, 0 where it is ``unsure``."""
        batch, plans, steps = poses.shape[:3]
        half = vehicle.length / 2 + self.room[0], vehicle.width / 2 + self.room[1]
        # No farther apart than a cell, or something might stand between.
        axes = [torch.linspace(-reach, reach, int(2 * reach / area.cell) + 2, device=poses.device) for reach in half]
        box = torch.cartesian_prod(*axes)
        points = placed(box.expand(*poses.shape[:3], -1, -1), poses)
        points = points.transpose(1, 2).reshape(batch * steps, plans * len(box), 2)
        found = area.read(chance.flatten(0, 1)[:, None], points)[:, 0].view(batch, steps, plans, len(box))
        return ((found.amax(-1) - self.unsure).clamp_min(0) / (1 - self.unsure)).transpose(1, 2)


def along(route: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """How far along a route points are from where the car is, m, and how far beside, both (B,...).

    Args:
        route: (B,R,2) its points ahead, R >= 2; before the first, it goes straight on backwards. Its end may be said
            several times.
        place: (B,...,2).
    """
    # A piece as long as two of the others, so that the car and what is just behind it have somewhere to be.
    points = torch.cat([3 * route[:, :1] - 2 * route[:, 1:2], route], 1)
    start, piece = points[:, :-1], points.diff(dim=1)
    length = piece.norm(dim=-1)
    unit = piece / length.clamp_min(1e-6)[..., None]
    run = torch.nn.functional.pad(length.cumsum(1), (1, 0))[:, :-1]
    spread = (len(route), *[1] * (place.ndim - 2), route.shape[1], 2)
    away = place[..., None, :] - start.view(spread)
    on = (away * unit.view(spread)).sum(-1)
    on = torch.minimum(on.clamp_min(0), length.view(spread[:-1]))
    off = (away - on[..., None] * unit.view(spread)).norm(dim=-1)
    off, nearest = off.min(-1)
    come = (on + run.view(spread[:-1])).gather(-1, nearest[..., None])[..., 0]
    here = (-start[:, 0] * unit[:, 0]).sum(-1)
    return come - here.view(-1, *[1] * (place.ndim - 2)), off
