"""Pictures of a street: from above, with our car in the middle and ahead of it up, and of a LiDAR's ranges."""

from __future__ import annotations

import cv2
import numpy as np

from envs.street_geometry import corners_of
from envs.street_layout import CELL, EGO_SIZE, Layout
from envs.street_traffic import POSE, all_boxes, ego_box

EXTENT = 51.2  # m from one side of the picture from above to the other
FINE = 2  # it is drawn this much larger, and averaged
GROUND_COLOURS = np.array([[152, 176, 128], [96, 96, 100], [190, 186, 176], [236, 236, 236]], np.uint8)
# Of the classes: ground (not drawn), car, cyclist, pedestrian, building, wall, pole.
COLOURS = ((0, 0, 0), (52, 96, 178), (214, 120, 28), (150, 40, 150), (122, 88, 70), (150, 110, 90), (30, 30, 30))
EGO_COLOUR, ROUTE_COLOUR = (204, 40, 40), (250, 210, 60)


def draw_from_above(layout: Layout, state: np.ndarray, size: int) -> np.ndarray:
    """uint8 (size, size, 3) RGB of 51.2 m x 51.2 m around our car in ``state`` (S,)."""
    large = FINE * size
    scale = large / EXTENT
    x, y, heading = state[POSE]
    cos, sin = np.cos(heading), np.sin(heading)
    # From the world's x, y to the picture's: ahead is up, left is left.
    turn = scale * np.array([[sin, -cos], [-cos, -sin]])
    place = large / 2 - turn @ [x, y]

    def to_pixels(points: np.ndarray) -> np.ndarray:
        return np.round(16 * (points @ turn.T + place - 0.5)).astype(np.int32)  # four fractional bits

    cells = np.concatenate([turn * CELL, (place + turn @ (layout.origin + CELL / 2) - 0.5)[:, None]], 1)
    ground = cv2.warpAffine(layout.ground, cells, (large, large), flags=cv2.INTER_NEAREST)
    image = GROUND_COLOURS[ground]
    cv2.polylines(image, [to_pixels(layout.route[:, :2])], False, ROUTE_COLOUR, max(1, round(0.4 * scale)), 16, 4)
    boxes, classes = all_boxes(layout, state)
    for box, kind in zip(boxes[::-1], classes[::-1].tolist(), strict=True):  # movers last, over all others
        if np.hypot(box[0] - x, box[1] - y) < EXTENT + box[3]:
            _fill(image, to_pixels(corners_of(box)), COLOURS[kind])
    ego = ego_box(state)
    _fill(image, to_pixels(corners_of(ego)), EGO_COLOUR)
    nose = np.array([[0.5, 0.0], [0.1, 0.4], [0.1, -0.4]]) * EGO_SIZE[:2]
    _fill(image, to_pixels(nose @ np.array([[cos, sin], [-sin, cos]]) + ego[:2]), (255, 255, 255))
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def draw_ranges(ranges: np.ndarray, max_range: float, height: int, width: int) -> np.ndarray:
    """uint8 (height, width, 3) RGB of ``ranges`` (beams, azimuths): near is bright, black where nothing came back."""
    ranges = np.asarray(ranges, np.float32)
    nearness = 1 - np.sqrt(np.clip(ranges / max_range, 0, 1))
    picture = cv2.applyColorMap((255 * (0.15 + 0.85 * nearness)).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    picture = np.where(ranges[..., None] > 0, picture, 0).astype(np.uint8)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST)


def _fill(image: np.ndarray, corners: np.ndarray, colour: tuple[int, int, int]) -> None:
    cv2.fillPoly(image, [corners], colour, cv2.LINE_AA, 4)
