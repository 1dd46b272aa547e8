"""A shortened pass of every model that learns from samples: it beats the mean latent, keeps its rank, is judged and
shown."""

import json
import math
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from worldjepa.config import LoopSettings
from worldjepa.evaluation.frozen import COLLAPSED, SAMPLES_FILE
from worldjepa.evaluation.report import write_report
from worldjepa.judging import judge_samples
from worldjepa.runs import train_whole_run

CONFIGS = Path(__file__).parents[1] / "configs"
NAMES = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml") if "\ntokenizer:" in path.read_text())
SHORT = (
    "train.warmup_steps=100",
    "train.log_every=10",
    "train.num_evaluations=3",
    "train.batch_size=8",
    "train.trackers=[]",
)
STEPS = {"point_jepa": 600}
"""Others take 300. Its tokens' latents first come near each other, and move apart when the predictor has caught up."""
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
def test_it_goes_from_nothing_to_a_report_and_learns(name, tmp_path):
    ConfigStore.instance().store("base_pretrain", {"train": LoopSettings})
    steps = STEPS.get(name, 300)
    words = [f"model={name}", f"run_dir={tmp_path}/run", f"train.steps={steps}", *SHORT]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("pretrain", small(words, compose("pretrain", words)))
    run_dir = Path(config.run_dir)
    assert train_whole_run(run_dir, config) is not None
    found = judge_samples(run_dir, config)
    assert all(math.isfinite(value) for value in found.values()), found
    assert {"probe", "random_probe", "raw_probe", "knn", "finetuned", "scratch"} <= set(found)
    assert json.loads((run_dir / SAMPLES_FILE).read_text()) == found
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss/total" in row] == list(range(10, steps + 1, 10))
    assert found["loss_over_mean_latent"] < 1
    ranks = [row["eval/rankme"] for row in rows if "eval/rankme" in row]
    assert len(ranks) == 3 and min(ranks) > COLLAPSED
    assert "What its features are good for" in write_report(run_dir).read_text()
