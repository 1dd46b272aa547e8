"""The script trains what the theory predicts, prints both side by side and draws them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
VARIED, PREDICTIVE = "λ 1, ρ 0.6", "λ 0.8, ρ 1"
RHO = {VARIED: 0.6, PREDICTIVE: 1.0}
# arXiv:2407.03475 as told: learning rate x steps to halfway, read every 50 steps of .01
HALF_TIMES = {
    "JEPA": {1: (2, 3), 2: (8, 9), 3: (35, 29.5), 4: (81, 55)},
    "MAE": {1: (1, 1), 2: (1.5, 2), 3: (2, 3), 4: (2.5, 3.5)},
}
MODE = r"(λ [\d.]+, ρ [\d.]+): half +([\d.]+) \( *([\d.]+)\), end ([\d.]+) \(([\d.]+)\)"
LINE = re.compile(rf"(JEPA|MAE), depth (\d) +\| {MODE} \| {MODE} \| first halfway: (λ.*)")


def theory(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "scripts/theory.py", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", env=environment)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, str]:
    """A folder that was not there before, and what was printed. The script has no smaller budget than its own."""
    folder = tmp_path_factory.mktemp("theory") / "new" / "folder"
    done = theory(f"--out={folder}", "--seed=3")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture(scope="module")
def table(run) -> dict[tuple[str, int], dict]:
    """(network, depth) -> mode -> half-time, predicted half-time, end and limit; ``first``, the mode named so."""
    found = {}
    for line in run[1].splitlines():
        if match := LINE.fullmatch(line):
            name, depth, *modes, first = match.groups()
            rows = {modes[i]: tuple(map(float, modes[i + 1 : i + 5])) for i in (0, 5)}
            found[name, int(depth)] = rows | {"first": first}
    return found


def test_both_networks_are_compared_at_four_depths(table):
    assert list(table) == [(name, depth) for name in ("JEPA", "MAE") for depth in (1, 2, 3, 4)]
    assert all(set(rows) == {VARIED, PREDICTIVE, "first"} for rows in table.values())


def test_measured_and_predicted_half_times_agree_and_are_the_published_ones(table):
    for (name, depth), rows in table.items():
        for mode, published in zip((VARIED, PREDICTIVE), HALF_TIMES[name][depth], strict=True):
            measured, predicted = rows[mode][:2]
            assert measured == pytest.approx(predicted, abs=0.03), f"{name} {depth} {mode}: three steps of .01"
            assert published - 0.5 < measured <= published, f"{name} {depth} {mode}"


def test_strengths_end_at_their_limits(table):
    for (name, depth), rows in table.items():
        for mode, rho in RHO.items():
            end, limit = rows[mode][2:]
            assert limit == pytest.approx(rho ** (depth if name == "JEPA" else depth / (depth + 1)), abs=6e-5)
            assert end == pytest.approx(limit, abs=6e-4)


def test_the_better_predictor_is_first_in_deep_jepas_alone(table):
    for (name, depth), rows in table.items():
        assert rows["first"] == min(RHO, key=lambda mode: rows[mode][0])
        assert (rows["first"] == PREDICTIVE) == (name == "JEPA" and depth >= 3)


def test_the_picture_has_both_curves_in_all_eight_panels(run):
    folder, printed = run
    assert [path.name for path in folder.iterdir()] == ["curves.png"]
    assert printed.splitlines()[-1] == f"curves: {folder / 'curves.png'}"
    picture = np.asarray(Image.open(folder / "curves.png").convert("RGB")).astype(int)
    for row in np.array_split(picture, 2, 0):
        for panel in np.array_split(row, 4, 1):
            red, _, blue = np.moveaxis(panel, -1, 0)
            assert (blue - red > 40).sum() > 500 and (red - blue > 40).sum() > 500, "a blue and an orange curve"
            assert (panel.max(-1) < 40).sum() > 500, "the theory is dashed in black"


@pytest.mark.parametrize(
    "words, told",
    [(["--seed=three"], "argument --seed: invalid int value: 'three'"), (["--sead=3"], "unrecognized arguments: --s")],
)
def test_a_bad_option_is_named_beside_those_that_there_are(words, told, tmp_path):
    done = theory(f"--out={tmp_path}/run", *words)
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr
    assert "[--out OUT] [--seed SEED]" in done.stderr and done.stdout == ""
    assert not (tmp_path / "run").exists()
