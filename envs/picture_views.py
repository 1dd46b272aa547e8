"""Several views of one picture, where an action says how the next view differs from this one (seq-JEPA, NeurIPS 2025).

:class:`Saccades` looks at a picture through small glimpses; :class:`Augmentations` sees it cropped, recoloured and
blurred. A state is ``(picture, label, *view)``: the index of the picture, its class, and the numbers of the view, each
in 0..1. Actions change the view only; the picture changes at a reset.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from envs.pictures import DIGITS, centre_weights, load_pictures
from envs.view_env import ViewEnv, check_sizes

NUM_NAMES = 2  # of a state's numbers, these say which picture it is
SLACK = 1e-6  # stored states are float32: a hair outside is no mistake

CROP_AREA = (0.2, 1.0)  # of the picture
CROP_ASPECT = 4 / 3  # width / height from 1 over this to this
JITTER = 0.4  # brightness, contrast and saturation are multiplied by 1 - this .. 1 + this
HUE = 0.1  # of a full turn, either way
BLUR = 2.0 / 32  # largest sigma, as a share of the view's side
LUMA = np.array([0.299, 0.587, 0.114])
TO_YIQ = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
FROM_YIQ = np.linalg.inv(TO_YIQ)
NEUTRAL_VIEW = (0.5, 0.5, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0)
"""The view of :class:`Augmentations` that shows the whole picture as it is."""


class PictureViews(ViewEnv):
    """What worlds of pictures share. See :class:`envs.view_env.ViewEnv` for the contract.

    Action (V,): added to the V numbers of the view, which stay in 0..1. State: float64 (2 + V,).

    A subclass says ``state_names`` and draws: :meth:`_view` and :meth:`render_state`.

    Args:
        source: see :func:`envs.pictures.load_pictures`.
        picture_size: height and width at which pictures are held, px, >= 16.
        image_size: height and width of ``pixels``, >= 16.
        render_mode: ``rgb_array`` or None.
        render_size: height and width of what :meth:`render` returns, >= 16.

    Attributes:
        class_names: what the labels 0, 1, ... of the pictures stand for.

    Raises:
        ValueError: a size or a mode that there is not; a source without pictures.
    """

    label_name = "label"
    shows_a_part = False  # of the picture, pixel for pixel: then the picture must be larger

    def __init__(
        self,
        source: str | Path = DIGITS,
        picture_size: int = 96,
        image_size: int = 32,
        render_mode: str | None = "rgb_array",
        render_size: int = 256,
    ):
        check_sizes(picture_size=picture_size, image_size=image_size)
        if self.shows_a_part:
            _check_glimpse(picture_size, image_size)
        self.picture_size, self._num_view = int(picture_size), len(self.state_names) - NUM_NAMES
        self._pictures, self._labels, self.class_names = load_pictures(source, picture_size)
        first = np.array([0, self._labels[0], *[0.5] * self._num_view])
        super().__init__(first, self._num_view, image_size, render_mode, render_size)

    def _random_state(self) -> np.ndarray:
        index = int(self.np_random.integers(len(self._labels)))
        return np.array([index, self._labels[index], *self.np_random.random(self._num_view)])

    def step(self, action: np.ndarray):
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (self._num_view,) or not np.isfinite(action).all():
            name = type(self).__name__
            raise ValueError(f"a {name} action must be {self._num_view} finite numbers, got {action.tolist()}")
        self._state[NUM_NAMES:] = np.clip(self._state[NUM_NAMES:] + np.clip(action, -1, 1), 0, 1)
        return self._observe(self._state), 0.0, False, False, self._info()

    def _observe(self, state: np.ndarray) -> dict[str, np.ndarray]:
        return {"pixels": self._view(self._pictures[int(state[0])], state[NUM_NAMES:], self.image_size)}

    def relations(self, state: np.ndarray, other: np.ndarray) -> dict[str, np.ndarray]:
        """How the view ``other`` differs from ``state``, both (..., S): the differences of what is probed for."""
        here, there = self.probe_targets(state), self.probe_targets(other)
        return {name: there[name] - here[name] for name in here}

    def _view(self, picture: np.ndarray, view: np.ndarray, size: int) -> np.ndarray:
        """uint8 (size, size, 3): ``picture`` seen as ``view`` (V,) says."""
        raise NotImplementedError

    def _as_state(self, state: np.ndarray) -> np.ndarray:
        values, name, names = np.array(state, dtype=np.float64), type(self).__name__, self.state_names
        if values.shape != (len(names),) or not np.isfinite(values).all():
            raise ValueError(
                f"a {name} state must be {len(names)} finite numbers ({', '.join(names)}); got {values.tolist()}"
            )
        index, label = values[:NUM_NAMES].tolist()
        if index != int(index) or not 0 <= index < len(self._labels):
            raise ValueError(f"a {name} state's picture must be one of 0..{len(self._labels) - 1}, got {index}")
        true_label = int(self._labels[int(index)])
        if label != true_label:
            raise ValueError(
                f"the label of a {name} state must fit its picture: {int(index)} is of class {true_label} "
                f"({self.class_names[true_label]}), got {label}; was the state made with another source?"
            )
        view = np.clip(values[NUM_NAMES:], 0, 1)
        if np.abs(view - values[NUM_NAMES:]).max() > SLACK:
            raise ValueError(
                f"{', '.join(names[NUM_NAMES:])} of a {name} state must lie in 0..1, got {values[NUM_NAMES:].tolist()}"
            )
        values[NUM_NAMES:] = view
        return values


class Saccades(PictureViews):
    """A picture seen through glimpses, as an eye does. See :class:`PictureViews` for the contract.

    State: (picture, label, x, y), the centre of the glimpse in 0..1 over the places where it fits in the picture, y
    down; it is shown at the nearest whole pixel. Action (2,): difference of centres. A glimpse is ``image_size`` px of
    the picture, which must be larger.
    """

    state_names = ("picture", "label", "x", "y")
    shows_a_part = True

    def render_state(self, state: np.ndarray) -> np.ndarray:
        """The whole picture and a frame around the glimpse of ``state``, uint8 (render_size, render_size, 3)."""
        state, scale = self._as_state(state), self.render_size / self.picture_size
        large = cv2.resize(self._pictures[int(state[0])], (self.render_size,) * 2, interpolation=cv2.INTER_LINEAR)
        corner = self._corner(state[NUM_NAMES:])
        start, end = ([round((c + n) * scale) for c in corner] for n in (0, self.image_size))
        for colour, width in ((0, 3), (255, 1)):  # white in black shows on any ground
            cv2.rectangle(large, start, [e - 1 for e in end], (colour,) * 3, width * max(1, self.render_size // 128))
        return large

    def reached(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): the same picture, centres within 0.1."""
        return _same_picture(state, goal_state) & (_distance(state, goal_state) < 0.1)

    def moved(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): centres further than 0.3 from each other."""
        return _distance(state, goal_state) > 0.3

    def probe_targets(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """``position`` (..., 2)."""
        return {"position": np.asarray(state)[..., NUM_NAMES:]}

    def _corner(self, view: np.ndarray) -> list[int]:
        """x, y of the glimpse's top left pixel."""
        return [round(place * (self.picture_size - self.image_size)) for place in view.tolist()]

    def _view(self, picture: np.ndarray, view: np.ndarray, size: int) -> np.ndarray:
        left, top = self._corner(view)
        return picture[top : top + size, left : left + size].copy()


