"""Those who drive on a street: an expert, the player that makes data with it, and one who sees nothing.

Drivers know the simulator state, and their actions depend on nothing else: what the expert would have done in any
stored state can be asked later.
"""

from __future__ import annotations

import math

import numpy as np

from envs.street_geometry import SPACING
from envs.street_layout import EGO_SIZE, NUM_LAYOUTS, Layout
from envs.street_scene import layout_of
from envs.street_traffic import (
    ARRIVED,
    BRAKE,
    MAX_SPEED,
    MAX_STEER,
    MOVER_BRAKE,
    MOVER_PROGRESS,
    MOVER_SPEED,
    POSE,
    PROGRESS,
    SPEED,
    STEP,
    THROTTLE,
    WHEELBASE,
    advance,
    collides,
    in_junction,
    mover_boxes,
    present,
    start_state,
)

TRAINING = (0, 1_000_000)
"""Layouts for training, the first and the one after the last; all others are for judging, see ``HELD_OUT``."""
HELD_OUT = (1_000_000, 2_000_000)

TIMES = STEP * np.arange(1, 21)  # s ahead that the expert foresees
SIGHT = 34.0  # m ahead along its line
ACCELERATIONS = np.array([3.0, 2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0, -3.0, -4.5, -6.0])  # m/s^2, that it weighs
HELD, COASTED, SOFT_BRAKE = 2, 4, 3.0  # steps that it would hold one and then coast, before it would brake, m/s^2
SIDE_ROOM, FRONT_ROOM = 0.4, 1.0  # m
SIDEWAYS, SLOWING = 2.0, 2.0  # m/s^2 in curves and before them


def pursue(path: np.ndarray, state: np.ndarray) -> tuple[float, int]:
    """Pure pursuit of ``path`` (P, 3), which starts where the route does: steer in [-1, 1], and the nearest point.

    The rear axle is led along an arc to a point 3.5 to 7 m ahead, farther at speed.
    """
    x, y, heading = state[POSE].tolist()
    first = max(int((state[PROGRESS] - 8) / SPACING), 0)
    part = path[first : first + int(16 / SPACING)]
    nearest = first + int(np.square(part[:, :2] - [x, y]).sum(1).argmin())
    reach = min(max(0.8 * state[SPEED], 3.5), 7.0)
    target = path[min(nearest + round(reach / SPACING), len(path) - 1)]
    dx = target[0] - x + WHEELBASE / 2 * math.cos(heading)
    dy = target[1] - y + WHEELBASE / 2 * math.sin(heading)
    angle = math.atan2(dy, dx) - heading
    steer = math.atan(2 * WHEELBASE * math.sin(angle) / max(math.hypot(dx, dy), 1.0))
    return min(max(steer / MAX_STEER, -1.0), 1.0), nearest


def throttle_for(acceleration: float) -> float:
    """In [-1, 1], for m/s^2."""
    return min(max(acceleration / (THROTTLE if acceleration > 0 else BRAKE), -1.0), 1.0)


