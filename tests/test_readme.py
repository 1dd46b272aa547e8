"""What the README shows is true: its Python runs, its commands exist, its tables are the results."""

import json
import re
from pathlib import Path

import pytest

from worldjepa.studies.tables import MARK, table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_python_snippets_run():
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert snippets
    for snippet in snippets:
        namespace = {}
        exec(snippet, namespace)
        assert namespace["latent"].shape == (2, 3, 1, 32)
        assert namespace["future"].shape == (2, 300, 5, 1, 32)


def test_commands_name_scripts_and_options_that_exist():
    words = re.findall(r"uv run (?:accelerate launch --multi_gpu )?(scripts/\w+\.py)([^#`\n]*)", README)
    assert len(words) >= 6
    for script, arguments in words:
        assert (ROOT / script).is_file(), script
        for group, option in re.findall(r"(?:\s|\+)(\w+)=(\w+)", arguments):
            if (ROOT / "configs" / group).is_dir():
                assert (ROOT / "configs" / group / f"{option}.yaml").is_file(), f"{group}={option}"


def test_tables_are_the_results():
    """Edit results by running the study; `python scripts/study.py tables` brings the README up to date."""
    blocks = list(MARK.finditer(README))
    assert blocks
    for block in blocks:
        assert block[0] == f"{block[1]}{table(block[2], ROOT / 'results')}{block[3]}", block[2]


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*.json")), ids=lambda path: path.stem)
def test_results_have_one_form(path):
    study = json.loads(path.read_text())
    assert set(study) == {"command", "machine", "seeds", "figures"}
    for name, entry in study["figures"].items():
        assert {"value", "ci95", "n", "target", "met"} <= set(entry), name
