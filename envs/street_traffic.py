"""How things move on a street in a step of 0.2 s, as functions of the state alone: our car, the others, collisions.

The state, float64 (S,), as ``STATE_NAMES`` says: the layout's number; steps since the start; x, y, m, and heading, rad,
of our car's middle, its speed, m/s, and steering angle, rad; how far along the route it is and how far it has driven,
m; then for every mover how far along its path it is, m (the path's length: it is gone), and for every mover its speed.
"""

from __future__ import annotations

import math

import numpy as np

from envs.street_geometry import SPACING, overlaps, path_length, pose_on
from envs.street_layout import ASPHALT, CELL, EGO_SIZE, MARKING, NUM_MOVERS, PEDESTRIAN, Layout

STEP = 0.2  # s
WHEELBASE = 2.7  # m; the middle of the car lies half way
MAX_SPEED, THROTTLE, BRAKE = 10.0, 3.0, 6.0  # m/s and m/s^2
MAX_STEER, STEER_RATE = 0.6, 1.0  # rad and rad/s, of the wheels
ARRIVED, ASTRAY = 1.0, 6.0  # m before a route's end, m beside the route

EGO_NAMES = ("layout", "tick", "x", "y", "heading", "speed", "steer", "progress", "driven")
STATE_NAMES = (
    *EGO_NAMES,
    *(f"mover{number}_progress" for number in range(NUM_MOVERS)),
    *(f"mover{number}_speed" for number in range(NUM_MOVERS)),
)
LAYOUT, TICK, SPEED, STEER, PROGRESS, DRIVEN = 0, 1, 5, 6, 7, 8
POSE = slice(2, 5)
MOVER_PROGRESS = slice(len(EGO_NAMES), len(EGO_NAMES) + NUM_MOVERS)
MOVER_SPEED = slice(len(EGO_NAMES) + NUM_MOVERS, len(EGO_NAMES) + 2 * NUM_MOVERS)

LOOK = np.arange(1.0, 21.0)  # m along its path that a driver looks
STRIDE, CROSSING = 1, 9  # of LOOK, what somebody on foot looks at on the road, and before stepping onto it
WAIT, BOLD_WAIT, ON_ROAD_WAIT = 2.0, 1.2, 0.4  # s away that a car must be for them, before and on the road
YIELD = 1.0  # s away that another must be whose way we cross
RIGHT_OF_WAY = 6.0  # s away from a junction within which somebody on the route's road keeps others out of it
GAP = 1.5  # m between those who wait in a row
MOVER_BRAKE, MOVER_THROTTLE, SIDEWAYS = 6.0, 1.5, 2.5  # m/s^2; the last in curves


def start_state(layout: Layout) -> np.ndarray:
    """The state (S,) at the start of ``layout``'s route, everyone in motion but our car."""
    state = np.zeros(len(STATE_NAMES))
    state[LAYOUT], state[POSE] = layout.number, layout.route[0]
    state[MOVER_PROGRESS] = layout.start_progress
    state[MOVER_SPEED] = layout.cruise * (layout.start_progress < layout.path_lengths)
    return state


