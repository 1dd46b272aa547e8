"""Objects of fourteen classes, composed of at most six MuJoCo primitives, with proportions of their own; and meshes.

An object's axes: x to its front, y to its left, z up. All classes share one palette of three greys, and which part has
which grey is drawn for every object: its shape tells an object's class, its greys help to tell how it is turned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import mujoco
import numpy as np

NUM_PARTS = 6  # at most, of an object
OBJECT_RADIUS = 0.5  # m, of the sphere around every object
# Nearly white, between, dark; not 0.5, which MuJoCo takes for "no colour given" and shows the material's instead.
TONES = (0.95, 0.48, 0.15)

BOX, BALL, ELLIPSOID, ROD, CYLINDER = (
    int(getattr(mujoco.mjtGeom, f"mjGEOM_{name}")) for name in ("BOX", "SPHERE", "ELLIPSOID", "CAPSULE", "CYLINDER")
)


@dataclass(frozen=True)
class Part:
    """One primitive of an object, in the object's frame.

    Attributes:
        type: MuJoCo's number of the kind of geom.
        size: three numbers as MuJoCo reads them for this type, m; unused ones are 0.
        pos: middle, m.
        quat: unit quaternion w, x, y, z.
        tone: grey, 0..1, one of :data:`TONES`.
    """

    type: int
    size: tuple[float, float, float]
    pos: tuple[float, float, float]
    quat: tuple[float, float, float, float]
    tone: float


# What the classes are composed with; here a tone is 0, 1 or 2, an object's first, second or third grey.


def _box(size, pos, tone, axis=(0, 0, 1), angle=0.0) -> Part:
    """Full side lengths; turned by ``angle`` (degrees) about ``axis``."""
    half = np.radians(angle) / 2
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    return Part(BOX, tuple(s / 2 for s in size), tuple(pos), (np.cos(half), *(np.sin(half) * axis)), tone)


def _ball(radius, pos, tone) -> Part:
    return Part(BALL, (radius, 0, 0), tuple(pos), (1, 0, 0, 0), tone)


def _egg(radii, pos, tone) -> Part:
    return Part(ELLIPSOID, tuple(radii), tuple(pos), (1, 0, 0, 0), tone)


def _along(kind, radius, start, end, tone) -> Part:
    start, end = np.asarray(start, float), np.asarray(end, float)
    length = np.linalg.norm(end - start)
    x, y, z = (end - start) / length
    # The shortest turn of the z axis to the direction; straight down it is half a turn about x.
    quat = np.array([1 + z, -y, x, 0]) if z > -1 + 1e-9 else np.array([0, 1, 0, 0])
    return Part(kind, (radius, length / 2, 0), tuple((start + end) / 2), tuple(quat / np.linalg.norm(quat)), tone)


def _rod(radius, start, end, tone) -> Part:
    return _along(ROD, radius, start, end, tone)


def _disc(radius, start, end, tone) -> Part:
    return _along(CYLINDER, radius, start, end, tone)


Between = Callable[[float, float], float]
"""A uniform draw between two numbers: where an object's own proportions come from."""


def _airplane(u: Between) -> list[Part]:
    length, span, width = u(0.9, 1.2), u(0.5, 0.75), u(0.2, 0.32)
    root, tail = u(-0.1, 0.25), -length * 0.92
    return [
        _rod(u(0.11, 0.16), (-length, 0, 0), (length, 0, 0), 0),
        _box((width * 1.3, 2 * span * 1.3, 0.07), (root, 0, 0), 1),
        _box((width * 0.8, span * 0.9, 0.06), (tail, 0, 0.05), 1),
        _box((width * 0.9, 0.06, u(0.35, 0.5)), (tail, 0, 0.27), 2),
        _egg((0.2, 0.1, 0.12), (length * 0.62, 0, 0.13), 2),
    ]


def _bracket(u: Between) -> list[Part]:
    """Three arms of different lengths from one corner: chiral, and no turn leaves it as it is."""
    thick, long, short = u(0.22, 0.34), u(1.1, 1.4), u(0.65, 0.9)
    third = u(0.4, 0.6)
    return [
        _box((thick, thick, long), (0, 0, long / 2), 0),
        _box((short, thick, thick), (short / 2 + thick / 2, 0, thick / 2), 1),
        _box((thick, third, thick), (0, third / 2 + thick / 2, long - thick / 2), 2),
    ]


