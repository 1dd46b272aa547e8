"""How a round agent moves the T: where it can lean on it, what a push there does, and how to walk round it.

Lengths in px, angles in rad. The agent is steered by generators (:data:`Skill`), advanced once per simulated step,
hence plain floats: a skill must not cost more than the physics.
"""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np

from envs.pusht_physics import AGENT_RADIUS, CENTER_OF_GRAVITY

Target = tuple[float, float]
Skill = Generator[Target, None, None]
"""Yields the point (px) to go to, once per step, and returns when done; reads the player's pose in between."""

Contact = tuple[float, float, float, float, float]
"""x, y, inward normal x, y, and torque per unit force, in the block's frame."""

Motion = tuple[float, float, float]
"""dx, dy (px), dtheta (rad)."""

# The block's moment of inertia over its mass, px^2 (gym-pusht's choice: twice 1275 + 15^2 of its bar). Damping is total
# and contacts have no friction, so a push at a point with inward normal n moves the block by (n, torque / INERTIA).
INERTIA = 3000.0
CLEARANCE = 115.0  # px from the block's centre at which the agent walks round it; the two touch at 92 or less


def _contacts() -> list[Contact]:
    """Where the agent can lean on the T: (x, y, normal x, normal y, torque) in the block's frame, about 12 px apart."""
    edges = [
        # start, end, inward normal; clear of the corners, and of the stem by the agent's width.
        ((-54, 0), (54, 0), (0, 1)),
        ((-55, 30), (-31, 30), (0, -1)),
        ((31, 30), (55, 30), (0, -1)),
        ((-60, 5), (-60, 25), (1, 0)),
        ((60, 5), (60, 25), (-1, 0)),
        ((-15, 47), (-15, 115), (1, 0)),
        ((15, 47), (15, 115), (-1, 0)),
        ((-10, 120), (10, 120), (0, -1)),
    ]
    contacts = []
    for (x0, y0), (x1, y1), (nx, ny) in edges:
        count = 1 + max(1, round(math.hypot(x1 - x0, y1 - y0) / 12))
        for i in range(count):
            x, y = x0 + (x1 - x0) * i / (count - 1), y0 + (y1 - y0) * i / (count - 1)
            torque = (x - CENTER_OF_GRAVITY[0]) * ny - (y - CENTER_OF_GRAVITY[1]) * nx
            contacts.append((x, y, float(nx), float(ny), torque))
    return contacts


CONTACTS = _contacts()


class Pose:
    """The state as floats, with the block's frame at hand."""

    __slots__ = ("angle", "block_x", "block_y", "center_x", "center_y", "cos", "sin", "x", "y")

    def update(self, state: np.ndarray) -> None:
        self.x, self.y, self.block_x, self.block_y, self.angle = state[:5].tolist()
        self.cos, self.sin = math.cos(self.angle), math.sin(self.angle)
        self.center_x, self.center_y = self.to_world(*CENTER_OF_GRAVITY)

    def to_world(self, x: float, y: float) -> Target:
        return self.block_x + self.cos * x - self.sin * y, self.block_y + self.sin * x + self.cos * y

    def to_block(self, x: float, y: float) -> Target:
        x, y = x - self.block_x, y - self.block_y
        return self.cos * x + self.sin * y, self.cos * y - self.sin * x


def needed_motion(pose: Pose, goal: Motion) -> Motion:
    """How far the block is from ``goal`` (centre x, y, angle): (dx, dy) px in the block's frame, angle in rad."""
    dx, dy = goal[0] - pose.center_x, goal[1] - pose.center_y
    turn = (goal[2] - pose.angle + math.pi) % (2 * math.pi) - math.pi
    return pose.cos * dx + pose.sin * dy, pose.cos * dy - pose.sin * dx, turn


def push_length(need: Motion, contact: Contact) -> float:
    """How far (px of the block's centre) to push at ``contact`` to come closest to ``need``; negative: not from here.

    Distances between poses are sqrt(dx^2 + dy^2 + INERTIA dtheta^2), in which frictionless pushes are projections.
    """
    _, _, nx, ny, torque = contact
    return (need[0] * nx + need[1] * ny + need[2] * torque) / (1 + torque * torque / INERTIA)


def push_gain(need: Motion, contact: Contact) -> float:
    """Distance in px that the best push at ``contact`` removes from ``need``, at most the whole of it."""
    return push_length(need, contact) * math.sqrt(1 + contact[4] ** 2 / INERTIA)


def walk(pose: Pose, x: float, y: float) -> Target:
    """The next point on a way to (x, y) that goes round the block: straight, or along a circle about its centre."""
    dx, dy = x - pose.x, y - pose.y
    length = math.hypot(dx, dy) + 1e-6
    along = ((pose.center_x - pose.x) * dx + (pose.center_y - pose.y) * dy) / (length * length)
    if length < 45 or not 0 < along < 1:
        return x, y
    out_x, out_y = pose.x + dx * along - pose.center_x, pose.y + dy * along - pose.center_y
    distance = math.hypot(out_x, out_y)
    if distance > 85:
        return x, y
    if distance < 1:
        out_x, out_y, distance = -dy, dx, length
    scale = CLEARANCE / distance
    return inside(pose.center_x + out_x * scale), inside(pose.center_y + out_y * scale)


def walk_round(pose: Pose, x: float, y: float, side: int) -> Skill:
    """Walks to (x, y) the one way (``side`` 1) or the other (-1) round the block, first stepping back from it."""
    for _ in range(30):
        away_x, away_y = pose.x - pose.center_x, pose.y - pose.center_y
        here, there = math.atan2(away_y, away_x), math.atan2(y - pose.center_y, x - pose.center_x)
        left = side * (there - here) % (2 * math.pi)  # angle still to go
        if left < 0.3 or left > 2 * math.pi - 0.3:
            yield x, y
            continue
        # Turning waits until there is room to turn.
        turn = side * min(left, 0.7 if math.hypot(away_x, away_y) > 95 else 0.15)
        yield (
            inside(pose.center_x + CLEARANCE * math.cos(here + turn)),
            inside(pose.center_y + CLEARANCE * math.sin(here + turn)),
        )


def inside(x: float) -> float:
    return min(max(x, 22.0), 490.0)


def push_at(pose: Pose, contact: Contact, goal: Motion, limit: float) -> Skill:
    """Walks to a contact and pushes along its normal for at most ``limit`` px, or as far as the goal asks.

    Gives up after 35 steps of walking or 25 of pushing.
    """
    x, y, nx, ny, torque = contact
    lever = 1 + torque * torque / INERTIA  # motion of the contact point per px of the centre
    gap = AGENT_RADIUS + 8
    for _ in range(35):
        start_x, start_y = pose.to_world(x - gap * nx, y - gap * ny)
        if math.hypot(start_x - pose.x, start_y - pose.y) < 12:
            break
        yield walk(pose, inside(start_x), inside(start_y))
    else:
        return
    origin_x, origin_y = pose.x, pose.y
    for _ in range(25):
        left = push_length(needed_motion(pose, goal), contact)
        if left < 3 or math.hypot(pose.x - origin_x, pose.y - origin_y) > limit:
            return
        reach = min(left * lever, 60.0) - AGENT_RADIUS
        yield pose.to_world(x + reach * nx, y + reach * ny)