def advance(layout: Layout, state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """The state (S,) a step after ``state``, with steer and throttle ``action`` (2,) in [-1, 1]."""
    after = state.copy()
    after[MOVER_PROGRESS], after[MOVER_SPEED] = move(layout, state)
    steered, driven = drive(state[2:7], action)
    after[2:7] = steered
    after[TICK] += 1
    after[DRIVEN] += driven
    after[PROGRESS], _ = project(layout.route, after[2:4], state[PROGRESS])
    return after


def drive(car: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, float]:
    """A step of the kinematic bicycle: x, y, heading, speed, steering angle (5,) after those of ``car``, and m driven.

    Speed and steering angle change first; then the rear axle goes along an exact arc.
    """
    x, y, heading, speed, steer = car.tolist()
    wanted, throttle = (min(max(float(a), -1.0), 1.0) for a in action)
    steer += min(max(wanted * MAX_STEER - steer, -STEER_RATE * STEP), STEER_RATE * STEP)
    before = speed
    speed += throttle * (THROTTLE if throttle > 0 else BRAKE) * STEP
    speed = min(max(speed, 0.0), MAX_SPEED)
    distance = STEP * (before + speed) / 2
    half = WHEELBASE / 2
    turn = distance * math.tan(steer) / WHEELBASE
    chord = distance * float(np.sinc(turn / (2 * math.pi)))
    x += chord * math.cos(heading + turn / 2) + half * (math.cos(heading + turn) - math.cos(heading))
    y += chord * math.sin(heading + turn / 2) + half * (math.sin(heading + turn) - math.sin(heading))
    heading = math.remainder(heading + turn, 2 * math.pi)
    return np.array([x, y, heading, speed, steer]), distance


def project(route: np.ndarray, place: np.ndarray, near: float) -> tuple[float, float]:
    """How far along ``route`` (P, 3) the ``place`` (2,) is, and how far beside, m; not far from ``near`` m along it."""
    first = min(max(int((near - 4) / SPACING), 0), len(route) - 1)
    part = route[first : first + int(12 / SPACING) + 1]
    offset = place - part[:, :2]
    nearest = int(np.square(offset).sum(1).argmin())
    dx, dy = offset[nearest]
    along = dx * math.cos(part[nearest, 2]) + dy * math.sin(part[nearest, 2])
    progress = SPACING * (first + nearest) + min(max(along, -SPACING), SPACING)
    return min(max(progress, 0.0), path_length(route)), math.hypot(dx, dy)


def ego_box(state: np.ndarray) -> np.ndarray:
    """Our car's box (7,)."""
    return np.array([state[2], state[3], EGO_SIZE[2] / 2, *EGO_SIZE, state[4]])


def mover_boxes(layout: Layout, progress: np.ndarray) -> np.ndarray:
    """Boxes (M, ..., 7) of the movers when they are ``progress`` (M, ...) m along their paths."""
    lengths = layout.path_lengths.reshape(-1, *[1] * (progress.ndim - 1))
    laps = layout.laps.reshape(lengths.shape)
    pose = pose_on(layout.paths, np.where(laps, progress % lengths, progress))
    size = np.broadcast_to(layout.sizes.reshape(NUM_MOVERS, *[1] * (progress.ndim - 1), 3), pose.shape)
    return np.concatenate([pose[..., :2], size[..., 2:] / 2, size, pose[..., 2:]], -1)


def is_road(layout: Layout, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """bool (...): whether the places ``x``, ``y`` (...), which must lie on the ground map, are on a road."""
    row, column = ((y - layout.origin[1]) / CELL).astype(int), ((x - layout.origin[0]) / CELL).astype(int)
    material = layout.ground[row, column]
    return (material == ASPHALT) | (material == MARKING)


def present(layout: Layout, state: np.ndarray) -> np.ndarray:
    """bool (M,): the movers that have not left the street."""
    return state[MOVER_PROGRESS] < layout.path_lengths


def all_boxes(layout: Layout, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 7) of all that is there but our car, movers first, and their classes int (N,)."""
    there = present(layout, state)
    boxes = np.concatenate([mover_boxes(layout, state[MOVER_PROGRESS])[there], layout.boxes])
    return boxes, np.concatenate([layout.mover_classes[there], layout.classes])


def collides(layout: Layout, state: np.ndarray) -> bool:
    """Whether our car's box overlaps any other's."""
    return bool(overlaps(ego_box(state), all_boxes(layout, state)[0]).any())


def in_junction(layout: Layout, boxes: np.ndarray, to_hold: np.ndarray) -> np.ndarray:
    """bool (M,): which movers with ``boxes`` (M, 7) and ``to_hold`` (M,) m to the junction are in it."""
    comes = boxes[:, 0] * np.cos(boxes[:, 6]) + boxes[:, 1] * np.sin(boxes[:, 6]) < 0
    return (layout.hold > 0) & (to_hold < 0) & (comes | (np.hypot(boxes[:, 0], boxes[:, 1]) < layout.yard))


def _must_wait(
    layout: Layout, boxes: np.ndarray, speeds: np.ndarray, there: np.ndarray, to_hold: np.ndarray
) -> np.ndarray:
    """bool (M,): who stays before the junction now. ``boxes`` (M + 1, 7) has our car last; see :func:`move`."""
    distance = np.hypot(boxes[:, 0], boxes[:, 1])
    comes = boxes[:, 0] * np.cos(boxes[:, 6]) + boxes[:, 1] * np.sin(boxes[:, 6]) < 0
    near = (distance < layout.yard) | comes & (distance < layout.yard + RIGHT_OF_WAY * speeds)
    busy = (near & np.r_[there & ~layout.minor & (layout.hold > 0), True]).any()
    taken = (there & layout.minor & in_junction(layout, boxes[:-1], to_hold)).any()
    minor = there & layout.minor & (to_hold >= 0)
    enters = minor & (to_hold < 12)
    behind = np.cumsum(enters) - enters > 0  # somebody with a lower number is about to enter
    can_stop = to_hold > np.square(speeds[:-1]) / (2 * MOVER_BRAKE)
    return np.where(layout.minor, minor & (busy | taken | behind), (layout.hold > 0) & can_stop & taken)


def move(layout: Layout, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The movers' progress (M,) and speeds (M,) a step after ``state`` (S,).

    Each goes along its path as fast as it likes, less in curves and behind what is in its way; that is our car and
    the other movers where they are, and, for those who would come into the way of who goes first,
    where that will be in a second. Those from other roads let the route's road go first, and enter a junction one by
    one; while one is in it, nobody else enters. People on foot let cars pass that are near before they step onto the
    road, the bold only nearer ones.
    """
    progress, speed, there = state[MOVER_PROGRESS], state[MOVER_SPEED], present(layout, state)
    on_foot = layout.mover_classes == PEDESTRIAN
    boxes = np.concatenate([mover_boxes(layout, progress), ego_box(state)[None]])
    speeds, real = np.r_[speed, state[SPEED]], np.r_[there, True]
    ahead = mover_boxes(layout, progress[:, None] + LOOK)  # where they would be
    cos, sin = np.cos(boxes[:, 6]), np.sin(boxes[:, 6])
    dx, dy = (ahead[:, :, None, k] - boxes[:, k] for k in (0, 1))
    along, beside = dx * cos + dy * sin, dy * cos - dx * sin

    numbers = np.arange(NUM_MOVERS + 1)
    on_road = is_road(layout, boxes[:-1, 0], boxes[:-1, 1])
    steps_out = on_foot & ~on_road & is_road(layout, ahead[:, 0, 0], ahead[:, 0, 1])
    to_hold = layout.hold - progress - layout.sizes[:, 0] / 2
    crossing = layout.minor & (to_hold < 0)  # leaves the junction as soon as it can
    rank = np.r_[np.where(on_foot & on_road, -3, np.where(crossing, -2, numbers[:-1])), -1]
    yields = rank < rank[:-1, None]
    waits = np.where(steps_out, np.where(layout.bold, BOLD_WAIT, WAIT), ON_ROAD_WAIT)
    foreseen = np.where(on_foot[:, None], waits[:, None], YIELD * yields) * speeds
    # Cars pass nearer to those who stand waiting, and people nearer to cars: else some would wait for one another.
    stands = np.r_[on_foot & (speed == 0), False]
    room = layout.sizes[:, 1] / 2 + np.where(on_foot, 0.05, 0.3)
    side = room[:, None] - 0.2 * (stands & ~on_foot[:, None])
    in_way = (along > -boxes[:, 3] / 2 - side[:, None]) & (along < boxes[:, 3] / 2 + side[:, None] + foreseen[:, None])
    in_way &= np.abs(beside) < boxes[:, 4] / 2 + side[:, None]
    # Those behind who go our way will wait for us; people on foot make room for one another.
    back = (boxes[:, 0] - boxes[:NUM_MOVERS, None, 0]) * cos[:NUM_MOVERS, None]
    back = back + (boxes[:, 1] - boxes[:NUM_MOVERS, None, 1]) * sin[:NUM_MOVERS, None]
    our_way = np.cos(boxes[:, 6] - boxes[:NUM_MOVERS, None, 6]) > 0.5
    ignored = (back < 0) & our_way | ~real | (numbers == numbers[:NUM_MOVERS, None])
    ignored |= on_foot[:, None] & np.r_[on_foot, False]
    blocked = (in_way & ~ignored[:, None]).any(2)
    blocked[on_foot, STRIDE:] &= (steps_out[:, None] & (np.arange(len(LOOK)) < CROSSING))[on_foot, STRIDE:]
    first = np.where(blocked.any(1), LOOK[blocked.argmax(1)], np.inf)

    gap = np.maximum(first + room - layout.sizes[:, 0] / 2 - GAP, 0)
    gap = np.where(_must_wait(layout, boxes, speeds, there, to_hold), np.minimum(gap, to_hold - 1.0), gap)
    turn = np.abs(np.remainder(ahead[:, 6, 6] - ahead[:, 0, 6] + np.pi, 2 * np.pi) - np.pi) / (LOOK[6] - LOOK[0])
    limit = np.minimum(layout.cruise, np.sqrt(SIDEWAYS / np.maximum(turn, 1e-3)))
    wanted = np.minimum(limit, np.sqrt(2 * 2.5 * np.maximum(gap - STEP * speed, 0)))
    fast = np.clip(wanted, speed - MOVER_BRAKE * STEP, speed + MOVER_THROTTLE * STEP)
    fast = np.where(on_foot, layout.cruise * ~blocked.any(1), np.maximum(fast, 0)) * there
    progress = progress + STEP * np.where(on_foot, fast, (speed + fast) / 2) * there
    lengths = layout.path_lengths
    return np.where(layout.laps, progress % lengths, np.minimum(progress, lengths)), fast
