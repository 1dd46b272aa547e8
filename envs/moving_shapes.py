"""MovingShapes: textured shapes move over a moving textured ground, and the true optical flow is known.

For learning motion and content together without labels (MC-JEPA, arXiv:2307.12698): between two pictures every layer
moves by a similarity, so that the flow is known exactly at every pixel, and all shapes of a scene are of one class,
which has an outline and a range of hues.

Layers lie in a fixed order: the ground, then sprite 1 to 3, each over those before. Lengths are in sides of the
picture, x to the right, y down; angles in rad, from x towards y. A layer's pose is x, y, angle and log scale, see
:mod:`envs.shape_drawing`; its velocity is what a step adds to them, and the ground turns and grows about the middle of
the picture.
"""

from __future__ import annotations

import numpy as np

from envs.shape_drawing import CLASS_NAMES, SHAPES, farthest, make_textures, paint, to_layer, to_picture
from envs.view_env import ViewEnv

MAX_SPRITES = 3
NUM_NAMES = 3  # of a state's numbers, these say what is shown and never change
NUM_TEXTURES = 2**20  # float32, as stores keep states, holds these numbers exactly
LAYER_NAMES = ("ground", *(f"sprite{number}" for number in range(1, MAX_SPRITES + 1)))
STATE_NAMES = (
    *("class", "num_sprites", "texture"),
    *(
        f"{layer}_{name}"
        for layer in LAYER_NAMES
        for name in ("x", "y", "angle", "log_scale", "vx", "vy", "vangle", "vlog_scale")
    ),
)

RADIUS = 15 / 64  # of the disc around a sprite with log_scale 0
# Of x and y, of the angle, of the log scale; per step.
GROUND_SPEED = np.array([4 / 64, np.radians(3), 0.03])
SPRITE_SPEED = np.array([6 / 64, np.radians(10), 0.05])
PAN = 2 / 64  # of all layers by an action of 1
# Of centres and log scales. Past the first a spring turns them around; the second are met in a long pan only.
PLACES, MOST_PLACES = (0.2, 0.8), (0.0, 1.0)
SIZES, MOST_SIZES = (-0.29, 0.29), (-0.4, 0.4)
SPRING = 0.4
SLACK = 1e-6  # stored states are float32: a hair outside is no mistake
REACHED, MOVED = 0.1, 0.3


def _bounds() -> np.ndarray:
    """Lowest and highest values of a state's numbers, (2, 35)."""
    layers = [((-np.inf, np.inf), GROUND_SPEED)] + [(MOST_PLACES, SPRITE_SPEED)] * MAX_SPRITES
    bounds = [(0, len(CLASS_NAMES) - 1), (1, MAX_SPRITES), (0, NUM_TEXTURES - 1)]
    for places, (speed, turn, growth) in layers:
        bounds += [places, places, (-np.pi, np.pi), MOST_SIZES]
        bounds += [(-fastest, fastest) for fastest in (speed, speed, turn, growth)]
    return np.array(bounds, float).T


LOW, HIGH = _bounds()


