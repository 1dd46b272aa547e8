"""A shortened pass of every model that learns from samples: trained, judged and shown, with finite numbers."""

import json
import math
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from worldjepa.config import LoopSettings
from worldjepa.evaluation.frozen import SAMPLES_FILE
from worldjepa.evaluation.report import write_report
from worldjepa.judging import judge_samples
from worldjepa.runs import train_whole_run

CONFIGS = Path(__file__).parents[1] / "configs"
NAMES = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml") if "\ntokenizer:" in path.read_text())
SHORT = ("train.steps=3", "train.log_every=1", "train.num_evaluations=1", "train.batch_size=8", "train.trackers=[]")
# What is reached by so short a way depends on nothing that a test could state, but it must be a number.
SMALL = {
    "data.source.num_train": 90,
    "data.source.num_held_out": 40,
    "measures.intents.steps": 3,
    "measures.energies.num_masks": 1,
    "probing.finetuning.steps": 2,
}


def small(words: list[str], config) -> list[str]:
    def known(key: str) -> bool:
        node = config
        for part in key.split("."):
            if part not in node:
                return False
            node = node[part]
        return True

    return [*words, *(f"{key}={value}" for key, value in SMALL.items() if known(key))]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_it_goes_from_nothing_to_a_report(name, tmp_path):
    ConfigStore.instance().store("base_pretrain", {"train": LoopSettings})
    words = [f"model={name}", f"run_dir={tmp_path}/run", *SHORT]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("pretrain", small(words, compose("pretrain", words)))
    run_dir = Path(config.run_dir)
    assert train_whole_run(run_dir, config) is not None
    found = judge_samples(run_dir, config)
    assert all(math.isfinite(value) for value in found.values()), found
    assert {"probe", "random_probe", "raw_probe", "knn", "finetuned", "scratch"} <= set(found)
    assert json.loads((run_dir / SAMPLES_FILE).read_text()) == found
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss/total" in row] == [1, 2, 3]
    assert "What its features are good for" in write_report(run_dir).read_text()
