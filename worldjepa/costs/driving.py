"""What a driver wants of a plan: to come on along the route, to meet nobody, and to sit comfortably."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from worldjepa.odometry import Area, Vehicle, placed

STANDING = 0.4
"""m in a step: who moves less is half standing, and meets by as much less."""


class DrivingCost(nn.Module):
    """Minus the m that a plan comes on along the route, and prices of what goes wrong on the way, in m.

    A plan ends where it meets something: what it would come on afterwards does not count. Only our own motion meets:
    who drives into a car that stands is not its planner's business.

    Args:
        meeting: of certainly driving into something.
        tight: of 1 m driven with something in the room around the car.
        beside: of being 1 m beside the route on average; it grows with the square.
        haste: of being 1 m/s over ``cruise`` on average; with the square.
        swing: of 1 m/s^2 sideways over ``sideways`` on average; with the square.
        cruise: m/s; ``sideways``: m/s^2.
        room: m that should be free before and behind the car, and on both sides.
        unsure: chance below which a cell counts as free, in [0, 1).

    Raises:
        ValueError: ``unsure`` is no such chance.
    """

    def __init__(
        self,
        meeting: float = 20.0,
        tight: float = 0.5,
        beside: float = 1.5,
        haste: float = 4.0,
        swing: float = 0.5,
        cruise: float = 6.5,
        sideways: float = 2.0,
        room: tuple[float, float] = (1.5, 0.5),
        unsure: float = 0.3,
    ):
        super().__init__()
        if not 0 <= unsure < 1:
            raise ValueError(f"unsure must be a chance in [0, 1), got {unsure}")
        self.meeting, self.tight, self.beside, self.haste, self.swing = meeting, tight, beside, haste, swing
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
        gained = torch.diff(come, dim=-1, prepend=torch.zeros_like(come[..., :1]))
        moved = torch.diff(poses[..., :2], dim=-2, prepend=torch.zeros_like(poses[..., :1, :2])).norm(dim=-1)
        body, room = self.met(chance, poses, area, vehicle)
        going = (1 - body * (moved / STANDING).clamp_max(1)).cumprod(-1)
        cost = self.meeting * (1 - going[..., -1]) + (going * (self.tight * room * moved - gained)).sum(-1)
        cost = cost + self.beside * off.square().mean(-1)
        cost = cost + self.haste * (speed - self.cruise).clamp_min(0).square().mean(-1)
        swing = (speed.square() * steer.tan() / vehicle.wheelbase).abs()
        return cost + self.swing * (swing - self.sideways).clamp_min(0).square().mean(-1)

    def met(self, chance: Tensor, poses: Tensor, area: Area, vehicle: Vehicle) -> tuple[Tensor, Tensor]:
        """(B,N,K) twice: the largest chance over the car, and with the room around it; 0 where it is ``unsure``."""
        ahead, beside = vehicle.length / 2, vehicle.width / 2
        body = self._largest(chance, poses, area, (ahead, beside))
        room = self._largest(chance, poses, area, (ahead + self.room[0], beside + self.room[1]))
        return body, torch.maximum(body, room)

    def _largest(self, chance: Tensor, poses: Tensor, area: Area, half: tuple[float, float]) -> Tensor:
        batch, plans, steps = poses.shape[:3]
        # Half a cell apart at most: between two such points a single cell keeps more than half of its chance.
        counts = [math.ceil(4 * reach / area.cell) + 1 for reach in half]
        box = torch.cartesian_prod(
            *(torch.linspace(-reach, reach, n, device=poses.device) for reach, n in zip(half, counts, strict=True))
        )
        points = placed(box.expand(*poses.shape[:3], -1, -1), poses)
        points = points.transpose(1, 2).reshape(batch * steps, plans * len(box), 2)
        found = area.read(chance.flatten(0, 1)[:, None], points)[:, 0].view(batch, steps, plans, len(box))
        return ((found.amax(-1) - self.unsure).clamp_min(0) / (1 - self.unsure)).transpose(1, 2)


def along(route: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """How far along a route points are from where the car is, m, and how far beside, both (B,...).

    Args:
        route: (B,R,2) its points ahead, R >= 3; before the first, it bends as it does after it. Its end may be said
            several times.
        place: (B,...,2).
    """
    # Two more points, by the parabola through the first three: the car, and what is just behind it, are before the
    # first one, and a straight line through a curve's points ahead would pass beside the car.
    first, second, third = route[:, :1], route[:, 1:2], route[:, 2:3]
    bend = third - 2 * second + first
    ended = (third - second).norm(dim=-1, keepdim=True) < 0.5 * (second - first).norm(dim=-1, keepdim=True)
    bend = bend.masked_fill(ended, 0.0)
    here = 2 * first - second + bend
    points = torch.cat([2 * here - first + bend, here, route], 1)
    come, off = _nearest(points, place)
    car, _ = _nearest(points, place.new_zeros(len(points), 1, 2))
    return come - car.view(-1, *[1] * (place.ndim - 2)), off


def _nearest(points: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Of the nearest point of the line through ``points`` (B,L,2): how far along, and how far from ``place``."""
    start, piece = points[:, :-1], points.diff(dim=1)
    length = piece.norm(dim=-1)
    unit = piece / length.clamp_min(1e-6)[..., None]
    run = torch.nn.functional.pad(length.cumsum(1), (1, 0))[:, :-1]
    spread = (len(points), *[1] * (place.ndim - 2), piece.shape[1], 2)
    away = place[..., None, :] - start.view(spread)
    on = (away * unit.view(spread)).sum(-1)
    on = torch.minimum(on.clamp_min(0), length.view(spread[:-1]))
    off, nearest = (away - on[..., None] * unit.view(spread)).norm(dim=-1).min(-1)
    come = (on + run.view(spread[:-1])).gather(-1, nearest[..., None])[..., 0]
    return come, off
