"""Why predicting in latent space favours what predicts well: deep linear theory (arXiv:2407.03475), and such networks.

An encoder of L linear layers and a linear decoder learn to tell y from x. Where both covariances are diagonal, mode i
has Sigma_yx = lambda_i and Sigma_xx = lambda_i / rho_i: a noisy feature varies much (lambda) and predicts badly (rho).
Its encoder strength w_i, the product of the layers' singular values, grows apart from the other modes. A JEPA ends at
rho^L, MAE at rho^(L / (L + 1)), so depth lets a JEPA mute what predicts badly. By the time to halfway from start to
limit, it also learns the better predictor first among modes of equal lambda, and from a large enough start even against
lambda: in the example of ``scripts/theory.py`` at L >= 3, where MAE never does. As the start goes to 0, lambda decides
the order for both.

Time here is that of the equations below, which leave out a factor that all modes share: a network of L layers that
descends at learning rate r passes ``L r`` of this time per step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate

import numpy as np

# Short enough to draw a curve through the edges, linearly, to 1e-5 of the limit; the times are exact to 1e-9.
PANEL, NODES = 0.02, 4


@dataclass(frozen=True)
class Mode:
    """One direction of the data.

    Args:
        covariance: lambda > 0, between y and x.
        regression: rho > 0, the coefficient with which x predicts y; the variance of x is ``covariance / regression``.
    """

    covariance: float
    regression: float

    def __post_init__(self) -> None:
        if not (self.covariance > 0 and self.regression > 0):
            raise ValueError(f"a mode needs covariance and regression > 0, got {self.covariance}, {self.regression}")


class DeepLinear(ABC):
    """``w' = lambda w^p - (lambda / rho) w^3``: one mode's encoder strength w, and the networks that obey it.

    Args:
        depth: linear layers of the encoder, L >= 1. The decoder is one more.
    """

    def __init__(self, depth: int):
        if depth < 1:
            raise ValueError(f"depth must be >= 1, got {depth}")
        self.depth = depth

    @property
    @abstractmethod
    def exponent(self) -> float:
        """p, the power of w that drives growth; below 3."""

    @abstractmethod
    def _target(self, encoder: np.ndarray) -> np.ndarray:
        """What is made of y, as a matrix (K,K), held fixed while the loss is differentiated."""

    def limit(self, mode: Mode) -> float:
        """The strength that w ends at, where both terms are equal."""
        return mode.regression ** (1 / (3 - self.exponent))

    def speed(self, mode: Mode, strength: np.ndarray | float) -> np.ndarray | float:
        """dw/dt at strengths w >= 0 of any shape."""
        return mode.covariance * (strength**self.exponent - strength**3 / mode.regression)

    def time(self, mode: Mode, start: float, end: float) -> float:
        """How long w takes from ``start`` to ``end``.

        Raises:
            ValueError: unless 0 < start <= end < limit; the limit itself is never reached.
        """
        return float(self._path(mode, start, end)[1][-1])

    def curve(self, mode: Mode, start: float, times: np.ndarray) -> np.ndarray:
        """w at ``times`` (n,), all >= 0, from ``start`` in (0, limit) at time 0, to 1e-5 of the limit."""
        limit = self.limit(mode)
        # past the last edge it stays there, a millionth of the way short
        strengths, when = self._path(mode, start, limit - 1e-6 * (limit - start))
        return np.interp(times, when, strengths)

    def train(
        self,
        modes: Sequence[Mode],
        layer_scale: float,
        num_steps: int,
        generator: np.random.Generator,
        learning_rate: float = 0.01,
    ) -> np.ndarray:
        """Trains a network by gradient descent on the expected loss ``1/2 |decoder encoder x - target y|^2``.

        Every layer starts as a rotation times ``layer_scale``, the decoder as the one that keeps the modes apart
        (balanced and aligned, as the theory assumes); the gradient needs only the covariances, so nothing is sampled.

        Returns:
            strengths (num_steps + 1, K): each mode's encoder strength, the length of what the encoder makes of its unit
            vector, before the first step and after every one. It starts at ``layer_scale ** depth``.
        """
        yx = np.diag([mode.covariance for mode in modes])
        xx = np.diag([mode.covariance / mode.regression for mode in modes])
        layers = [layer_scale * _rotation(len(modes), generator) for _ in range(self.depth)]
        rotation = reduce(lambda product, layer: layer @ product, layers) / layer_scale**self.depth
        decoder = layer_scale * self._target(rotation) @ rotation.T
        strengths = np.empty((num_steps + 1, len(modes)))
        for step in range(num_steps + 1):
            *below, encoder = accumulate(layers, lambda product, layer: layer @ product, initial=np.eye(len(modes)))
            strengths[step] = np.sqrt(np.square(encoder).sum(0))
            residual = decoder @ encoder @ xx - self._target(encoder) @ yx
            gradient = decoder.T @ residual
            decoder = decoder - learning_rate * residual @ encoder.T
            for i in reversed(range(self.depth)):
                # the gradient passes on through the layer as it was in the forward pass
                gradient, layer_gradient = layers[i].T @ gradient, gradient @ below[i].T
                layers[i] = layers[i] - learning_rate * layer_gradient
        return strengths

    def _path(self, mode: Mode, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
        """Strengths (n,) from ``start`` to ``end`` and when w gets there (n,), by Gauss-Legendre quadrature of dw/w'.

        The variable is log(w / (limit - w)), in which the integrand is smooth although w' vanishes at both ends.
        """
        limit = self.limit(mode)
        if not 0 < start <= end < limit:
            raise ValueError(f"strengths must be 0 < start <= end < limit ({limit:.6g}), got {start:.6g} to {end:.6g}")
        low, high = (math.log(w / (limit - w)) for w in (start, end))
        edges = np.linspace(low, high, 1 + max(1, math.ceil((high - low) / PANEL)))
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        half = (edges[1] - edges[0]) / 2
        strengths = limit / (1 + np.exp(-(edges[:-1, None] + half * (1 + nodes))))
        durations = strengths * (1 - strengths / limit) / self.speed(mode, strengths) @ weights * half
        return limit / (1 + np.exp(-edges)), np.concatenate([[0.0], np.cumsum(durations)])


class DeepLinearJepa(DeepLinear):
    """Predicts the encoder's own, gradient-stopped, view of y: p = 3 - 1/L, limit rho^L."""

    @property
    def exponent(self) -> float:
        return 3 - 1 / self.depth

    def _target(self, encoder: np.ndarray) -> np.ndarray:
        return encoder


class DeepLinearMae(DeepLinear):
    """Predicts y itself: p = 2 - 1/L, limit rho^(L / (L + 1))."""

    @property
    def exponent(self) -> float:
        return 2 - 1 / self.depth

    def _target(self, encoder: np.ndarray) -> np.ndarray:
        return np.eye(len(encoder))


def first_steps(strengths: np.ndarray, ends: Sequence[float]) -> np.ndarray:
    """The first step at which each mode's strength, a column of (n,K), is at its end: int (K,).

    Raises:
        ValueError: when a mode never gets there.
    """
    reached = strengths >= np.asarray(ends)
    if not reached.any(0).all():
        raise ValueError(f"ends {np.round(ends, 4)} not reached by {strengths.max(0).round(4)}; train for more steps")
    return reached.argmax(0)


def _rotation(size: int, generator: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(generator.standard_normal((size, size)))[0]