class Driver:
    """The expert: follows the route, steers round parked cars, brakes for whoever will be in its way.

    It foresees everyone at their present speed for four seconds and takes the strongest acceleration after which it
    could still coast a little and brake gently without meeting anybody.

    Args:
        cruise: speed on a free road, m/s, in 0..10.

    Raises:
        ValueError: a speed that the car does not reach.
    """

    def __init__(self, cruise: float = 7.0):
        if not 0 < cruise <= MAX_SPEED:
            raise ValueError(f"cruise must lie in 0..{MAX_SPEED} m/s, got {cruise!r}")
        self.cruise = float(cruise)

    def begin(self, rng: np.random.Generator) -> None:
        """A new drive; nothing is remembered and nothing drawn."""

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (2,): steer and throttle in [-1, 1] for the simulator state (S,)."""
        state = np.asarray(state, np.float64)
        layout = layout_of(state)
        steer, nearest = pursue(layout.line, state)
        if state[PROGRESS] >= layout.length - ARRIVED:
            return np.array([steer, -1.0], np.float32)
        speed, limit = float(state[SPEED]), self._limit(layout.line, nearest)
        allowed = np.minimum(ACCELERATIONS, max((limit - speed) / STEP, -BRAKE))
        meets = self._first_meeting(layout, state, nearest, speed, allowed)
        # The strongest that meets nobody; else whatever puts the meeting off longest, and the hardest braking of those.
        best = meets.argmax() if meets.max() > len(TIMES) else len(meets) - 1 - meets[::-1].argmax()
        return np.array([steer, throttle_for(float(allowed[best]))], np.float32)

    def _limit(self, line: np.ndarray, nearest: int) -> float:
        """The speed at which curves ahead can be taken, m/s."""
        heading = line[nearest : nearest + int(20 / SPACING), 2]
        if len(heading) < 5:
            return self.cruise
        bend = np.abs(np.remainder(heading[4:] - heading[:-4] + np.pi, 2 * np.pi) - np.pi) / (4 * SPACING)
        there = np.square(np.minimum(self.cruise, np.sqrt(SIDEWAYS / np.maximum(bend, 1e-3))))
        return float(np.sqrt(there + 2 * SLOWING * SPACING * np.arange(len(there))).min().clip(0, self.cruise))

    def _foresee(self, layout: Layout, state: np.ndarray) -> np.ndarray:
        """(M, 1 + T): how far along their paths the movers will be, now and at ``TIMES``."""
        progress, speed = state[MOVER_PROGRESS], state[MOVER_SPEED]
        later = progress[:, None] + speed[:, None] * np.r_[0.0, TIMES]
        # Who can still stop before the junction lets us go first.
        room = layout.hold - layout.sizes[:, 0] / 2 - progress
        stops = layout.minor & (room > np.square(speed) / (2 * MOVER_BRAKE))
        return np.where(stops[:, None], np.minimum(later, (progress + room)[:, None]), later)

    def _closed(self, layout: Layout, state: np.ndarray, points: np.ndarray) -> int:
        """The first of ``points`` (n, 2) ahead that must stay free while someone crosses the junction; n if none."""
        progress = state[MOVER_PROGRESS]
        room = layout.hold - layout.sizes[:, 0] / 2 - progress
        crosses = layout.minor & present(layout, state)
        crosses &= in_junction(layout, mover_boxes(layout, progress), room)
        inside = np.hypot(points[:, 0], points[:, 1]) < layout.yard
        braking = state[SPEED] ** 2 / (2 * BRAKE) + EGO_SIZE[0] / 2
        entry = int(inside.argmax())
        return entry if crosses.any() and inside.any() and entry * SPACING > braking else len(points)

    def _first_meeting(
        self, layout: Layout, state: np.ndarray, nearest: int, speed: float, allowed: np.ndarray
    ) -> np.ndarray:
        """int (A,): the step ahead in which each acceleration would make us meet someone; beyond all if none."""
        points = layout.line[nearest : nearest + int(SIGHT / SPACING), :2]
        boxes = mover_boxes(layout, self._foresee(layout, state))
        cos, sin = np.cos(boxes[..., 6]), np.sin(boxes[..., 6])
        heading = state[4]
        back = (boxes[:, 0, :2] - state[2:4]) @ np.array([math.cos(heading), math.sin(heading)])
        follows = (back < 0) & (np.cos(boxes[:, 0, 6] - heading) > 0.5)
        seen = present(layout, state) & ~follows
        boxes, cos, sin = boxes[seen, 1:, None], cos[seen, 1:, None], sin[seen, 1:, None]
        dx, dy = points[:, 0] - boxes[..., 0], points[:, 1] - boxes[..., 1]
        room = EGO_SIZE[1] / 2 + SIDE_ROOM
        taken = (np.abs(dx * cos + dy * sin) < boxes[..., 3] / 2 + room) & (
            np.abs(dy * cos - dx * sin) < boxes[..., 4] / 2 + room
        )
        taken = taken.any(0)
        taken[:, self._closed(layout, state, points) :] = True
        taken = np.cumsum(np.pad(taken, ((0, 0), (1, 0))), 1)  # (T, places + 1), how many up to a place

        steps = np.arange(len(TIMES))
        rate = np.where(steps < HELD, allowed[:, None], np.where(steps < HELD + COASTED, 0.0, -SOFT_BRAKE))
        speeds = np.clip(speed + STEP * np.cumsum(rate, 1), 0, MAX_SPEED)
        before = np.concatenate([np.full((len(speeds), 1), speed), speeds[:, :-1]], 1)
        place = np.cumsum(STEP * (before + speeds) / 2, 1)
        length = EGO_SIZE[0] / 2 - EGO_SIZE[1] / 2
        last = taken.shape[1] - 1
        low = np.clip((place - length) / SPACING, 0, last).astype(int)
        high = np.clip((place + length + FRONT_ROOM) / SPACING + 1, 0, last).astype(int)
        meets = taken[steps, high] > taken[steps, low]
        return np.where(meets.any(1), meets.argmax(1), len(TIMES) + 1)


class BlindDriver:
    """Follows the middle of the route at a constant speed and sees nobody: what the expert's eyes are worth.

    Args:
        cruise: m/s, in 0..10.
    """

    def __init__(self, cruise: float = 6.0):
        if not 0 < cruise <= MAX_SPEED:
            raise ValueError(f"cruise must lie in 0..{MAX_SPEED} m/s, got {cruise!r}")
        self.cruise = float(cruise)

    def begin(self, rng: np.random.Generator) -> None:
        """A new drive; nothing is remembered and nothing drawn."""

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (2,): steer and throttle in [-1, 1] for the simulator state (S,)."""
        state = np.asarray(state, np.float64)
        steer, _ = pursue(layout_of(state).route, state)
        return np.array([steer, throttle_for((self.cruise - float(state[SPEED])) / STEP)], np.float32)


