"""How sure a number is: 95 % intervals of rates and means."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist, fmean, stdev


def wilson(successes: int, num_trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a success rate: honest at 0 %, at 100 % and for few trials.

    Returns:
        (low, high), both in [0, 1].

    Source: Wilson 1927; Brown, Cai and DasGupta 2001, Interval estimation for a binomial proportion.
    """
    if num_trials < 1 or not 0 <= successes <= num_trials:
        raise ValueError(f"expected 0 <= successes <= num_trials and num_trials >= 1, got {successes} of {num_trials}")
    _check_confidence(confidence)
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    rate = successes / num_trials
    center = (rate + z2 / (2 * num_trials)) / (1 + z2 / num_trials)
    half = sqrt(z2 * (rate * (1 - rate) / num_trials + z2 / (4 * num_trials**2))) / (1 + z2 / num_trials)
    # At 0 and 1 one end is exact on paper; rounding must not take it outside.
    low = 0.0 if successes == 0 else max(0.0, center - half)
    high = 1.0 if successes == num_trials else min(1.0, center + half)
    return low, high


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of a few independent values, such as seeds, with its Student-t interval.

    Returns:
        (mean, low, high).
    """
    values = [float(value) for value in values]
    if len(values) < 2:
        raise ValueError(f"an interval of a mean needs at least 2 values, got {len(values)}; run more seeds")
    _check_confidence(confidence)
    mean = fmean(values)
    from scipy.special import stdtrit  # here, for commands that measure nothing: it takes a second

    half = float(stdtrit(len(values) - 1, 0.5 + confidence / 2)) * stdev(values) / sqrt(len(values))
    return mean, mean - half, mean + half


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
