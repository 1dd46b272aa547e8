"""Paths and boxes seen from above, m; angles in rad, counterclockwise from x.

A *path* is float64 (P, 3): x, y, heading every 0.5 m. A *box* is float64 (7,): x, y, z of its centre, length,
width, height, yaw.
"""

from __future__ import annotations

import math

import numpy as np

SPACING = 0.5  # m between a path's points
CLEARANCE = 0.35  # m between who drives round something and that
RAMP = 10.0  # m along which one steers to the side
NOSE = 2.2  # m that a car reaches ahead of its centre


def path_length(path: np.ndarray) -> float:
    return SPACING * (len(path) - 1)


def resample(points: np.ndarray) -> np.ndarray:
    """The path (P, 3) along ``points`` (n, 2); its length is cut to whole steps of 0.5 m."""
    run = np.r_[0.0, np.cumsum(np.hypot(*np.diff(points, axis=0).T))]
    along = np.arange(int(run[-1] / SPACING + 1e-6) + 1) * SPACING
    x, y = np.interp(along, run, points[:, 0]), np.interp(along, run, points[:, 1])
    return np.stack([x, y, np.arctan2(np.gradient(y), np.gradient(x))], -1)


def fillet(corners: np.ndarray, radii: list[float]) -> np.ndarray:
    """The path (P, 3) along ``corners`` (n, 2) whose n - 2 inner corners are rounded with ``radii``, m."""
    points = [corners[:1]]
    for before, corner, after, radius in zip(corners, corners[1:], corners[2:], radii, strict=False):
        into, out = (v / np.hypot(*v) for v in (corner - before, after - corner))
        turn = math.atan2(into[0] * out[1] - into[1] * out[0], into @ out)
        if abs(turn) < 1e-3:
            points.append(corner[None])
            continue
        start = corner - into * radius * math.tan(abs(turn) / 2)
        normal = math.copysign(1.0, turn) * np.array([-into[1], into[0]])
        angles = np.linspace(0, turn, max(3, int(abs(turn) * radius / 0.2)))[:, None]
        centre = start + radius * normal
        points.append(centre - radius * (normal * np.cos(angles) - math.copysign(1.0, turn) * into * np.sin(angles)))
    return resample(np.concatenate([*points, corners[-1:]]))


def shift(path: np.ndarray, left: float | np.ndarray) -> np.ndarray:
    """``path`` (P, 3) moved to its left by ``left`` m, a number or (P,)."""
    normal = np.stack([-np.sin(path[:, 2]), np.cos(path[:, 2])], -1)
    return resample(path[:, :2] + np.reshape(left, (-1, 1)) * normal)


def corners_of(boxes: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """(..., 4, 2): corners seen from above of ``boxes`` (..., 7), each side moved out by ``margin`` m."""
    half = boxes[..., 3:5] / 2 + margin
    local = half[..., None, :] * np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    cos, sin = np.cos(boxes[..., 6]), np.sin(boxes[..., 6])
    turned = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)
    return boxes[..., None, :2] + local @ turned


def overlaps(box: np.ndarray, boxes: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """bool (N,): which of ``boxes`` (N, 7) the box (7,) comes nearer than ``margin`` m, seen from above.

    By separating axes; boxes that just touch do not overlap. Near two corners the margin is a little more.
    """
    one, others = corners_of(box, margin), corners_of(boxes)
    separate = np.zeros(len(boxes), bool)
    for yaw in (np.full(len(boxes), box[6]), boxes[:, 6]):
        for axis in (np.stack([np.cos(yaw), np.sin(yaw)], -1), np.stack([-np.sin(yaw), np.cos(yaw)], -1)):
            a, b = axis @ one.T, np.einsum("nk,nck->nc", axis, others)
            separate |= (a.max(1) <= b.min(1)) | (b.max(1) <= a.min(1))
    return ~separate


def go_round(path: np.ndarray, boxes: np.ndarray, half_width: float) -> np.ndarray:
    """``path`` (P, 3) that keeps ``CLEARANCE`` from ``boxes`` (K, 7), for something of half ``half_width`` m."""
    need = np.zeros((2, len(path)))  # to the left and to the right
    run = int((NOSE + RAMP / 2) / SPACING)
    for corners in corners_of(boxes):
        sides = corners[:, None] + np.linspace(0, 1, 8)[:, None] * (np.roll(corners, -1, 0) - corners)[:, None]
        offset = sides.reshape(-1, 1, 2) - path[:, :2]
        nearest = np.square(offset).sum(-1).argmin(1)
        offset, heading = offset[np.arange(len(nearest)), nearest], path[nearest, 2]
        lateral = offset[:, 1] * np.cos(heading) - offset[:, 0] * np.sin(heading)
        along = offset[:, 0] * np.cos(heading) + offset[:, 1] * np.sin(heading)
        near = (np.abs(lateral) < half_width + CLEARANCE) & (np.abs(along) < 2 * SPACING)  # not beyond the path's ends
        if not near.any():
            continue
        side = 0 if lateral.mean() < 0 else 1
        amount = half_width + CLEARANCE + (lateral[near].max() if side == 0 else -lateral[near].min())
        reach = slice(max(nearest[near].min() - run, 0), nearest[near].max() + run + 1)
        need[side, reach] = np.maximum(need[side, reach], amount)
    window = np.hanning(int(RAMP / SPACING) + 1)
    left, right = (np.convolve(np.pad(n, len(window) // 2, "edge"), window / window.sum(), "valid") for n in need)
    return shift(path, left - right)


def pose_on(paths: np.ndarray, progress: np.ndarray) -> np.ndarray:
    """x, y, heading (M, ..., 3) at ``progress`` (M, ...) m along ``paths`` (M, P, 3), held at their ends."""
    place = np.clip(progress / SPACING, 0, paths.shape[1] - 1)
    before = np.minimum(place.astype(int), paths.shape[1] - 2)
    which = np.arange(len(paths)).reshape(-1, *[1] * (progress.ndim - 1))
    one, other = paths[which, before], paths[which, before + 1]
    step = other - one
    step[..., 2] = np.remainder(step[..., 2] + np.pi, 2 * np.pi) - np.pi
    return one + (place - before)[..., None] * step


def stack_paths(paths: list[np.ndarray]) -> np.ndarray:
    """(M, longest, 3), each padded with its last point."""
    longest = max(map(len, paths))
    return np.stack([np.concatenate([p, np.repeat(p[-1:], longest - len(p), 0)]) for p in paths])