class StreetPlayer:
    """The expert with disturbances that it recovers from. Follows :class:`worldjepa.types.Player`.

    Now and then something turns the wheel and moves the pedal for a second; the expert knows nothing of that and brings
    the car back. Recorded is the action that was executed; ``Driver().act(state)`` says what the expert meant.
    An episode starts anywhere on the way, and often slower than the expert was: who drives well seldom starts off, and
    whoever learned from that alone would never go on after a stop.

    Args:
        layouts: the first street and the one after the last.
        label: written into every episode as its policy.
        disturbed: share of the steps with a disturbance, 0..0.8.
        strength: the largest that is added to steer, [0, 1]; as much to throttle.
        slowed: share of the episodes that start at any speed up to the expert's, [0, 1].

    Raises:
        ValueError: an argument out of its bounds.
    """

    LASTS = (3, 8)  # steps of a disturbance: the least and one more than the most

    def __init__(
        self,
        layouts: tuple[int, int] = TRAINING,
        label: str = "scripted",
        disturbed: float = 0.25,
        strength: float = 0.4,
        slowed: float = 0.5,
    ):
        if not 0 <= disturbed <= 0.8 or not 0 <= strength <= 1 or not 0 <= slowed <= 1:
            raise ValueError(
                "disturbed must lie in 0..0.8, strength and slowed in 0..1, "
                f"got {disturbed!r}, {strength!r} and {slowed!r}"
            )
        self.layouts, self.label = as_range(layouts), label
        self.disturbed, self.strength, self.slowed = float(disturbed), float(strength), float(slowed)
        self.driver = Driver()

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """A state (S,) in which nothing has gone wrong yet, and its street as the group."""
        self._rng, self._left = rng, 0
        state = start_state(layout_of(np.array([rng.integers(*self.layouts)])))
        for _ in range(rng.integers(90)):
            after = advance(layout_of(state), state, self.driver.act(state))
            if collides(layout_of(state), after) or after[PROGRESS] > 0.85 * layout_of(state).length:
                break
            state = after
        if rng.random() < self.slowed:
            state[SPEED] *= rng.random()
        return state, f"street/{int(state[0]):08d}"

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (2,): the expert's steer and throttle, disturbed or not, in [-1, 1]."""
        lasts = sum(self.LASTS) / 2 - 0.5
        if self._left == 0 and self._rng.random() < self.disturbed / (lasts * (1 - self.disturbed)):
            self._left = int(self._rng.integers(*self.LASTS))
            self._push = self.strength * self._rng.uniform(-1, 1, 2)
        action = self.driver.act(state)
        if self._left > 0:
            self._left -= 1
            action = np.clip(action + self._push, -1, 1)
        return action.astype(np.float32)

    def keep(self, states: np.ndarray) -> bool:
        """Whether in ``states`` (L, S) nobody was touched."""
        return not any(collides(layout_of(state), state) for state in np.asarray(states, np.float64))


def as_range(layouts: tuple[int, int]) -> tuple[int, int]:
    """The range of layouts, checked.

    Raises:
        ValueError: it holds none, or numbers that there are not.
    """
    low, high = (int(number) for number in layouts)
    if not 0 <= low < high <= NUM_LAYOUTS:
        raise ValueError(f"layouts must be low and high with 0 <= low < high <= {NUM_LAYOUTS}, got {list(layouts)}")
    return low, high
