"""Bad words on the command line: refused at once, with the nearest good ones."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("env=pushd", "did you mean pusht"),
        ("encoder=glimps", "did you mean glimpse"),
        ("train.stepz=3", "did you mean train.steps"),
        ("refinement.stepz=3", "did you mean refinement.steps"),
        ("objective.weights.sigrek=1", "did you mean objective.weights.sigreg"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(word, hint):
    done = subprocess.run(
        [sys.executable, "scripts/train_world_model.py", word], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_value_of_the_wrong_type_is_refused():
    done = subprocess.run(
        [sys.executable, "scripts/train_world_model.py", "train.steps=many"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and "many" in done.stderr and "Traceback" not in done.stderr


def test_what_was_found_to_work_for_an_environment_comes_with_it_and_gives_way_to_what_is_asked():
    def composed(*words: str) -> str:
        command = [sys.executable, "scripts/train_world_model.py", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "ConvEncoder" in composed("--cfg", "job", "env=reacher")
    asked = composed("env=reacher", "encoder=glimpse", "train.batch_size=16", "--cfg", "job")
    assert "GlimpseEncoder" in asked and "batch_size: 16" in asked
    assert "GlimpseEncoder" in composed("env=reacher", "+experiment=point_mass", "--cfg", "job")
    assert "experiment" not in composed("env=two_room", "--cfg", "job")
    other = composed(
        "env=reacher", "model=seq_jepa", "--cfg", "job"
    )  # found with the default model, whose parts it sizes
    assert "convnet.ConvEncoder" in other and "temporal_variance: 0.0" in other


def test_every_option_of_every_group_composes():
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore

    from worldjepa.config import RUN_SCHEMA

    ConfigStore.instance().store("base_train_world_model", RUN_SCHEMA)
    groups = ("env", "encoder", "predictor", "target", "objective", "planner", "cost")
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for group in groups:
            for path in sorted((ROOT / "configs" / group).glob("*.yaml")):
                assert group in compose("train_world_model", [f"{group}={path.stem}"])
        for path in sorted((ROOT / "configs" / "experiment").glob("*.yaml")):
            config = compose("train_world_model", [f"+experiment={path.stem}"])
            assert path.stem.startswith(config.env.name)
        for path in sorted((ROOT / "configs" / "model").glob("*.yaml")):
            if path.stem != "i_jepa":
                assert compose("pretrain_views", [f"model={path.stem}"]).objective.weights.rollout == 0
