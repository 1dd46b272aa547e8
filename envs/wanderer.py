"""A player for every MuJoCo environment: actions that wander."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

CORRELATIONS = (0.95, 0.98)
"""Of the actions from one step to the next, where nothing speaks for others: they must get somewhere."""


class Wanderer:
    """Acts by noise that is correlated in time; each episode has a strength and a correlation of its own.

    Follows :class:`worldjepa.types.Player`.

    Args:
        id: gymnasium id of the environment that is played.
        kwargs: of it, beside ``pixels=False``.
        label: written into every episode as its policy.
        correlations: of the noise from one step to the next, 0..1; each episode draws one. High ones get somewhere, too
            high ones press joints against their limits.

    Raises:
        ValueError: a correlation outside [0, 1), or none.
    """

    strengths = (0.7, 1.5)  # standard deviation of the actions
    warm_up = 150  # the most steps that an episode has gone on before it is recorded

    def __init__(
        self,
        id: str,
        kwargs: Mapping[str, Any] | None = None,
        label: str = "scripted",
        correlations: Sequence[float] = CORRELATIONS,
    ):
        if not correlations or not all(0 <= rho < 1 for rho in correlations):
            raise ValueError(f"correlations must be numbers in [0, 1), at least one, got {list(correlations)}")
        self.label, self.correlations = label, tuple(correlations)
        self.env = gym.make(id, **{**(kwargs or {}), "pixels": False}).unwrapped

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """A start of the task, or what wandering has made of it some steps later; a group of its own."""
        self._rng = rng
        self._correlation = float(rng.choice(self.correlations))
        self._strength = float(rng.choice(self.strengths))
        self._noise = rng.standard_normal(self.env.action_space.shape)
        _, info = self.env.reset(seed=int(rng.integers(2**31)))
        for _ in range(int(rng.integers(self.warm_up + 1))):
            *_, info = self.env.step(self._wander())
        return info["state"], f"{self.label}/{int(rng.integers(2**62)):016x}"

    def act(self, state: np.ndarray) -> np.ndarray:
        """float32 (A,) action in [-1, 1]."""
        return self._wander()

    def _wander(self) -> np.ndarray:
        rho = self._correlation
        self._noise = rho * self._noise + np.sqrt(1 - rho**2) * self._rng.standard_normal(self._noise.shape)
        return np.clip(self._strength * self._noise, -1, 1).astype(np.float32)

    def keep(self, states: np.ndarray) -> bool:
        """Everything is worth storing, but a simulation that blew up."""
        return bool(np.isfinite(states).all())
