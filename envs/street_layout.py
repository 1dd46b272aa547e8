"""Streets made from numbers: roads, a route through them, what stands beside them and the paths of what moves.

A street is a junction or a bend with two to four legs, seen from above, m, x to the east and y to the north; angles in
rad, counterclockwise. Traffic keeps to the right. The route starts on leg 0 and turns at the middle into another leg.

Paths and boxes are those of :mod:`envs.street_geometry`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from envs.street_geometry import SPACING, fillet, go_round, overlaps, path_length, pose_on, resample, shift, stack_paths

CLASSES = ("ground", "car", "cyclist", "pedestrian", "building", "wall", "pole")
CAR, CYCLIST, PEDESTRIAN, BUILDING, WALL, POLE = range(1, 7)
NUM_CARS, NUM_CYCLISTS, NUM_PEDESTRIANS = 6, 3, 5
NUM_MOVERS = NUM_CARS + NUM_CYCLISTS + NUM_PEDESTRIANS
NUM_LAYOUTS = 2**24  # float32, as stores keep states, holds these numbers exactly
EGO_SIZE = np.array([4.3, 1.8, 1.5])  # length, width, height

BEHIND, BEYOND = 45.0, 45.0  # m of road before a route's start and after its end
STRIP = 2.2  # width of a parking strip
PAVEMENT = 3.2  # width beside every road
WALKED, POSTS = 2.4, 0.5  # m from the kerb: where people walk, where poles stand
GRASS, ASPHALT, PAVING, MARKING = range(4)  # materials of the ground map
CELL = 0.25  # of the ground map, m


@dataclass(frozen=True)
class Layout:
    """One street; nothing in it changes.

    Attributes:
        number: 0..2**24 - 1, from which all else follows.
        kind: ``straight``, ``bend``, ``tee`` or ``crossing``.
        route: path (P, 3) along the middle of the lane; ``length`` is its length, m.
        line: path (P', 3) that a good driver follows: the route, but around parked cars in the way, and then on.
        boxes: (K, 7) of what never moves; ``classes`` int (K,) says what they are, as places in ``CLASSES``.
        paths: (M, P'', 3) of the movers' centres, each padded with its last point; ``path_lengths`` (M,) m.
        laps: bool (M,) the path is a closed one.
        mover_classes: int (M,); ``sizes`` (M, 3) length, width, height, m.
        cruise: (M,) the speeds they like, m/s. ``bold``: bool (M,) those who cross although a car is near.
        hold: (M,) m along their paths where they may wait at the junction; 0 on foot and where there is none.
        minor: bool (M,) those who come from other roads than the route's.
        yard: m from the middle that the junction reaches.
        start_progress: (M,) m along their paths; a path's length where one is missing.
        ground: uint8 (rows, columns) material of the cells, ``ground[(y - origin[1]) / CELL, (x - origin[0]) / CELL]``.
    """

    number: int
    kind: str
    route: np.ndarray
    line: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    paths: np.ndarray
    path_lengths: np.ndarray
    laps: np.ndarray
    mover_classes: np.ndarray
    sizes: np.ndarray
    cruise: np.ndarray
    bold: np.ndarray
    hold: np.ndarray
    minor: np.ndarray
    yard: float
    start_progress: np.ndarray
    ground: np.ndarray
    origin: np.ndarray

    @property
    def length(self) -> float:
        return path_length(self.route)


@lru_cache(maxsize=16)
def make_layout(number: int) -> Layout:
    """The street ``number``, 0..2**24 - 1.

    Raises:
        ValueError: there is no such street.
    """
    if not 0 <= number < NUM_LAYOUTS:
        raise ValueError(f"a layout's number must lie in 0..{NUM_LAYOUTS - 1}, got {number!r}")
    return _Builder(number).build()


class _Builder:
    """The steps from a number to a street; each may rely on those before it."""

    def __init__(self, number: int):
        self.number, self.rng = number, np.random.default_rng([number, 0x57])
        self.boxes: list[np.ndarray] = []
        self.classes: list[int] = []

    def build(self) -> Layout:
        self._lay_roads()
        self._draw_ground()
        walks = [self._walk(i) for i in range(NUM_PEDESTRIANS)]
        self.walked = np.concatenate([path[:, :2] for path, *_ in walks])
        self._park()
        self._put_up()
        boxes, classes = np.array(self.boxes), np.array(self.classes)
        parked = boxes[classes == CAR]
        half_width = EGO_SIZE[1] / 2
        line = go_round(self.way[round(BEHIND / SPACING) :], parked, half_width)
        movers = [*self._cars(parked), *self._cyclists(parked), *(self._person(*walk) for walk in walks)]
        paths, laps, wanted, sizes, cruise, bold, hold, minor = zip(*movers, strict=True)
        lengths = np.array([path_length(path) for path in paths])
        paths, sizes = stack_paths(list(paths)), np.array(sizes)
        kinds = np.repeat([CAR, CYCLIST, PEDESTRIAN], [NUM_CARS, NUM_CYCLISTS, NUM_PEDESTRIANS])
        start = self._set_off(paths, lengths, np.array(wanted), sizes, np.array(laps))
        return Layout(
            *(self.number, self.kind, self.route, line, boxes, classes, paths, lengths, np.array(laps), kinds, sizes),
            *(
                np.array(cruise),
                np.array(bold),
                np.array(hold),
                np.array(minor),
                self.yard,
                start,
                self.ground,
                self.origin,
            ),
        )

    def _lay_roads(self) -> None:
        """Legs from the middle outwards, and the route through them."""
        rng = self.rng
        self.kind = str(rng.choice(["straight", "bend", "tee", "crossing"], p=[0.2, 0.25, 0.25, 0.3]))
        self.lane = rng.uniform(3.2, 4.0)
        self.before, self.after = rng.uniform(38, 72), rng.uniform(42, 76)
        sides = rng.permutation([-1.0, 1.0])
        turns = {
            "straight": [rng.uniform(-0.25, 0.25)],
            "bend": [sides[0] * rng.uniform(0.6, 1.6)],
            "tee": list(rng.permutation([0.0, sides[0] * np.pi / 2, sides[1] * np.pi / 2])[:2]),
            "crossing": list(rng.permutation([0.0, np.pi / 2, -np.pi / 2])),
        }[self.kind]
        if len(turns) > 1:
            turns = [turn + rng.uniform(-0.12, 0.12) for turn in turns]
        self.junction = len(turns) > 1
        self.strips = np.full(1 + len(turns), rng.choice([0.0, STRIP]))
        if self.junction:
            self.strips = rng.choice([0.0, STRIP], 1 + len(turns))
        sharp = math.tan(abs(turns[0]) / 2)
        self.radius = 7.0 + self.lane / 2 if self.junction else min(rng.uniform(20, 40), 22 / sharp)
        self.arms = []
        for number, angle in enumerate([np.pi, *turns]):
            far = self.before + BEHIND if number == 0 else self.after + BEYOND
            bent = angle + rng.uniform(-0.35, 0.35)
            knee = rng.uniform(0.55, 0.7) * far
            ahead, on = (np.array([np.cos(a), np.sin(a)]) for a in (angle, bent))
            self.arms.append(np.array([[0.0, 0.0], knee * ahead, knee * ahead + (far - knee) * on]))
        self.legs = [fillet(arm, [45.0]) for arm in self.arms]
        self.way = self._lane_path(0, 1)
        first = round(BEHIND / SPACING)
        self.route = self.way[first : len(self.way) - round(BEYOND / SPACING)]
        # Where a leg is clear of the junction or the bend.
        self.clear = 4.0 + (self.lane + STRIP + self.radius * 0.6 if self.junction else self.radius * sharp)

        self.yard = self.clear - 3.0

    def _centre(self, start: int, end: int) -> np.ndarray:
        corners = np.concatenate([self.arms[start][::-1], self.arms[end][1:]])
        return fillet(corners, [45.0, self.radius, 45.0])

    def _lane_path(self, start: int, end: int) -> np.ndarray:
        """The middle of the lane from leg ``start`` into leg ``end``."""
        return shift(self._centre(start, end), -self.lane / 2)

    def _draw_ground(self) -> None:
        points = np.concatenate([leg[:, :2] for leg in self.legs])
        self.origin = np.floor(points.min(0) - 30)
        width, height = np.ceil((points.max(0) + 30 - self.origin) / CELL).astype(int)
        road, marks = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)

        def draw(image: np.ndarray, path: np.ndarray, breadth: float) -> None:
            cells = np.round((path[:, :2] - self.origin) / CELL * 16 - 8).astype(np.int32)
            cv2.polylines(image, [cells[:, None]], False, 1, max(1, round(breadth / CELL)), shift=4)

        if self.junction:
            for start in range(len(self.legs)):
                draw(road, self.legs[start], 2 * (self.lane + self.strips[start]))
                for end in range(len(self.legs)):
                    if start != end:
                        draw(road, self._lane_path(start, end), self.lane)
            centres = [leg[round(self.clear / SPACING) :] for leg in self.legs]
        else:
            centres = [self._centre(0, 1)]
            draw(road, centres[0], 2 * (self.lane + self.strips[0]))
        for centre in centres:
            for dash in range(0, len(centre) - 6, 12):
                draw(marks, centre[dash : dash + 7], CELL)
        self.kerb = CELL * cv2.distanceTransform(1 - road, cv2.DIST_L2, 5)  # m off the road
        self.ground = np.where(road > 0, ASPHALT, np.where(self.kerb < PAVEMENT, PAVING, GRASS)).astype(np.uint8)
        self.ground[marks > 0] = MARKING

    def _off_road(self, box: np.ndarray) -> float:
        """How far off the road all of a box is, m."""
        steps = np.linspace(-0.5, 0.5, 9)
        local = np.stack(np.meshgrid(steps * box[3], steps * box[4]), -1).reshape(-1, 2)
        cos, sin = math.cos(box[6]), math.sin(box[6])
        places = box[:2] + local @ np.array([[cos, sin], [-sin, cos]])
        column, row = ((places - self.origin) / CELL).astype(int).T
        height, width = self.kerb.shape
        if min(column.min(), row.min()) < 0 or column.max() >= width or row.max() >= height:
            return 0.0
        return float(self.kerb[row, column].min())

    def _beside(self, leg: int, along: float, left: float) -> np.ndarray:
        """x, y, heading of the place ``along`` m from the middle on a leg, ``left`` m beside its centre."""
        x, y, heading = self.legs[leg][min(round(along / SPACING), len(self.legs[leg]) - 1)]
        return np.array([x - left * math.sin(heading), y + left * math.cos(heading), heading])

    def _walk(self, index: int) -> tuple[np.ndarray, float, float]:
        """A way there and back; m along it to the first kerb, and when a car on the route comes by there, s."""
        rng = self.rng
        leg = index % 2 if index < 4 else int(rng.integers(len(self.legs)))
        edge = self.lane + self.strips[leg] + WALKED
        low, high = self.clear + 2, (self.before, self.after)[leg > 0] - 4
        crossing, side = rng.uniform(low, high), rng.choice([-1.0, 1.0])
        begin, end = (crossing + rng.choice([-1.0, 1.0]) * rng.uniform(4, 25) for _ in range(2))
        begin, end = np.clip([begin, end], low - 3, high + 6)
        stops = np.array([[begin, side * edge], [crossing, side * edge], [crossing, -side * edge], [end, -side * edge]])
        run = np.r_[0.0, np.cumsum(np.abs(np.diff(stops, axis=0)).sum(1))]
        along, left = (np.interp(np.arange(0, run[-1], SPACING), run, column) for column in stops.T)
        there = np.array([self._beside(leg, *place)[:2] for place in zip(along, left, strict=True)])
        comes_by = (self.before - crossing if leg == 0 else self.before + crossing) / 6.0
        return resample(np.concatenate([there, there[::-1]])), run[1] + WALKED, comes_by

    def _park(self) -> None:
        """8 to 12 cars at the kerb. Some reach a little into the way of who drives in the middle of the lane."""
        rng, places = self.rng, []
        for leg in range(len(self.legs)):
            for side in (-1.0, 1.0):
                along = self.clear + rng.uniform(3, 12)
                while along < (self.before, self.after)[leg > 0] + 15:
                    places.append((leg, side, along))
                    along += rng.uniform(6.5, 16)
        ego = self._box(self.route[0], EGO_SIZE)
        wanted = int(rng.integers(8, 13))
        # Cars stand in the way on one side of a leg only, mostly ours, so that those who swerve can pass one another.
        ours = np.array([1.0, *[-1.0] * (len(self.legs) - 1)])
        narrow = ours * np.where(rng.random(len(self.legs)) < 0.75, 1, -1)
        for leg, side, along in rng.permutation(np.array(places)).tolist():
            leg = int(leg)
            size = np.array([rng.uniform(3.9, 4.9), rng.uniform(1.7, 1.95), rng.uniform(1.4, 1.9)])
            in_way = side == narrow[leg] and rng.random() < 0.5
            edge = self.lane / 2 + EGO_SIZE[1] / 2 - rng.uniform(0.05, 0.3)
            if not in_way:
                edge = self.lane + (rng.uniform(0.1, 0.3) if self.strips[leg] else -0.1)
            x, y, heading = self._beside(leg, along, side * (edge + size[1] / 2))
            turned = heading + (np.pi if side > 0 else 0.0) + rng.uniform(-0.03, 0.03)
            box = self._box(np.array([x, y, turned]), size)
            if not overlaps(ego, box[None], 4.0)[0] and self._walk_free(box, 0.9):
                self._add(box, CAR, 0.8)
            if len(self.boxes) == wanted:
                return

    def _put_up(self) -> None:
        """Poles on the pavements, walls and buildings behind them."""
        rng = self.rng
        for kind, wanted in ((POLE, 7), (WALL, rng.integers(3, 6)), (BUILDING, rng.integers(7, 11))):
            count = 0
            for _ in range(80):
                leg = int(rng.integers(len(self.legs)) if rng.random() < 0.4 else rng.integers(2))
                along = rng.uniform(self.clear - 2, (self.before, self.after)[leg > 0] + 20)
                half_road = self.lane + self.strips[leg]
                if kind == POLE:
                    size = np.array([*[rng.uniform(0.2, 0.45)] * 2, rng.uniform(3, 6)])
                    left = half_road + POSTS
                elif kind == WALL:
                    size = np.array([rng.uniform(6, 14), 0.3, rng.uniform(1.0, 2.2)])
                    left = half_road + PAVEMENT + 0.4
                else:
                    size = np.array([rng.uniform(8, 18), rng.uniform(7, 11), rng.uniform(4, 12)])
                    left = half_road + PAVEMENT + size[1] / 2 + rng.uniform(0.3, 3)
                box = self._box(self._beside(leg, along, rng.choice([-1.0, 1.0]) * left), size)
                off = 0.2 if kind == POLE else PAVEMENT - 0.2
                if self._off_road(box) > off and self._walk_free(box, 0.4):
                    count += self._add(box, kind, 0.3)
                if count == wanted:
                    break

    def _box(self, pose: np.ndarray, size: np.ndarray) -> np.ndarray:
        return np.array([pose[0], pose[1], size[2] / 2, *size, pose[2]])

    def _add(self, box: np.ndarray, kind: int, margin: float) -> bool:
        if self.boxes and overlaps(box, np.array(self.boxes), margin).any():
            return False
        self.boxes.append(box)
        self.classes.append(kind)
        return True

    def _walk_free(self, box: np.ndarray, margin: float) -> bool:
        """Whether nobody walks nearer to ``box`` than ``margin`` m."""
        x, y = (self.walked - box[:2]).T
        cos, sin = math.cos(box[6]), math.sin(box[6])
        inside = (np.abs(x * cos + y * sin) < box[3] / 2 + margin) & (np.abs(y * cos - x * sin) < box[4] / 2 + margin)
        return not inside.any()

    def _cars(self, parked: np.ndarray) -> list[tuple]:
        """One ahead, one behind, two that come towards us, and two more, across where there is a junction."""
        rng, far = self.rng, BEHIND + path_length(self.route) + BEYOND
        plans = [(0, 1, BEHIND + rng.uniform(14, 35)), (0, 1, BEHIND - rng.uniform(12, 30))]
        plans += [(1, 0, far - BEHIND - distance) for distance in (rng.uniform(25, 70), rng.uniform(60, 130))]
        if self.junction:
            for start in rng.integers(2, len(self.legs), 2):
                end = rng.choice([leg for leg in range(len(self.legs)) if leg != start])
                plans.append((int(start), int(end), self.after + BEYOND - 5 * (self.before / 6 + rng.uniform(-3, 4))))
        else:
            plans += [(0, 1, BEHIND + rng.uniform(45, 75)), (1, 0, far - BEHIND - rng.uniform(90, 160))]
        cars = []
        for number, (start, end, progress) in enumerate(plans):
            size = np.array([rng.uniform(3.9, 4.8), rng.uniform(1.7, 1.9), rng.uniform(1.4, 1.7)])
            path = go_round(self._lane_path(start, end), parked, size[1] / 2)
            cars.append(
                (path, False, progress, size, rng.uniform(3.5, 6.0) + (number != 0), False, self._hold(path), start > 1)
            )
        return cars

    def _hold(self, path: np.ndarray) -> float:
        """Where one waits at the junction, m along a path; 0 where there is none."""
        return SPACING * float((np.hypot(path[:, 0], path[:, 1]) < self.yard).argmax()) if self.junction else 0.0

    def _cyclists(self, parked: np.ndarray) -> list[tuple]:
        """On the right of their lanes; in half of the streets one rides in front of us."""
        rng, far = self.rng, BEHIND + path_length(self.route) + BEYOND
        ways = [(0, 1, BEHIND + rng.uniform(20, 50)), (1, 0, far - BEHIND - rng.uniform(20, 90))]
        if rng.random() < 0.5:
            ways[0] = (0, 1, BEHIND - rng.uniform(10, 30))
        start, end = rng.permutation(len(self.legs))[:2]
        ways.append((int(start), int(end), rng.uniform(0, 60)))
        cyclists = []
        for start, end, progress in ways:
            path = shift(self._centre(start, end), -(self.lane - 0.8))
            size = np.array([1.8, 0.6, rng.uniform(1.6, 1.8)])
            path = go_round(path, parked, size[1] / 2)
            cyclists.append((path, False, progress, size, rng.uniform(3.2, 5.0), False, self._hold(path), start > 1))
        return cyclists

    def _person(self, path: np.ndarray, kerb: float, comes_by: float) -> tuple:
        """Someone who reaches the kerb about when a car on the route does."""
        rng = self.rng
        speed = rng.uniform(1.0, 1.8)
        start = (kerb - speed * (comes_by + rng.uniform(-3, 3))) % path_length(path)
        size = np.array([*[rng.uniform(0.45, 0.6)] * 2, rng.uniform(1.5, 1.9)])
        return path, True, start, size, speed, rng.random() < 0.4, 0.0, False

    def _set_off(
        self, paths: np.ndarray, lengths: np.ndarray, wanted: np.ndarray, sizes: np.ndarray, laps: np.ndarray
    ) -> np.ndarray:
        """Where the movers start (M,): near where they are wanted, clear of everything; at the end for want of room."""
        there = [self._box(self.route[0], EGO_SIZE + np.array([8.0, 0.4, 0.0])), *self.boxes]
        start = lengths.copy()
        for i in range(NUM_MOVERS):
            for attempt in range(40):
                progress = wanted[i] + 0.5 * attempt * self.rng.standard_normal()
                progress = progress % lengths[i] if laps[i] else min(max(progress, 0.0), lengths[i] - 1)
                pose = pose_on(paths[i : i + 1], np.array([progress]))[0]
                box = self._box(pose, sizes[i] + np.array([0.0 if laps[i] else 4.0, 0.0, 0.0]))
                if not overlaps(box, np.array(there), 0.15).any():
                    start[i] = progress
                    there.append(box)
                    break
        return start
