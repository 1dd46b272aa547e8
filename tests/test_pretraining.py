import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from worldjepa.checkpoint import load_token_model
from worldjepa.config import LoopSettings
from worldjepa.datasets.images import load_digits
from worldjepa.evaluation.frozen import encode_samples

ROOT = Path(__file__).parents[1]
SHORT = ("model=i_jepa", "data=digits", "train.steps=8", "train.log_every=2", "train.num_evaluations=2")


def script(name: str, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, f"scripts/{name}.py", *words]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300
    )


def pretrain(folder, *words: str) -> subprocess.CompletedProcess:
    return script("pretrain", *SHORT, *words, f"run_dir={folder}")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    done = pretrain(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_leaves_weights_configuration_metrics_and_a_report(run):
    weights = load_file(run / "model.safetensors")
    assert {name.split(".")[0] for name in weights} == {"tokenizer", "encoder", "predictor"}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss/prediction" in row] == [2, 4, 6, 8]
    assert [row["step"] for row in rows if "eval/rankme" in row] == [4, 8]
    found = json.loads((run / "samples.json").read_text())
    assert {"probe", "random_probe", "raw_probe", "knn", "rankme", "alpha_req", "loss_over_mean_latent"} <= set(found)
    assert "What its features are good for" in (run / "report.html").read_text()


def test_the_model_is_read_back_with_the_statistics_of_its_data(run):
    model, config = load_token_model(run)
    train, held_out = load_digits(seed=0)
    assert config["data"]["name"] == "digits"
    assert float(model.tokenizer.mean) == pytest.approx(
        float(train.observation["pixels"].float().mean() / 255), abs=1e-5
    )
    assert torch.isfinite(encode_samples(model, held_out.observation)).all()


def test_a_repeated_command_trains_nothing_and_another_setting_is_another_run(run):
    before = (run / "model.safetensors").stat().st_mtime_ns
    assert pretrain(run).returncode == 0
    assert (run / "model.safetensors").stat().st_mtime_ns == before
    refused = pretrain(run, "encoder.width=32")
    assert refused.returncode != 0 and "encoder.width: 64 there, 32 asked" in refused.stderr


def test_all_probes_are_measured_afterwards_and_what_they_do_not_know_is_refused(run):
    refused = script("evaluate", f"run={run}", "evaluation.pairs=3")
    assert refused.returncode != 0 and "that is not changed by evaluation.pairs=3" in refused.stderr
    done = script("evaluate", f"run={run}", "probing.finetuning.steps=2")
    assert done.returncode == 0, done.stderr
    assert {"svm", "linear", "finetuned", "scratch"} <= set(json.loads((run / "samples.json").read_text()))


def test_pictures_without_classes_are_learned_from(tmp_path):
    import cv2

    folder = tmp_path / "pictures" / "all"
    folder.mkdir(parents=True)
    for index, picture in enumerate(np.random.default_rng(0).integers(0, 256, (20, 9, 9), dtype=np.uint8)):
        cv2.imwrite(str(folder / f"{index}.png"), picture)
    words = ("data=image_folder", f"data.source.folder={folder.parent}", "data.image_size=8", "data.patch_size=2")
    done = pretrain(tmp_path / "run", *words, "data.channels=1")
    assert done.returncode == 0, done.stderr
    assert "all are of one class" in done.stdout
    found = json.loads((tmp_path / "run" / "samples.json").read_text())
    assert math.isnan(found["probe"]) and found["rankme"] > 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("model=point_jepa",),
            "model=point_jepa learns from points, data=digits has pixels",
        ),
        (("model=a_jepa",), "the model asks for 'data.rate', which its data do not have"),
    ],
)
def test_data_of_another_kind_is_refused(tmp_path, words, complaint):
    refused = pretrain(tmp_path, *words)
    assert refused.returncode != 0 and refused.stderr.startswith("error: ") and complaint in refused.stderr
    assert "choose data= of its kind" in refused.stderr and "Traceback" not in refused.stderr


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"train.steps must be > 0, got 0"):
        LoopSettings(steps=0, seed=0)


@pytest.mark.slow
def test_learning_beats_the_mean_latent_and_keeps_the_rank(tmp_path):
    done = pretrain(tmp_path, "train.steps=600", "train.num_evaluations=6", "train.log_every=20")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "samples.json").read_text())
    assert found["loss_over_mean_latent"] < 0.8  # about 0.5
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    ranks = [row["eval/rankme"] for row in rows if "eval/rankme" in row]
    assert len(ranks) == 6 and min(ranks) > 2 and ranks[-1] > 1.2 * found["random_rankme"]
