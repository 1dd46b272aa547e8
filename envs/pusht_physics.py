"""PushT's physics: gym-pusht's bodies, exact states, where episodes start and when a goal is reached.

Positions are in px of a 512 x 512 arena (y points down), angles in rad, velocities in px/s. A simulator state is
float64 (7,), named by :data:`STATE_NAMES`; wherever one goes in, the first five numbers are enough and mean that the
agent stands still. The block's angle is not wrapped. The block's position is its body origin, the middle of the T's
top edge; its centre of gravity lies 45 px further down the stem (:func:`block_center`).
"""

from __future__ import annotations

import math
import os
import warnings

import numpy as np
import pymunk

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    from gym_pusht.envs.pusht import PushTEnv

ARENA = 512.0
STATE_NAMES = ("agent_x", "agent_y", "block_x", "block_y", "block_angle", "agent_vx", "agent_vy")
AGENT_RADIUS = 15.0
CENTER_OF_GRAVITY = (0.0, 45.0)  # of the block, in its own frame
GOAL_POSE = (256.0, 256.0, math.pi / 4)  # the green zone: x, y, angle of gym-pusht's only task
ACTION_SCALE = 100.0  # px from the agent to its target at a relative action of 1


def as_state(state: np.ndarray) -> np.ndarray:
    """A copy of ``state`` (5,) or (7,) as float64 (7,), velocities zero where they were missing.

    Raises:
        ValueError: another shape, a number that is not finite, or an agent outside the arena.
    """
    values = np.asarray(state, dtype=np.float64)
    if values.shape not in ((5,), (7,)):
        raise ValueError(f"a PushT state must have shape (5,) or (7,): {', '.join(STATE_NAMES)}; got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"a PushT state must be finite, got {values.tolist()}")
    if values[:2].min() < 0 or values[:2].max() > ARENA:
        raise ValueError(f"the agent must stand in the arena, 0..512 px, got {values[:2].tolist()}")
    return np.concatenate([values, np.zeros(7 - len(values))])


def angle_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b in [-pi, pi), rad, whatever the number of turns in between."""
    return (np.asarray(a) - np.asarray(b) + np.pi) % (2 * np.pi) - np.pi


def block_center(state: np.ndarray) -> np.ndarray:
    """The block's centre of gravity (..., 2), px, of states (..., >= 5)."""
    state = np.asarray(state)
    sin, cos = np.sin(state[..., 4]), np.cos(state[..., 4])
    x, y = CENTER_OF_GRAVITY
    return state[..., 2:4] + np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def reached(state: np.ndarray, goal_state: np.ndarray, tolerance: float = 1.0) -> np.ndarray:
    """bool (...): agent and block position (4 numbers) within 20 px and block angle within 20 degrees, x tolerance."""
    state, goal_state = np.asarray(state), np.asarray(goal_state)
    distance = np.linalg.norm(state[..., :4] - goal_state[..., :4], axis=-1)
    turn = np.abs(angle_difference(state[..., 4], goal_state[..., 4]))
    return (distance < 20 * tolerance) & (turn < tolerance * np.pi / 9)


class Physics:
    """gym-pusht's bodies in a pymunk space of our own: no picture, no coverage, no Python collision handler."""

    substeps = 10
    dt = 0.01

    def __init__(self):
        self._build()

    def _build(self) -> None:
        # A fresh space has no contact cache, so that what follows depends on the state alone.
        self.space = pymunk.Space()
        self.space.gravity = 0, 0
        self.space.damping = 0.0
        corners = ((5, 506), (5, 5), (506, 5), (506, 506))
        walls = [(corners[0], corners[1]), (corners[1], corners[2]), (corners[2], corners[3]), (corners[0], corners[3])]
        self.space.add(*[PushTEnv.add_segment(self.space, a, b, 2) for a, b in walls])
        self.agent = PushTEnv.add_circle(self.space, (256, 400), AGENT_RADIUS)
        self.block, self.block_shapes = PushTEnv.add_tee(self.space, (256, 300), 0)

    def state(self) -> np.ndarray:
        (x, y), (block_x, block_y), (vx, vy) = self.agent.position, self.block.position, self.agent.velocity
        return np.array([x, y, block_x, block_y, self.block.angle, vx, vy])

    def snapshot(self) -> np.ndarray:
        """float64 (10,): the state and the block's velocity (2) and angular velocity."""
        return np.array([*self.state(), *self.block.velocity, self.block.angular_velocity])

    def restore(self, values: np.ndarray) -> None:
        """Sets a :meth:`snapshot`, or a state (7,) with the block at rest.

        Two restores of one snapshot agree bit for bit. Against the simulation it was taken from, a restored one lacks
        the contact cache: a touching block may differ by some thousandths of a px after a step, more later.
        """
        x, y, block_x, block_y, angle, vx, vy, *block_velocity = np.asarray(values, dtype=np.float64).tolist()
        self._build()
        self.agent.position = x, y
        self.agent.velocity = vx, vy
        # The angle first: turning goes about the centre of gravity and moves the origin, which is then put right.
        self.block.angle = angle
        self.block.position = block_x, block_y
        if block_velocity:
            self.block.velocity = block_velocity[0], block_velocity[1]
            self.block.angular_velocity = block_velocity[2]
        self.space.reindex_shapes_for_body(self.agent)
        self.space.reindex_shapes_for_body(self.block)

    def step(self, target_x: float, target_y: float) -> None:
        """0.1 s under gym-pusht's PD control (k_p 100, k_v 20) towards a target in px."""
        agent, space_step, dt = self.agent, self.space.step, self.dt
        for _ in range(self.substeps):
            x, y = agent.position
            vx, vy = agent.velocity
            # gym-pusht's order of operations, so that results agree to the last bit.
            ax = 100 * (target_x - x) + 20 * (0 - vx)
            ay = 100 * (target_y - y) + 20 * (0 - vy)
            agent.velocity = vx + ax * dt, vy + ay * dt
            space_step(dt)

    def step_relative(self, dx: float, dy: float) -> None:
        """One step towards a target that lies (dx, dy) in [-1, 1] x 100 px from the agent, at least 20 px off the
        arena's edge."""
        x, y = self.agent.position
        self.step(
            min(max(x + ACTION_SCALE * dx, 20.0), 492.0),
            min(max(y + ACTION_SCALE * dy, 20.0), 492.0),
        )


def task_state(rng: np.random.Generator) -> np.ndarray:
    """A state (7,) at rest as gym-pusht draws the starts of its task; the agent may lie in the block."""
    agent, block = rng.integers(50, 450, 2), rng.integers(100, 400, 2)
    angle = rng.uniform(-np.pi, np.pi)
    # gym-pusht sets the position first: turning about the centre of gravity then moves the origin.
    off = CENTER_OF_GRAVITY[1]
    x, y = block[0] + off * np.sin(angle), block[1] + off * (1 - np.cos(angle))
    return np.array([*agent, x, y, angle, 0.0, 0.0])


def random_state(rng: np.random.Generator) -> np.ndarray:
    """A state (7,) at rest: the block anywhere a hand's breadth off the walls, the agent not in it."""
    while True:
        block, agent, angle = rng.uniform(130, 382, 2), rng.uniform(40, 472, 2), rng.uniform(-np.pi, np.pi)
        state = np.array([*agent, *block, angle, 0.0, 0.0])
        if np.linalg.norm(agent - block_center(state)) > 95:  # the block and the agent fit in 92
            return state
