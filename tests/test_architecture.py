"""Imports go one way, importing is quick, and the packages on the path are ours."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Earlier layers never import later ones; rooms of one layer may import each other.
LAYERS = (
    ("types", "files", "processor"),
    ("layers", "deep_linear", "motion", "normalizer", "odometry", "tokens", "voxels", "sweeps"),
    ("tokenizers", "encoders", "samplers", "predictors", "targets", "objectives", "datasets"),
    ("systems", "detection"),
    ("costs",),
    ("planners",),
    ("config", "checkpoint"),
    (
        "training",
        "refinement",
        "pretraining",
        "rollout",
        "collection",
        "evaluation",
        "runs",
        "judging",
        "footprint",
        "driving",
    ),
    ("studies", "doctor"),
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "worldjepa").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_library_imports_one_way(path):
    room = path.relative_to(ROOT / "worldjepa").parts[0].removesuffix(".py")
    if room in ("__init__", "doctor"):  # the doctor looks at everything that is installed
        return
    for name in imported(path):
        top, *rest = name.split(".")
        assert top not in ("envs", "policies"), f"{path} imports {name}"
        if top == "worldjepa" and rest:
            # checkpoint builds a system when asked for one; nothing it builds imports checkpoint
            assert RANK[rest[0]] <= RANK[room], f"{room} imports {name}, which is a later layer"


@pytest.mark.parametrize("path", sorted((ROOT / "envs").glob("*.py")), ids=lambda p: p.name)
def test_environments_import_nothing_of_ours(path):
    assert not {name for name in imported(path) if name.split(".")[0] in ("worldjepa", "policies")}


def test_import_is_light():
    """No simulator, no LeRobot, not even torch, comes with ``import worldjepa``."""
    code = "import worldjepa, sys; print([m for m in ('torch', 'mujoco', 'lerobot', 'pymunk') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_every_file_has_a_home_under_400_lines():
    long = [p for p in ROOT.glob("*/**/*.py") if ".venv" not in p.parts and len(p.read_text().splitlines()) > 410]
    assert not long


def test_no_two_test_files_have_one_name():
    """pytest collects only the first of them, and says so only in a run of all tests."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert not {name for name in names if names.count(name) > 1}
