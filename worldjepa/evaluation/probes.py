"""Probes: how well named quantities of the simulator can be read off latents.

A probe is trained on the latents of one set of episodes and scored on another. It never trains the model; a low score
means that the latent hides the quantity, a high linear score that a planner's distance can see it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

ANGLE_SUFFIX = "angle"
"""Targets whose name ends so hold (cos, sin) of an angle and are scored in degrees; all others in their own unit."""


def is_angle(name: str) -> bool:
    """Whether the target ``name`` holds (cos, sin) of an angle."""
    return name.endswith(ANGLE_SUFFIX)


@dataclass(frozen=True)
class LinearProbe:
    """An affine map from latents to a target: ``latent @ weight + bias``, weight (D,k), bias (k,)."""

    weight: np.ndarray
    bias: np.ndarray

    def predict(self, latent: np.ndarray) -> np.ndarray:
        """(N,D) -> (N,k), in the target's unit."""
        return np.asarray(latent, np.float64) @ self.weight + self.bias


@dataclass(frozen=True)
class MLPProbe:
    """A small network from standardised latents to a target; holds scikit-learn's regressor and both scalings."""

    regressor: object
    latent_mean: np.ndarray
    latent_std: np.ndarray
    target_mean: np.ndarray
    target_std: np.ndarray

    def predict(self, latent: np.ndarray) -> np.ndarray:
        """(N,D) -> (N,k), in the target's unit."""
        scaled = (np.asarray(latent, np.float64) - self.latent_mean) / self.latent_std
        out = self.regressor.predict(scaled).reshape(len(scaled), -1)
        return out * self.target_std + self.target_mean


def fit_linear(latent: np.ndarray, target: np.ndarray, *, penalty: float = 1e-4) -> LinearProbe:
    """Ridge regression in closed form.

    Args:
        latent: (N,D) float.
        target: (N,k) float, any unit.
        penalty: weight of the squared coefficients of *standardised* latents, per sample; 0 is least squares.
    """
    latent, target = _paired(latent, target)
    latent_mean, latent_std = _mean_and_std(latent)
    target_mean = target.mean(axis=0)
    scaled = (latent - latent_mean) / latent_std
    gram = scaled.T @ scaled / len(scaled) + penalty * np.eye(scaled.shape[1])
    moment = scaled.T @ (target - target_mean) / len(scaled)
    # lstsq rather than solve: dead latent numbers make the Gram matrix singular when the penalty is 0
    weight = np.linalg.lstsq(gram, moment, rcond=None)[0] / latent_std[:, None]
    return LinearProbe(weight=weight, bias=target_mean - latent_mean @ weight)


def fit_mlp(latent: np.ndarray, target: np.ndarray, *, seed: int = 0, hidden: int = 128, epochs: int = 100) -> MLPProbe:
    """A two-layer perceptron, stopped early on a tenth of the samples; the same ``seed`` gives the same probe."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    latent, target = _paired(latent, target)
    latent_mean, latent_std = _mean_and_std(latent)
    target_mean, target_std = _mean_and_std(target)
    regressor = MLPRegressor(
        hidden_layer_sizes=(hidden, hidden),
        learning_rate_init=3e-3,
        early_stopping=True,
        n_iter_no_change=8,
        max_iter=epochs,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # the budget of epochs is meant as a budget; reaching it is no fault
        warnings.simplefilter("ignore", ConvergenceWarning)
        scaled = (target - target_mean) / target_std
        regressor.fit((latent - latent_mean) / latent_std, scaled[:, 0] if scaled.shape[1] == 1 else scaled)
    return MLPProbe(regressor, latent_mean, latent_std, target_mean, target_std)


def r2(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(k,) share of each number's variance that is explained: 1 is perfect, 0 no better than the mean, can be < 0.

    A number that never varies counts 1 when predicted exactly and 0 otherwise.
    """
    residual = ((prediction - target) ** 2).sum(axis=0)
    total = ((target - target.mean(axis=0)) ** 2).sum(axis=0)
    constant = np.where(residual <= 1e-12, 1.0, 0.0)
    return np.where(total > 1e-12, 1.0 - residual / np.maximum(total, 1e-12), constant)


def rms_distance(prediction: np.ndarray, target: np.ndarray) -> float:
    """Root mean square of the Euclidean distance between rows, in the target's unit (pixels for PushT)."""
    return float(np.sqrt(((prediction - target) ** 2).sum(axis=-1).mean()))


def median_degrees(prediction: np.ndarray, target: np.ndarray) -> float:
    """Median absolute angle between (N,2) rows of (cos, sin), in degrees, 0 to 180; rows need not have length 1."""
    difference = np.arctan2(prediction[:, 1], prediction[:, 0]) - np.arctan2(target[:, 1], target[:, 0])
    wrapped = np.arctan2(np.sin(difference), np.cos(difference))
    return float(np.degrees(np.median(np.abs(wrapped))))


def score(name: str, prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Scores of one target: ``r2`` (mean over its numbers), ``r2/<i>``, and ``median_degrees`` or ``rms``."""
    prediction, target = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    per_number = r2(prediction, target)
    scores = {"r2": float(per_number.mean())}
    scores.update({f"r2/{i}": float(value) for i, value in enumerate(per_number)})
    if is_angle(name):
        scores["median_degrees"] = median_degrees(prediction, target)
    else:
        scores["rms"] = rms_distance(prediction, target)
    return scores


def probe(
    train_latent: np.ndarray,
    train_targets: dict[str, np.ndarray],
    test_latent: np.ndarray,
    test_targets: dict[str, np.ndarray],
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Trains a linear and an MLP probe per target on one set of episodes and scores them on another.

    Args:
        train_latent, test_latent: (N,D) float; the two sets must come from different episodes.
        train_targets, test_targets: name -> (N,k) float; names that end in ``angle`` hold (cos, sin).
        seed: of the MLP's initial weights and order of samples.

    Returns:
        ``<linear|mlp>/<target>/<score>`` -> float, scores as in :func:`score`.
    """
    if set(train_targets) != set(test_targets):
        raise ValueError(
            f"probe targets differ: trained on {sorted(train_targets)}, tested on {sorted(test_targets)}; "
            "give both sets the same names"
        )
    results: dict[str, float] = {}
    for name, train_target in train_targets.items():
        latent, target = _paired(test_latent, test_targets[name])
        probes = {
            "linear": fit_linear(train_latent, train_target),
            "mlp": fit_mlp(train_latent, train_target, seed=seed),
        }
        for kind, fitted in probes.items():
            for key, value in score(name, fitted.predict(latent), target).items():
                results[f"{kind}/{name}/{key}"] = value
    return results


def _paired(latent: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    latent, target = np.asarray(latent, np.float64), np.asarray(target, np.float64)
    if latent.ndim != 2 or target.ndim != 2 or len(latent) != len(target):
        raise ValueError(
            f"a probe expects latents (N,D) and a target (N,k) with one N, got {latent.shape} and {target.shape}; "
            "flatten time and tokens first"
        )
    return latent, target


def _mean_and_std(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    std = x.std(axis=0)
    return x.mean(axis=0), np.where(std > 1e-8, std, 1.0)
