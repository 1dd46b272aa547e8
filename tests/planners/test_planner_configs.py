"""The YAML of a planner says all that its constructor takes, with the same defaults."""

import inspect
from pathlib import Path

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

FILES = sorted((Path(__file__).parents[2] / "configs" / "planner").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_yaml_mirrors_the_constructor(file):
    config = OmegaConf.to_container(OmegaConf.load(file))
    planner_class = get_class(config.pop("_target_"))
    assert planner_class.__module__ == f"worldjepa.planners.{file.stem}"
    parameters = inspect.signature(planner_class).parameters
    assert config == {name: parameter.default for name, parameter in parameters.items()}
    assert isinstance(instantiate(OmegaConf.load(file)), planner_class)


def test_every_planner_has_one():
    assert {file.stem for file in FILES} == {"cem", "icem", "mppi", "gradient"}