def _car(u: Between) -> list[Part]:
    length, width, height = u(1.5, 1.9), u(0.7, 0.85), u(0.28, 0.38)
    cabin, back, wheel = u(0.6, 0.95), u(-0.3, -0.1), u(0.18, 0.24)
    wheels = [
        _disc(wheel, (x, y * (width / 2 - 0.04), 0), (x, y * (width / 2 + 0.08), 0), 2)
        for x in (-length * 0.32, length * 0.32)
        for y in (-1, 1)
    ]
    return [
        _box((length, width, height), (0, 0, height / 2), 0),
        _box((cabin, width * 0.85, u(0.28, 0.38)), (back, 0, height + 0.15), 1),
        *wheels,
    ]


def _chair(u: Between) -> list[Part]:
    width, depth, leg, back = u(0.7, 0.95), u(0.7, 0.9), u(0.55, 0.8), u(0.65, 1.0)
    thick = u(0.05, 0.075)
    legs = [
        _box((2 * thick, 2 * thick, leg), (x * (depth / 2 - thick), y * (width / 2 - thick), -leg / 2), 1)
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    return [
        _box((depth, width, 0.1), (0, 0, 0.03), 0),
        _box((0.1, width, back), (-depth / 2 + 0.03, 0, back / 2), 2, (0, 1, 0), u(-8, 0)),
        *legs,
    ]


def _dog(u: Between) -> list[Part]:
    length, leg, girth = u(0.45, 0.65), u(0.4, 0.6), u(0.2, 0.27)
    neck = u(0.28, 0.42)
    return [
        _rod(girth, (-length, 0, 0), (length, 0, 0), 0),
        _ball(u(0.2, 0.25), (length + 0.2, 0, neck), 1),
        _egg((0.2, 0.1, 0.09), (length + 0.45, 0, neck - 0.06), 2),
        _box((0.15, 2 * girth, leg), (length * 0.85, 0, -leg / 2 - girth / 2), 2),
        _box((0.15, 2 * girth, leg), (-length * 0.85, 0, -leg / 2 - girth / 2), 2),
        _rod(0.06, (-length - 0.1, 0, 0.1), (-length - u(0.3, 0.45), 0, u(0.35, 0.6)), 1),
    ]


def _dumbbell(u: Between) -> list[Part]:
    """A ball at one end, a slab at the other, and a knob that shows how it is turned about its bar."""
    half, ball, slab = u(0.6, 0.85), u(0.3, 0.4), u(0.5, 0.65)
    return [
        _rod(u(0.08, 0.12), (-half, 0, 0), (half, 0, 0), 1),
        _ball(ball, (half, 0, 0), 0),
        _box((u(0.18, 0.26), slab, 1.5 * slab), (-half, 0, 0.1), 2),
        _rod(0.07, (half, 0, ball), (half, 0, ball + u(0.15, 0.25)), 2),
    ]


def _hammer(u: Between) -> list[Part]:
    length, head, radius = u(1.3, 1.7), u(0.25, 0.4), u(0.17, 0.23)
    return [
        _rod(u(0.07, 0.1), (0, 0, -length), (0, 0, 0), 0),
        _disc(radius, (0, 0, 0), (head + 0.15, 0, 0), 1),
        _box((u(0.45, 0.6), 0.2, 0.12), (-0.25, 0, -0.04), 2, (0, 1, 0), u(-25, -12)),
    ]


def _lamp(u: Between) -> list[Part]:
    base, elbow, height = u(0.3, 0.42), u(-0.45, -0.25), u(0.65, 0.8)
    reach, top, rod = u(0.25, 0.4), u(1.2, 1.4), u(0.045, 0.065)
    shade = u(0.22, 0.3)
    return [
        _disc(base, (0, 0, 0), (0, 0, 0.1), 0),
        _rod(rod, (0, 0, 0.1), (elbow, 0, height), 1),
        _rod(rod, (elbow, 0, height), (reach, 0, top), 1),
        _disc(shade, (reach, 0, top), (reach + 0.22, 0, top - 0.3), 0),
        _ball(shade * 0.7, (reach + 0.22, 0, top - 0.3), 2),
    ]


def _mug(u: Between) -> list[Part]:
    radius, height, handle = u(0.42, 0.58), u(0.95, 1.3), u(0.3, 0.42)
    low, high, thick = height * u(0.18, 0.3), height * u(0.7, 0.85), u(0.06, 0.09)
    out = radius + handle
    return [
        _disc(radius, (0, 0, 0), (0, 0, height), 0),
        _disc(radius * 0.85, (0, 0, height * 0.9), (0, 0, height + 0.01), 2),  # the opening
        _rod(thick, (radius, 0, low), (out, 0, low), 1),
        _rod(thick, (out, 0, low), (out, 0, high), 1),
        _rod(thick, (radius, 0, high), (out, 0, high), 1),
    ]


def _person(u: Between) -> list[Part]:
    """One arm up, the other forwards."""
    torso, leg, arm = u(0.5, 0.65), u(0.6, 0.8), u(0.4, 0.55)
    wide, stride = u(0.17, 0.24), u(0.1, 0.3)
    return [
        _box((0.26, 2 * wide, torso), (0, 0, torso / 2), 0),
        _ball(u(0.17, 0.22), (0.03, 0, torso + 0.2), 1),
        _rod(0.08, (0, wide, torso - 0.08), (0, wide + 0.6 * arm, torso + arm), 1),
        _rod(0.08, (0, -wide, torso - 0.08), (arm, -wide - 0.15, torso - 0.2), 1),
        _rod(0.1, (0, wide * 0.6, 0), (stride, wide * 0.8, -leg), 2),
        _rod(0.1, (0, -wide * 0.6, 0), (-stride, -wide * 0.8, -leg), 2),
    ]


def _snowman(u: Between) -> list[Part]:
    low, middle, head = u(0.42, 0.5), u(0.3, 0.36), u(0.2, 0.25)
    chest = low + 0.7 * middle
    face = chest + 0.75 * middle + 0.75 * head
    return [
        _ball(low, (0, 0, 0), 0),
        _ball(middle, (0, 0, chest), 0),
        _ball(head, (0, 0, face), 0),
        _rod(0.05, (head, 0, face), (head + u(0.2, 0.35), 0, face), 1),
        _disc(head * 0.8, (0, 0, face + head * 0.7), (0, 0, face + head * 0.7 + u(0.2, 0.35)), 2),
        _rod(0.045, (0, middle, chest), (0, middle + u(0.35, 0.5), chest + 0.25), 1),
    ]


def _stairs(u: Between) -> list[Part]:
    """Steps up to the back, a rail on the left."""
    tread, rise, width = u(0.28, 0.38), u(0.22, 0.34), u(0.6, 0.95)
    steps = [
        _box((tread, width, (n + 1) * rise), (-n * tread, 0, (n + 1) * rise / 2), (0, 1, 0, 1)[n]) for n in range(4)
    ]
    post, side = u(0.35, 0.5), width / 2 - 0.06
    return [
        *steps,
        _rod(0.05, (0, side, rise + post), (-3 * tread, side, 4 * rise + post), 2),
        _rod(0.05, (-3 * tread, side, 4 * rise), (-3 * tread, side, 4 * rise + post), 2),
    ]


def _table(u: Between) -> list[Part]:
    """A drawer hangs at one end."""
    length, width, leg, thick = u(1.4, 1.8), u(0.7, 0.95), u(0.55, 0.8), u(0.05, 0.07)
    legs = [
        _rod(
            thick,
            (x * (length / 2 - 0.1), y * (width / 2 - 0.1), -leg),
            (x * (length / 2 - 0.1), y * (width / 2 - 0.1), 0),
            1,
        )
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    drawer = u(0.3, 0.45)
    return [
        _box((length, width, 0.1), (0, 0, 0), 0),
        _box((drawer, width * 0.8, u(0.28, 0.4)), (length / 2 - drawer / 2 - 0.18, 0, -0.2), 2),
        *legs,
    ]


def _tree(u: Between) -> list[Part]:
    trunk, crown, lean = u(0.7, 1.0), u(0.36, 0.46), u(-0.15, 0.15)
    fork = trunk * u(0.4, 0.6)
    return [
        _disc(u(0.09, 0.14), (0, 0, 0), (lean, 0, trunk + 0.1), 0),
        _egg((crown, crown * 1.1, crown * 0.8), (lean, 0, trunk + 0.2), 1),
        _egg((crown * 0.7, crown * 0.6, crown * 0.6), (lean - 0.1, u(0.05, 0.2), trunk + 0.2 + crown * 0.9), 1),
        _rod(0.06, (0, 0, fork), (u(0.4, 0.55), 0, fork + 0.3), 0),
        _ball(u(0.16, 0.22), (0.55, 0, fork + 0.35), 2),
    ]


_MAKERS = {
    "airplane": _airplane,
    "bracket": _bracket,
    "car": _car,
    "chair": _chair,
    "dog": _dog,
    "dumbbell": _dumbbell,
    "hammer": _hammer,
    "lamp": _lamp,
    "mug": _mug,
    "person": _person,
    "snowman": _snowman,
    "stairs": _stairs,
    "table": _table,
    "tree": _tree,
}
CLASS_NAMES = tuple(_MAKERS)
NUM_CLASSES = len(CLASS_NAMES)


def make_object(class_index: int, rng: np.random.Generator) -> list[Part]:
    """An object of a class with proportions and greys drawn from ``rng``: at most :data:`NUM_PARTS` parts.

    The parts reach :data:`OBJECT_RADIUS` from the origin, which is the middle of the box around them.

    Raises:
        ValueError: there is no such class.
    """
    if not 0 <= class_index < NUM_CLASSES:
        raise ValueError(f"class_index must lie in 0..{NUM_CLASSES - 1}, got {class_index}")
    parts = _MAKERS[CLASS_NAMES[class_index]](lambda low, high: float(rng.uniform(low, high)))
    tones = [TONES[i] for i in rng.permutation(3)]
    points = np.concatenate([outline(part) for part in parts])
    middle = (points.min(0) + points.max(0)) / 2
    scale = OBJECT_RADIUS / np.linalg.norm(points - middle, axis=-1).max()
    return [
        replace(
            part,
            size=tuple(scale * s for s in part.size),
            pos=tuple((scale * (np.asarray(part.pos) - middle)).tolist()),
            tone=tones[part.tone],
        )
        for part in parts
    ]


def _directions(count: int) -> np.ndarray:
    """(count, 3) unit vectors, evenly over the sphere (Fibonacci's lattice), with the six along the axes."""
    height = 1 - 2 * (np.arange(count - 6) + 0.5) / (count - 6)
    turn = np.pi * (1 + 5**0.5) * np.arange(count - 6)
    ring = np.sqrt(1 - height**2)
    lattice = np.stack([ring * np.cos(turn), ring * np.sin(turn), height], -1)
    return np.concatenate([lattice, np.eye(3), -np.eye(3)])


_DIRECTIONS = _directions(134)


def outline(part: Part) -> np.ndarray:
    """float64 (134, 3): where the part reaches furthest in each of many directions, in the object's frame."""
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, np.asarray(part.quat, float))
    matrix = matrix.reshape(3, 3)
    way = _DIRECTIONS @ matrix  # the directions in the part's own frame
    a, b, c = part.size
    if part.type == BOX:
        points = np.sign(way) * (a, b, c)
    elif part.type == BALL:
        points = a * way
    elif part.type == ELLIPSOID:
        radii = np.array([a, b, c])
        points = radii**2 * way / np.linalg.norm(radii * way, axis=-1, keepdims=True)
    elif part.type == ROD:
        points = a * way + np.sign(way) * (0, 0, b)
    else:
        flat = way * (1, 1, 0)
        points = a * flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-9) + np.sign(way) * (0, 0, b)
    return points @ matrix.T + part.pos


def find_meshes(folder: str) -> list[Path]:
    """The ``*.obj`` files of a folder, by name.

    Raises:
        ValueError: there is none.
    """
    found = sorted(Path(folder).glob("*.obj"))
    if not found:
        raise ValueError(f"meshes must be a folder with *.obj files, and {folder} has none")
    return found


def mesh_extent(path: Path) -> tuple[np.ndarray, float]:
    """Middle (3,) of the box around an OBJ file's vertices, and their greatest distance from it, in the file's units.

    Raises:
        ValueError: the file has no vertices, or all in one place.
    """
    lines = [line.split()[1:4] for line in path.read_text(errors="replace").splitlines() if line.startswith("v ")]
    vertices = np.array(lines, dtype=float).reshape(-1, 3)
    if len(vertices) == 0 or np.ptp(vertices, axis=0).max() == 0:
        raise ValueError(f"{path} is no mesh: it needs lines 'v x y z' of vertices in different places")
    middle = (vertices.min(0) + vertices.max(0)) / 2
    return middle, float(np.linalg.norm(vertices - middle, axis=-1).max())
