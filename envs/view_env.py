"""What worlds of views share: nothing moves by itself, and an action says how the next view differs from this one."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from envs.reset_options import state_and_goal

MIN_IMAGE_SIZE = 16


class ViewEnv(gym.Env):
    """A thing seen in one view after another. Follows :class:`worldjepa.types.GoalEnv`.

    Observations: ``pixels`` uint8 (image_size, image_size, 3) RGB. Actions: float32 in [-1, 1], clipped. ``info`` holds
    ``state`` and, with a goal state, ``is_success``; there is no other reward (always 0).

    A world says ``state_names``, ``label_name`` (which of these is the thing's class) and how two views relate, and
    fills in :meth:`_random_state`, :meth:`_as_state`, :meth:`_observe`, :meth:`render_state` and ``step``.

    Args:
        state: the view shown before the first reset, float64 (S,).
        num_actions: width of an action.
        image_size: height and width of ``pixels``, >= 16.
        render_mode: ``rgb_array`` or None.
        render_size: height and width of what :meth:`render` returns, >= 16.

    Raises:
        ValueError: a size or a mode that there is not.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    state_names: tuple[str, ...]
    label_name: str

    def __init__(self, state: np.ndarray, num_actions: int, image_size: int, render_mode: str | None, render_size: int):
        check_sizes(image_size=image_size, render_size=render_size)
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        self.image_size, self.render_mode, self.render_size = int(image_size), render_mode, int(render_size)
        self.goal_state: np.ndarray | None = None
        self._state = state
        self.observation_space = gym.spaces.Dict(pixels=gym.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8))
        self.action_space = gym.spaces.Box(-1, 1, (num_actions,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Starts at ``options["state"]`` or anywhere; ``options["goal_state"]`` makes ``info["is_success"]`` appear."""
        super().reset(seed=seed)
        state, goal = state_and_goal(options)
        self.goal_state = None if goal is None else self._as_state(goal)
        self.set_state(self._random_state() if state is None else state)
        return self._observe(self._state), self._info()

    def render(self) -> np.ndarray | None:
        """The present picture, uint8 (render_size, render_size, 3)."""
        return None if self.render_mode is None else self.render_state(self._state)

    def render_state(self, state: np.ndarray) -> np.ndarray:
        """The large picture of ``state`` (S,), uint8 (render_size, render_size, 3), for videos."""
        raise NotImplementedError

    def get_state(self) -> np.ndarray:
        """What is shown, float64 (S,)."""
        return self._state.copy()

    def set_state(self, state: np.ndarray) -> None:
        """Shows exactly the view ``state`` (S,)."""
        self._state = self._as_state(state)

    snapshot, restore = get_state, set_state  # the state is all there is

    def observe_state(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of ``state`` (S,), without touching what is shown."""
        return self._observe(self._as_state(state))

    def _random_state(self) -> np.ndarray:
        """Any view of anything (S,), by ``np_random``."""
        raise NotImplementedError

    def _as_state(self, state: np.ndarray) -> np.ndarray:
        """``state`` as float64 (S,), a copy; a ValueError where it is none."""
        raise NotImplementedError

    def _observe(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of a valid state (S,)."""
        raise NotImplementedError

    def _info(self) -> dict[str, Any]:
        state = self.get_state()
        if self.goal_state is None:
            return {"state": state}
        return {"state": state, "is_success": bool(self.reached(state, self.goal_state))}


def check_sizes(**sizes: int) -> None:
    """Raises ValueError unless every size is a whole number of px, 16 or more."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < MIN_IMAGE_SIZE:
            raise ValueError(f"{name} must be a whole number >= {MIN_IMAGE_SIZE}, got {size!r}")
