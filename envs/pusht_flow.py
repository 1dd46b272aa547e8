"""True optical flow between two states of PushT: two rigid shapes on a floor that stays, all of it geometry.

A pixel belongs to whatever its middle shows; the agent lies over the block, the block over the floor. Units and
states: :mod:`envs.pusht_physics`.
"""

from __future__ import annotations

import numpy as np

from envs.pusht_physics import AGENT_RADIUS, ARENA

FLOOR, BLOCK, AGENT = range(3)  # a higher one covers a lower one
_ROUNDING = 1e-6  # px; a point on an edge that has not moved is not covered


def segments(state: np.ndarray, image_size: int, rectangles: np.ndarray) -> np.ndarray:
    """int64 (image_size, image_size): FLOOR, BLOCK or AGENT, at a state (>= 5,).

    Args:
        rectangles: corners (2, 4, 2) of the block as it is drawn, in its own frame, px of the arena.
    """
    return _owner(state, _middles(image_size), rectangles)


def flow(
    state: np.ndarray, next_state: np.ndarray, image_size: int, rectangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Flow and visibility from ``state`` (>= 5,) to ``next_state`` (>= 5,), see :meth:`envs.pusht.PushT.flow`.

    Args:
        rectangles: see :func:`segments`.
    """
    here = _middles(image_size)
    owner = _owner(state, here, rectangles)[..., None]
    with_block = _in_block(state, here) @ _turn(next_state[4]).T + next_state[2:4]
    with_agent = here + (next_state[:2] - state[:2])
    there = np.where(owner == AGENT, with_agent, np.where(owner == BLOCK, with_block, here))
    scale = image_size / ARENA
    in_frame = (((there + 0.5) * scale >= 0) & ((there + 0.5) * scale <= image_size)).all(-1)
    visible = in_frame & (_owner(next_state, there, rectangles, _ROUNDING) <= owner[..., 0])
    return ((there - here) * scale).astype(np.float32), visible


def _middles(image_size: int) -> np.ndarray:
    """(image_size, image_size, 2): where the middles of the picture's pixels are in the arena, px."""
    # A world coordinate is the centre of gym-pusht's pixel of that number.
    along = (np.arange(image_size) + 0.5) * (ARENA / image_size) - 0.5
    return np.stack(np.meshgrid(along, along), -1)


def _turn(angle: float) -> np.ndarray:
    """(2, 2) rotation from the block's frame to the arena's."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def _in_block(state: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 2) of the arena in the block's frame."""
    return (points - state[2:4]) @ _turn(state[4])


def _owner(state: np.ndarray, points: np.ndarray, rectangles: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """int64 (...): what is on top at ``points`` (..., 2), whose edges are taken ``margin`` px further in."""
    local = _in_block(state, points)[..., None, :]
    low, high = rectangles.min(1) + margin, rectangles.max(1) - margin
    in_block = ((local >= low) & (local <= high)).all(-1).any(-1)
    in_agent = np.linalg.norm(points - state[:2], axis=-1) <= AGENT_RADIUS - margin
    return np.where(in_agent, AGENT, np.where(in_block, BLOCK, FLOOR))
