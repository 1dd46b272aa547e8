"""The form in which a study's figures are kept: ``results/<name>.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from worldjepa.evaluation.intervals import mean_interval, wilson
from worldjepa.files import write_text

FIGURE_KEYS = ("value", "ci95", "n", "target", "met")


def rate_figure(outcomes: Sequence[tuple[int, int]], at_least: float | None = None, at_most: float | None = None):
    """A success rate over seeds: ``outcomes`` are (successes, pairs) of each seed's own pairs.

    Pairs are pooled for Wilson's interval; the seeds' own rates stand beside it, because seeds differ by more than
    pairs do.
    """
    successes, trials = (sum(column) for column in zip(*outcomes, strict=True))
    return {
        **figure(successes / trials, wilson(successes, trials), trials, at_least, at_most),
        "per_seed": [round(k / n, 4) for k, n in outcomes],
    }


def mean_figure(values: Sequence[float], at_least: float | None = None, at_most: float | None = None):
    """A mean over seeds or repetitions, with Student's interval where there are several."""
    if len(values) == 1:
        return figure(values[0], None, 1, at_least, at_most)
    mean, low, high = mean_interval(values)
    return {**figure(mean, (low, high), len(values), at_least, at_most), "per_seed": [_round(v) for v in values]}


def paired_figure(
    ours: Sequence[float], theirs: Sequence[float], at_least: float | None = None, at_most: float | None = None
):
    """The mean over seeds of how much more ours are than theirs of the same seeds."""
    return mean_figure([a - b for a, b in zip(ours, theirs, strict=True)], at_least, at_most)


def clear_figure(ours: Sequence[float], theirs: Sequence[float]):
    """As :func:`paired_figure`; all of the interval should be above 0."""
    found = paired_figure(ours, theirs)
    return {**found, "target": "interval > 0", "met": bool(found["ci95"] is not None and found["ci95"][0] > 0)}


def gain_figure(ours: Sequence[float], theirs: Sequence[float]):
    """A one-sided 95 % lower bound of how much more ours are than theirs of the same seeds; it should be above 0."""
    gains = [a - b for a, b in zip(ours, theirs, strict=True)]
    bound = mean_interval(gains, confidence=0.9)[1]  # the low end of the two-sided 90 % interval
    return {**figure(bound, None, len(gains)), "target": "> 0", "met": bool(bound > 0)}


def write_result(name: str, command: str, machine: dict, seeds: Sequence[int], figures: dict[str, Any]) -> Path:
    """Writes ``results/<name>.json``."""
    for key, entry in figures.items():
        assert set(FIGURE_KEYS) <= set(entry), f"{key} lacks {set(FIGURE_KEYS) - set(entry)}"
    path = Path("results") / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    content = {"command": command, "machine": machine, "seeds": list(seeds), "figures": figures}
    write_text(path, json.dumps(content, indent=1) + "\n")
    return path


def join_result(
    name: str,
    command: str,
    machine: dict,
    seeds: Sequence[int],
    figures: dict[str, Any],
    part_of: Callable[[str], Any],
) -> Path:
    """Writes one part of a study of several commands, beside what the others have left in ``results/<name>.json``.

    Args:
        command, machine, figures: of this part.
        part_of: which part a figure of that name belongs to; the file's figures of this one are replaced.
    """
    path = Path("results") / f"{name}.json"
    found = json.loads(path.read_text()) if path.is_file() else {"command": command, "machine": machine, "figures": {}}
    (part,) = {part_of(key) for key in figures}
    mine = [part_of(key) == part for key in found["figures"]]
    place = mine.index(True) if True in mine else len(mine)
    entries = list(found["figures"].items())
    kept = [[entry for entry in half if part_of(entry[0]) != part] for half in (entries[:place], entries[place:])]
    commands = sorted({*found["command"].split(" && "), command}, key=len)
    cpus = dict.fromkeys([*found["machine"]["cpu"].split(" and "), machine["cpu"]] if any(kept) else [machine["cpu"]])
    return write_result(
        name,
        " && ".join(commands),
        {**machine, "cpu": " and ".join(cpus)},
        seeds,
        {**dict(kept[0]), **figures, **dict(kept[1])},
    )


def figure(value: float, ci95, n: int, at_least: float | None = None, at_most: float | None = None) -> dict[str, Any]:
    """A value with the interval (low, high), None without one, of n samples, against a target."""
    target = f">= {at_least:g}" if at_least is not None else f"<= {at_most:g}" if at_most is not None else None
    met = None if target is None else bool(value >= at_least if at_least is not None else value <= at_most)
    return {
        "value": _round(value),
        "ci95": None if ci95 is None else [_round(end) for end in ci95],
        "n": n,
        "target": target,
        "met": met,
    }


def _round(value: float) -> float:
    """Four significant digits: more would pretend to know."""
    return value if value == 0 else round(value, 3 - math.floor(math.log10(abs(value))))