class Augmentations(PictureViews):
    """A picture seen cropped, recoloured and blurred. See :class:`PictureViews` for the contract.

    State: (picture, label, ...) and nine numbers in 0..1 that mean
        crop_x, crop_y: where the crop lies, from the first to the last place where it fits;
        crop_scale: its area, 0.2..1 of the picture;
        crop_aspect: its width / height, 3/4..4/3, even in the logarithm (0.5 is a square); a side that would be longer
            than the picture's is as long as the picture's;
        brightness, contrast, saturation: factors 0.6..1.4 (0.5 leaves as is);
        hue: turned by -0.1..0.1 of a full turn (0.5 leaves as is);
        blur: sigma of a Gaussian, 0..1/16 of the view's side (2 px of 32).
    Action (9,): their difference.

    Colours change in this order, by one linear map: values are cut to 0..255 only at its end, and hues turn in YIQ
    instead of HSV, unlike torchvision's ``ColorJitter(0.4, 0.4, 0.4, 0.1)`` whose strengths these are.
    """

    state_names = (
        *("picture", "label", "crop_x", "crop_y", "crop_scale", "crop_aspect"),
        *("brightness", "contrast", "saturation", "hue", "blur"),
    )

    def render_state(self, state: np.ndarray) -> np.ndarray:
        """The view of ``state``, drawn large: uint8 (render_size, render_size, 3)."""
        state = self._as_state(state)
        return self._view(self._pictures[int(state[0])], state[NUM_NAMES:], self.render_size)

    def reached(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): the same picture, all nine numbers within 0.15."""
        return _same_picture(state, goal_state) & (_largest_change(state, goal_state) < 0.15)

    def moved(self, state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
        """bool (...): any of the nine numbers further than 0.4."""
        return _largest_change(state, goal_state) > 0.4

    def probe_targets(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """``crop`` (..., 4), ``jitter`` (..., 4), ``blur`` (..., 1)."""
        view = np.asarray(state)[..., NUM_NAMES:]
        return {"crop": view[..., :4], "jitter": view[..., 4:8], "blur": view[..., 8:]}

    def _view(self, picture: np.ndarray, view: np.ndarray, size: int) -> np.ndarray:
        x, y, area, aspect, *colour, blur = view.tolist()
        area = CROP_AREA[0] + (CROP_AREA[1] - CROP_AREA[0]) * area
        aspect = CROP_ASPECT ** (2 * aspect - 1)
        whole = self.picture_size
        width, height = (max(1, round(whole * min(1.0, side**0.5))) for side in (area * aspect, area / aspect))
        left, top = round(x * (whole - width)), round(y * (whole - height))
        # Averaging whole source pixels keeps small views free of aliasing; it cannot enlarge.
        method = cv2.INTER_AREA if min(width, height) >= size else cv2.INTER_LINEAR
        crop = cv2.resize(picture[top : top + height, left : left + width], (size, size), interpolation=method)
        crop = cv2.transform(crop, _colour_change(*colour, grey=float(LUMA @ cv2.mean(crop)[:3])))
        sigma = blur * BLUR * size
        return crop if sigma < 0.1 else cv2.GaussianBlur(crop, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


def _colour_change(brightness: float, contrast: float, saturation: float, hue: float, grey: float) -> np.ndarray:
    """The change of colour as a map (3, 4) of RGB and 1, for a view whose mean luminance is ``grey``."""
    brightness, contrast, saturation = (1 + JITTER * (2 * x - 1) for x in (brightness, contrast, saturation))
    angle = 2 * np.pi * HUE * (2 * hue - 1)
    cos, sin = saturation * np.cos(angle), saturation * np.sin(angle)
    turn = FROM_YIQ @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ TO_YIQ
    # Contrast pulls towards the mean grey, which saturation and hue leave where it is.
    offset = (1 - contrast) * brightness * grey
    return np.column_stack([contrast * brightness * turn, [offset] * 3])


def _check_glimpse(picture_size: int, image_size: int) -> None:
    if image_size >= picture_size:
        raise ValueError(
            f"image_size must be smaller than picture_size ({picture_size}), so that there is somewhere to look; "
            f"got {image_size}"
        )


def _same_picture(state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
    return np.asarray(state)[..., 0] == np.asarray(goal_state)[..., 0]


def _change(state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
    return (np.asarray(state) - np.asarray(goal_state))[..., NUM_NAMES:]


def _distance(state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
    return np.linalg.norm(_change(state, goal_state), axis=-1)


def _largest_change(state: np.ndarray, goal_state: np.ndarray) -> np.ndarray:
    return np.abs(_change(state, goal_state)).max(-1)


# ---- players ----------------------------------------------------------------------------------------------------


class PicturePlayer:
    """Picks a picture and a view, then view after view of it; what shows one picture is one group of episodes.

    A subclass says what it looks at: :meth:`_begin` and :meth:`_next_view`.

    Args:
        source, picture_size: the environment's, see :class:`PictureViews`.
        label: written into every episode as its policy.
    """

    def __init__(self, source: str | Path = DIGITS, picture_size: int = 96, label: str = "scripted"):
        check_sizes(picture_size=picture_size)
        self.source, self.picture_size, self.label = str(source), int(picture_size), label
        self._labels = load_pictures(source, picture_size)[1]

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """A state (2 + V,) of any picture, and the picture's group, so that no picture is in both splits."""
        self._rng = rng
        index = int(rng.integers(len(self._labels)))
        return np.array([index, self._labels[index], *self._begin(index)]), f"picture/{index:07d}"

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (V,) in [-1, 1]: what is added to the view of ``state`` (2 + V,)."""
        view = np.asarray(state, np.float64)[NUM_NAMES:]
        return (self._next_view(int(state[0]), view) - view).astype(np.float32)

    def keep(self, states: np.ndarray) -> bool:
        """Everything is worth storing."""
        return True

    def _begin(self, index: int) -> np.ndarray:
        """The first view (V,) of picture ``index``."""
        raise NotImplementedError

    def _next_view(self, index: int, view: np.ndarray) -> np.ndarray:
        """The view (V,) after ``view`` of picture ``index``."""
        raise NotImplementedError


class SaccadePlayer(PicturePlayer):
    """Looks where a picture stands out (:func:`envs.pictures.centre_weights`), but less where it has looked before.

    Args:
        source, picture_size, image_size, label: see :class:`PicturePlayer`.
        inhibition: places already looked at are suppressed by a Gaussian of this sigma, as a share of the picture;
            0 lets the eye return.

    Raises:
        ValueError: as of :class:`Saccades`; a negative ``inhibition``.
    """

    def __init__(
        self,
        source: str | Path = DIGITS,
        picture_size: int = 96,
        image_size: int = 32,
        label: str = "scripted",
        inhibition: float = 0.2,
    ):
        super().__init__(source, picture_size, label)
        check_sizes(image_size=image_size)
        _check_glimpse(picture_size, image_size)
        if not 0 <= inhibition < float("inf"):
            raise ValueError(f"inhibition must be >= 0, a share of the picture, got {inhibition!r}")
        self.image_size, self.inhibition = int(image_size), float(inhibition)
        self._places = np.linspace(0, 1, picture_size - image_size + 1)
        self._fresh = np.ones((len(self._places),) * 2)

    def _begin(self, index: int) -> np.ndarray:
        self._fresh[:] = 1
        return self._draw(index)

    def _next_view(self, index: int, view: np.ndarray) -> np.ndarray:
        if self.inhibition > 0:
            sigma = self.inhibition * self.picture_size / (self.picture_size - self.image_size)
            across, down = (np.exp(-(((self._places - place) / sigma) ** 2) / 2) for place in view)
            # The nearest look counts, and not the product of all: long episodes would run out of places.
            np.minimum(self._fresh, 1 - np.outer(down, across), out=self._fresh)
        return self._draw(index)

    def _draw(self, index: int) -> np.ndarray:
        weights = centre_weights(self.source, self.picture_size, self.image_size, index) * self._fresh
        total = np.cumsum(weights)
        place = int(np.searchsorted(total, self._rng.random() * total[-1], side="right"))
        row, column = divmod(min(place, len(total) - 1), len(self._places))
        return self._places[[column, row]]


class AugmentationPlayer(PicturePlayer):
    """Draws every view of :class:`Augmentations` independently and evenly."""

    def _begin(self, index: int) -> np.ndarray:
        return self._rng.random(len(NEUTRAL_VIEW))

    def _next_view(self, index: int, view: np.ndarray) -> np.ndarray:
        return self._rng.random(len(NEUTRAL_VIEW))
