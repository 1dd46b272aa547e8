"""Encoders that learned from samples alone, as the eyes of policies and world models."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from worldjepa.checkpoint import load_tensors, load_token_model

ROOT = Path(__file__).parents[1]


def run(script: str, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, f"scripts/{script}.py", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_points_of_a_street_become_eyes_that_drive(tmp_path):
    few = ("env.collect.num_episodes=12", "env.collect.episodes_per_shard=6", "env.collect.num_frames=4")
    street = ("env=street", "env.kwargs.cloud=96", f"env.store={tmp_path}/store")
    made = run("collect", *street, *few)
    assert made.returncode == 0, made.stderr[-2000:]
    column = ("data.source.column=cloud", "data.source.name=points", "data.source.label=speed")
    count = ("data.source.num_train=40", "data.source.num_held_out=10")
    quick = ("train.steps=2", "train.batch_size=8", "train.num_evaluations=1", "train.trackers=[]")
    made = run(
        "pretrain",
        *("model=point_jepa", "data=frames", f"data.store={tmp_path}/store", *column, *count, *quick),
        f"run_dir={tmp_path}/points",
    )
    assert made.returncode == 0, made.stderr[-2000:]
    assert np.isfinite(json.loads((tmp_path / "points" / "samples.json").read_text())["probe"])
    model = load_token_model(tmp_path / "points")[0]
    assert 10 < float(model.tokenizer.reach) < 61  # m
    eyes = ("encoder@policy.encoder=tokens", f"policy.encoder.init={tmp_path}/points", "policy.encoder.pool=tokens")
    words = (
        "policy=act",
        *street,
        *few,
        *eyes,
        "policy.horizon=2",
        "policy.execute=1",
        "policy.frozen=encoder",
        *quick,
    )
    refused = run("train_policy", *words, f"out={tmp_path}/refused")
    assert refused.returncode == 1 and "policy=act needs points" in refused.stderr
    words = (*words, "policy.encoder.reads={points: cloud}", "train.processes=1", f"out={tmp_path}/driver")
    made = run("train_policy", *words)
    assert made.returncode == 0, made.stderr[-2000:]
    weights = load_tensors(tmp_path / "driver" / "model.safetensors")[0]
    for name, value in model.encoder.state_dict().items():
        np.testing.assert_array_equal(weights[f"encoder.encoder.{name}"], value)
    judged = ("policy=act", *street, f"policy.make.path={tmp_path}/driver", "measure=return", f"out={tmp_path}/judged")
    done = run("evaluate", *judged, "evaluation.episodes=1", "evaluation.steps=3", "evaluation.workers=1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "act" in json.loads((tmp_path / "judged" / "returns.json").read_text())["policies"]


@pytest.fixture(scope="module")
def pusht(tmp_path_factory) -> Path:
    """A folder with a few episodes of PushT."""
    folder = tmp_path_factory.mktemp("pusht")
    made = run("collect", *two_steps(folder)[0])
    assert made.returncode == 0, made.stderr[-2000:]
    return folder


def two_steps(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words of an environment with few episodes, and of a short training and judgement."""
    few = ("env.collect.num_episodes=40", "env.collect.episodes_per_shard=40", "env.collect.num_frames=40")
    env = ("env=pusht", "env.image_size=32", f"env.store={folder}/store", *few, "data=none")
    quick = ("train.steps=2", "train.batch_size=8", "train.num_evaluations=1", "train.processes=1", "train.trackers=[]")
    return env, (
        *quick,
        "refinement.steps=0",
        "evaluation.pairs=2",
        "evaluation.videos=1",
        "planner.num_samples=40",
        "planner.num_elites=4",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "column", "encoder"),
    [
        ("i_jepa", "pixels", ("encoder=tokens",)),
        ("t_jepa", "proprioception", ("encoder=tokens", "encoder.reads={table: proprioception}")),
        ("t_jepa", "proprioception", ("encoder=glimpse_hearing", "encoder.beside.reads={table: proprioception}")),
    ],
    ids=["pictures", "numbers", "numbers-beside-pictures"],
)
def test_what_was_learned_from_moments_becomes_a_world_models_eyes(pusht, tmp_path, model, column, encoder):
    name = "table" if model == "t_jepa" else column
    source = (f"data.store={pusht}/store", f"data.source.column={column}", f"data.source.name={name}")
    count = ("data.source.label=block_x", "data.source.num_train=40", "data.source.num_held_out=10")
    short = ("train.steps=2", "train.batch_size=8", "train.num_evaluations=1", "train.trackers=[]")
    image = ("data.image_size=32",) if model == "i_jepa" else ()
    made = run("pretrain", f"model={model}", "data=frames", *source, *count, *short, *image, f"run_dir={tmp_path}/eyes")
    assert made.returncode == 0, made.stderr[-2000:]
    env, quick = two_steps(pusht)
    beside = "beside." if "glimpse_hearing" in encoder[0] else ""
    seen = {"encoder=tokens": column, "encoder=glimpse_hearing": "pixels,proprioception"}[encoder[0]]
    words = (*encoder, f"encoder.{beside}init={tmp_path}/eyes", f"observations=[{seen}]", f"run_dir={tmp_path}/world")
    made = run("train_world_model", *env, *quick, *words)
    assert made.returncode == 0, made.stderr[-2000:]
    pretrained = load_token_model(tmp_path / "eyes")[0].tokenizer.state_dict()
    weights = load_tensors(tmp_path / "world" / "model.safetensors")[0]
    for name, value in pretrained.items():  # statistics of its samples
        np.testing.assert_array_equal(weights[f"encoder.{beside}tokenizer.{name}"], value)
    assert "planner" in json.loads((tmp_path / "world" / "planning.json").read_text())["scripted"]
