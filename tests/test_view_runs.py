"""From pictures to judged latents by one command, and again without doing anything twice."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from envs.picture_views import Saccades
from worldjepa.config import RUN_SCHEMA
from worldjepa.judging import view_world

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Sixty pictures of two classes: discs and crosses in random places."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for index in range(60):
        image = np.full((48, 48, 3), rng.integers(0, 90, 3), np.uint8)
        place, bright = rng.integers(12, 36, 2).tolist(), rng.integers(160, 256, 3).tolist()
        if index % 2:
            cv2.circle(image, place, 8, bright, -1)
        else:
            cv2.drawMarker(image, place, bright, cv2.MARKER_CROSS, 18, 3)
        (folder / ("disc" if index % 2 else "cross")).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / ("disc" if index % 2 else "cross") / f"{index:02d}.png"), image)
    return folder


def pretrain(tmp_path, pictures, *words: str) -> subprocess.CompletedProcess:
    command = [
        *("env=saccades", "env.image_size=16", f"env.kwargs.source={pictures}", "env.kwargs.picture_size=48"),
        *(f"env.store={tmp_path}/store", "env.collect.num_episodes=80", "env.collect.episodes_per_shard=40"),
        *("train.steps=4", "train.batch_size=8", "train.warmup_steps=1", "train.processes=1", "train.trackers=[]"),
        *("views.lengths=[1,2]", f"run_dir={tmp_path}/run"),
    ]
    return subprocess.run(
        [sys.executable, "scripts/pretrain.py", *command, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_run_is_trained_judged_and_shown_once(tmp_path, pictures):
    done = pretrain(tmp_path, pictures, "model=seq_jepa")
    assert done.returncode == 0, done.stderr[-2000:]
    run = tmp_path / "run"
    measured = json.loads((run / "views.json").read_text())
    aggregated = {"accuracy/aggregate/2", "r2/aggregate/position", "path/no_action/position"}
    assert {"accuracy/encoder", "r2/encoder/position", *aggregated} <= set(measured)
    page = (run / "report.html").read_text()
    assert "What its two latents are good for" in page and "planning has not been judged" not in page
    before = {name: (run / name).stat().st_mtime_ns for name in ("model.safetensors", "views.json")}
    again = pretrain(tmp_path, pictures, "model=seq_jepa")
    assert again.returncode == 0 and "nothing was missing" in again.stdout
    assert all((run / name).stat().st_mtime_ns == when for name, when in before.items())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("env=two_room",), "env=object_views, saccades or augmentations"),
        (("env=saccades", "views.lengths=[9]"), "numbers from 1 to the 8 views of each thing"),
        (("env=saccades", "views.lengths=[]"), "numbers from 1 to the 8 views of each thing"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_it_is_learned(words, message):
    ConfigStore.instance().store("base_train_world_model", RUN_SCHEMA)
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose("pretrain_views", [*words, "run=any", "run_dir=any"])
    with pytest.raises(ValueError, match=re.escape(message)):
        view_world(config)


def test_a_model_of_views_without_an_environment_is_refused():
    command = [sys.executable, "scripts/pretrain.py", "model=seq_jepa"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "learns from views of things: add env=object_views" in done.stderr


def test_relations_of_pictures_are_what_actions_say(pictures):
    env = Saccades(pictures, 48, 16)
    first = env.reset(seed=0)[1]["state"]
    action = np.array([0.5 - first[2], 0.25 - first[3]], np.float32)
    second = env.step(action)[4]["state"]
    np.testing.assert_allclose(env.relations(first, second)["position"], action, atol=1e-6)
    assert env.state_names[1] == env.label_name


def test_seq_jepa_plans_by_the_same_planners(tmp_path):
    words = [
        *(
            "env=two_room",
            "model=seq_jepa",
            "encoder=convnet",
            f"env.store={tmp_path}/store",
            f"run_dir={tmp_path}/run",
        ),
        *("env.collect.num_episodes=60", "env.collect.episodes_per_shard=30", "env.collect.num_frames=40"),
        *("train.steps=3", "train.batch_size=8", "train.processes=1", "train.trackers=[]", "train.num_evaluations=1"),
        *("refinement.steps=2", "refinement.batch_size=8", "planner.num_samples=8", "planner.num_elites=2"),
        *("planner.num_iterations=1", "evaluation.pairs=2", "evaluation.workers=1", "evaluation.videos=1"),
    ]
    command = [sys.executable, "scripts/train_world_model.py", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    table = json.loads((tmp_path / "run" / "planning.json").read_text())
    assert table["scripted"]["planner"]["any"]["n"] == 2
    assert (tmp_path / "run" / "report.html").is_file()
