"""Deep linear JEPA against MAE: what the theory predicts, and what such networks do when they are trained.

``python scripts/theory.py`` trains both at depths 1 to 4 on two modes, one that varies much and predicts badly and one
that varies less and predicts well, prints a table and draws every encoder strength over time (``curves.png``).
"""

import argparse
import math
from pathlib import Path

import numpy as np

from worldjepa.deep_linear import DeepLinear, DeepLinearJepa, DeepLinearMae, Mode, first_steps
from worldjepa.evaluation.charts import PALETTE, blank

MODES = {"λ 1, ρ 0.6": Mode(1.0, 0.6), "λ 0.8, ρ 1": Mode(0.8, 1.0)}
DEPTHS = (1, 2, 3, 4)
LEARNING_RATE = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/theory"), help="folder of the picture (runs/theory)")
    parser.add_argument("--seed", type=int, default=0, help="of the layers' first rotations")
    args = parser.parse_args()
    if args.seed < 0:
        parser.error(f"argument --seed: must be >= 0, got {args.seed}")
    figure = blank(13, 5.6)
    panels = figure.subplots(2, len(DEPTHS))
    print("halfway from the start to the limit, in learning rate x steps: measured (predicted); end: measured (limit)")
    for row, (name, theory_class) in zip(panels, {"JEPA": DeepLinearJepa, "MAE": DeepLinearMae}.items(), strict=True):
        for axes, depth in zip(row, DEPTHS, strict=True):
            theory = theory_class(depth)
            # the deepest encoder would start at .45^4, and take twice as long
            start_scale = 0.5 if depth == 4 else 0.45
            compare(f"{name}, depth {depth}", theory, start_scale, np.random.default_rng(args.seed), axes)
        row[0].set_ylabel("encoder strength w")
    for axes in panels[-1]:
        axes.set_xlabel("time (learning rate x steps)")
    panels[0, 0].legend(frameon=False, fontsize=8)
    args.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out / "curves.png", dpi=130)
    print(f"curves: {args.out / 'curves.png'}")


def compare(title: str, theory: DeepLinear, start_scale: float, generator: np.random.Generator, axes) -> None:
    """Trains one network until both modes are within 4e-4 of their limits; prints its line and draws its curves."""
    start, unit = start_scale**theory.depth, theory.depth * LEARNING_RATE
    limits = [theory.limit(mode) for mode in MODES.values()]
    halfway = [(start + limit) / 2 for limit in limits]
    ends = [theory.time(mode, start, limit - 4e-4) for mode, limit in zip(MODES.values(), limits, strict=True)]
    num_steps = math.ceil(max(ends) / unit)
    strengths = theory.train(list(MODES.values()), start_scale, num_steps, generator, LEARNING_RATE)
    halves = first_steps(strengths, halfway)
    # the plateau and the rise, not the long wait for the last decimals
    shown = 1 + min(num_steps, math.ceil(2.2 * max(halves)))
    steps, cells = np.arange(shown), []
    for i, (label, mode) in enumerate(MODES.items()):
        axes.plot(steps * LEARNING_RATE, strengths[:shown, i], color=PALETTE[i], linewidth=3, alpha=0.45, label=label)
        predicted = theory.curve(mode, start, steps * unit)
        axes.plot(
            steps * LEARNING_RATE, predicted, color="black", linewidth=1, linestyle="--", label="theory" * (i == 1)
        )
        half_time = theory.time(mode, start, halfway[i]) / theory.depth
        half = f"{halves[i] * LEARNING_RATE:6.2f} ({half_time:6.2f})"
        cells.append(f"{label}: half {half}, end {strengths[-1, i]:.4f} ({limits[i]:.4f})")
    first = list(MODES)[int(np.argmin(halves))]
    print(f"{title:13s} | {' | '.join(cells)} | first halfway: {first}")
    axes.set_title(f"{title}: {first} halfway first", fontsize=9.5)
    axes.grid(True, linewidth=0.4)


if __name__ == "__main__":
    main()