class MovingShapes(ViewEnv):
    """Shapes that move over a moving ground. See :class:`envs.view_env.ViewEnv` for the contract.

    Unlike in other worlds of views things move by themselves, each with a velocity of its own; a step is exactly
    determined by the state and the action.

    Action (2,): the camera's pan, which moves all layers by 1/32 of the picture x action.

    State: float64 (35,): class of all sprites; their number, 1..3; number of the scene's textures, 0..2**20 - 1; then
    for the ground and three sprites x, y, angle, log_scale, vx, vy, vangle, vlog_scale, zeros for sprites that are
    not there.

    Args:
        image_size: height and width of ``pixels``, >= 16.
        render_mode: ``rgb_array`` or None.
        render_size: height and width of what :meth:`render` returns, >= 16.

    Attributes:
        class_names: what the labels 0, 1, ... stand for.

    Raises:
        ValueError: a size or a mode that there is not.
    """

    state_names = STATE_NAMES
    label_name = "class"
    class_names = CLASS_NAMES

    def __init__(self, image_size: int = 64, render_mode: str | None = "rgb_array", render_size: int = 256):
        super().__init__(random_scene(np.random.default_rng(0)), 2, image_size, render_mode, render_size)

    def step(self, action: np.ndarray):
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (2,) or not np.isfinite(action).all():
            raise ValueError(f"a MovingShapes action must be two finite numbers, the pan; got {action.tolist()}")
        self._state = _moved_on(self._state, PAN * np.clip(action, -1, 1))
        return self._observe(self._state), 0.0, False, False, self._info()

    def render_state(self, state: np.ndarray) -> np.ndarray:
        """The large picture of ``state`` (35,), uint8 (render_size, render_size, 3), for videos."""
        return _draw(self._as_state(state), self.render_size)

    def flow(self, state: np.ndarray, next_state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The true optical flow from ``state`` (35,) to ``next_state`` (35,), a state of the same scene at any time.

        Returns:
            - float32 (image_size, image_size, 2), px to the right and px down: what the picture of ``state`` shows at
              the middle of a pixel (row, column), that of ``next_state`` has at (row + flow[..., 1], column +
              flow[..., 0]).
            - bool (image_size, image_size): it can be seen there, inside of the picture and not covered.

        Raises:
            ValueError: two scenes.
        """
        state, next_state = self._as_state(state), self._as_state(next_state)
        if (state[:NUM_NAMES] != next_state[:NUM_NAMES]).any():
            raise ValueError(
                f"there is no flow from one scene to another: {', '.join(STATE_NAMES[:NUM_NAMES])} must be the same, "
                f"got {state[:NUM_NAMES].tolist()} and {next_state[:NUM_NAMES].tolist()}"
            )
        x, y = _pixels(self.image_size)
        owner = _owner(state, x, y)
        poses, next_poses = (_layers(values)[..., :4] for values in (state, next_state))
        to_x, to_y = to_picture(next_poses[owner], *to_layer(poses[owner], x, y))
        visible = (to_x >= 0) & (to_x <= 1) & (to_y >= 0) & (to_y <= 1) & (_owner(next_state, to_x, to_y) <= owner)
        return (self.image_size * np.stack([to_x - x, to_y - y], -1)).astype(np.float32), visible

    def segments(self, state: np.ndarray) -> np.ndarray:
        """int64 (image_size, image_size): whose the middle of each pixel is, 0 the ground's, k sprite k's."""
        return _owner(self._as_state(state), *_pixels(self.image_size))

    def reached(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): the same scene, every sprite's centre within 0.1 of where it shall be."""
        same = (np.asarray(state)[..., :NUM_NAMES] == np.asarray(goal_state)[..., :NUM_NAMES]).all(-1)
        return same & (_farthest_sprite(state, goal_state) < REACHED)

    def moved(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): a sprite's centre is further than 0.3 from where it shall be."""
        return _farthest_sprite(state, goal_state) > MOVED

    def probe_targets(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """``centre`` (..., 2) and ``log_scale`` (..., 1), means over the sprites."""
        state = np.asarray(state)
        mean = _layers(state)[..., 1:, :4].sum(-2) / state[..., 1:2]  # what is not there is 0
        return {"centre": mean[..., :2], "log_scale": mean[..., 3:]}

    def relations(self, state: np.ndarray, other: np.ndarray) -> dict[str, np.ndarray]:
        """How the view ``other`` differs from ``state``, both (..., 35): how things have moved.

        ``ground`` (..., 4): how far what was in the middle of the picture has gone, turn in [-pi, pi), log zoom;
        ``centre`` (..., 2): how far the sprites have gone on average.
        """
        here, there = (_layers(np.asarray(values))[..., 0, :4] for values in (state, other))
        middle = np.full(here.shape[:-1], 0.5)
        x, y = to_picture(there, *to_layer(here, middle, middle))
        turn, zoom = np.moveaxis(there - here, -1, 0)[2:]
        centre = self.probe_targets(other)["centre"] - self.probe_targets(state)["centre"]
        return {"ground": np.stack([x - 0.5, y - 0.5, _wrap(turn), zoom], -1), "centre": centre}

    def _random_state(self) -> np.ndarray:
        return random_scene(self.np_random)

    def _as_state(self, state: np.ndarray) -> np.ndarray:
        values = np.array(state, dtype=np.float64)
        if values.shape != (len(STATE_NAMES),) or not np.isfinite(values).all():
            raise ValueError(
                f"a MovingShapes state must be {len(STATE_NAMES)} finite numbers ({', '.join(STATE_NAMES[:7])}, ...), "
                f"got {values.tolist()}"
            )
        wrong = (values < LOW - SLACK) | (values > HIGH + SLACK)
        wrong[:NUM_NAMES] |= values[:NUM_NAMES] != np.round(values[:NUM_NAMES])
        for i in np.flatnonzero(wrong)[:1]:
            whole = "a whole number in " if i < NUM_NAMES else ""
            raise ValueError(
                f"{STATE_NAMES[i]} of a MovingShapes state must be {whole}{LOW[i]:.6g}..{HIGH[i]:.6g}, got {values[i]}"
            )
        if _layers(values)[1 + int(values[1]) :].any():
            raise ValueError(
                f"a MovingShapes state of {values[1]:.0f} sprites must have zeros for the others, got {values.tolist()}"
            )
        return values

    def _observe(self, state: np.ndarray) -> dict[str, np.ndarray]:
        return {"pixels": _draw(state, self.image_size)}


# ---- what a state shows -----------------------------------------------------------------------------------------


def _layers(state: np.ndarray) -> np.ndarray:
    """(..., 35) -> (..., 4, 8): pose and velocity of the ground and the sprites."""
    return state[..., NUM_NAMES:].reshape(*state.shape[:-1], len(LAYER_NAMES), -1)


def _pixels(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the pixels' middles, each (size, size)."""
    places = (np.arange(size) + 0.5) / size
    return np.meshgrid(places, places)


def _sprites(state: np.ndarray) -> list[np.ndarray]:
    """The poses (4,) of the sprites that are there, the lowest first."""
    return list(_layers(state)[1 : 1 + int(state[1]), :4])


def _distance(state: np.ndarray, pose: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(h, w): how far points are outside of a sprite's outline, sides of the picture; negative inside."""
    u, v = to_layer(pose, x, y)
    return RADIUS * np.exp(pose[3]) * SHAPES[CLASS_NAMES[int(state[0])]](u / RADIUS, v / RADIUS)


def _owner(state: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """int64 (h, w): the topmost layer at points ``x``, ``y`` (h, w) of the picture."""
    owner = np.zeros(x.shape, np.int64)
    for number, pose in enumerate(_sprites(state), 1):
        owner[_distance(state, pose, x, y) < 0] = number
    return owner


def _draw(state: np.ndarray, size: int) -> np.ndarray:
    """uint8 (size, size, 3): the layers over each other, edges a pixel wide."""
    places = (np.arange(size) + 0.5) / size
    textures = make_textures(int(state[2]), int(state[0]), len(LAYER_NAMES))
    image = paint(textures[0], _layers(state)[0, :4], places, places)
    for texture, pose in zip(textures[1:], _sprites(state), strict=False):
        reach = RADIUS * np.exp(pose[3]) + 1 / size
        starts, ends = (np.clip(np.round((pose[:2] + side) * size), 0, size).astype(int) for side in (-reach, reach))
        columns, rows = (slice(*edges) for edges in zip(starts, ends, strict=True))
        x, y = places[columns], places[rows]
        share = np.clip(0.5 - size * _distance(state, pose, x[None], y[:, None]), 0, 1)[..., None]
        image[rows, columns] += share * (paint(texture, pose, x, y) - image[rows, columns])
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _farthest_sprite(state: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(...): the largest distance between a sprite's centre in one state and in the other."""
    here, there = (_layers(np.asarray(values))[..., 1:, :2] for values in (state, other))
    return np.linalg.norm(here - there, axis=-1).max(-1)


# ---- motion -----------------------------------------------------------------------------------------------------


def _moved_on(state: np.ndarray, pan: np.ndarray) -> np.ndarray:
    """The state (35,) a step later, all layers moved by ``pan`` (2,) beside."""
    state = state.copy()
    layers = _layers(state)  # a view, through which the copy is changed
    ground, sprites = layers[0], layers[1 : 1 + int(state[1])]
    for layer, speed in ((layers[:1], GROUND_SPEED), (sprites, SPRITE_SPEED)):
        pull = layer[:, 3].clip(*SIZES) - layer[:, 3]
        layer[:, 7] = (layer[:, 7] + SPRING * pull).clip(-speed[2], speed[2])
    sprites[:, 4:6] += SPRING * (sprites[:, :2].clip(*PLACES) - sprites[:, :2])
    sprites[:, 4:6] /= np.maximum(np.linalg.norm(sprites[:, 4:6], axis=-1, keepdims=True) / SPRITE_SPEED[0], 1)

    sizes = (layers[:, 3] + layers[:, 7]).clip(*MOST_SIZES)
    about_middle = np.array([0.5, 0.5, ground[6], sizes[0] - ground[3]])
    ground[:2] = to_picture(about_middle, *(ground[:2] - 0.5)) + ground[4:6] + pan
    sprites[:, :2] = (sprites[:, :2] + sprites[:, 4:6] + pan).clip(*MOST_PLACES)
    layers[:, 2] = _wrap(layers[:, 2] + layers[:, 6])
    layers[:, 3] = sizes
    return state


def _wrap(angle: np.ndarray) -> np.ndarray:
    """Into [-pi, pi)."""
    return np.mod(angle + np.pi, 2 * np.pi) - np.pi


def random_scene(rng: np.random.Generator) -> np.ndarray:
    """The state (35,) of a new scene: 1 to 3 sprites of any class, that keep apart at first."""
    number = int(rng.integers(1, MAX_SPRITES + 1))
    state = np.zeros(len(STATE_NAMES))
    state[:NUM_NAMES] = rng.integers(len(CLASS_NAMES)), number, rng.integers(NUM_TEXTURES)
    layers = _layers(state)[: 1 + number]
    for i, layer in enumerate(layers):
        layer[:2] = farthest(rng.uniform(*PLACES, (4, 2)), layers[1:i, :2])
        layer[2:4] = rng.uniform(-np.pi, np.pi), rng.uniform(*SIZES)
        speed, direction = SPRITE_SPEED if i else GROUND_SPEED, rng.uniform(-np.pi, np.pi)
        layer[4:6] = speed[0] * rng.random() * np.array([np.cos(direction), np.sin(direction)])
        layer[6:] = speed[1:] * rng.uniform(-1, 1, 2)
    return state


class PanPlayer:
    """Pans smoothly and at random over a new scene. Follows :class:`worldjepa.types.Player`.

    Args:
        label: written into every episode as its policy.
        correlation: of the pan from one step to the next, [0, 1).
        strength: its standard deviation before it is cut to [-1, 1], >= 0.

    Raises:
        ValueError: an argument out of its bounds.
    """

    def __init__(self, label: str = "scripted", correlation: float = 0.8, strength: float = 0.5):
        if not 0 <= correlation < 1 or not 0 <= strength < np.inf:
            raise ValueError(
                f"correlation must lie in [0, 1) and strength be finite and >= 0, got {correlation!r} and {strength!r}"
            )
        self.label, self.correlation, self.strength = label, float(correlation), float(strength)

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """A new scene (35,), and its textures as the group."""
        self._rng, self._pan = rng, rng.standard_normal(2)
        state = random_scene(rng)
        return state, f"scene/{int(state[2]):07d}"

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (2,) in [-1, 1]: the pan."""
        noise = np.sqrt(1 - self.correlation**2) * self._rng.standard_normal(2)
        self._pan = self.correlation * self._pan + noise
        return np.clip(self.strength * self._pan, -1, 1).astype(np.float32)

    def keep(self, states: np.ndarray) -> bool:
        """Everything is worth storing."""
        return True
