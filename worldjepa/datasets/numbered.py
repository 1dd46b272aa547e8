"""Generated samples are numbered: sample i of a seed is the same whatever the size of the set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def sample_rng(seed: int, number: int) -> np.random.Generator:
    """What draws sample ``number`` of ``seed``, whole numbers >= 0.

    Raises:
        ValueError: another seed or number.
    """
    for name, value in (("seed", seed), ("number", number)):
        if value != int(value) or value < 0:
            raise ValueError(f"{name} must be a whole number >= 0, got {value!r}")
    return np.random.default_rng([int(seed), int(number)])


def sample_rngs(seed: int, count: int) -> Iterator[np.random.Generator]:
    """Those of samples 0 to ``count`` - 1.

    Raises:
        ValueError: a count below 1, and see :func:`sample_rng`.
    """
    at_least("count", count, 1)
    return (sample_rng(seed, number) for number in range(count))


def at_least(name: str, value: int, lowest: int) -> None:
    """Of a size.

    Raises:
        ValueError: it is no whole number, or below ``lowest``.
    """
    if value != int(value) or value < lowest:
        raise ValueError(f"{name} must be a whole number >= {lowest}, got {value!r}; ask for more")
