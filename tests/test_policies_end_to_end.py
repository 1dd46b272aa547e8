"""The scripts together: a world model, a policy cloned on its latents, and the judgement of both."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(script: str, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, f"scripts/{script}.py", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    words = (
        *("env=two_room", "env.image_size=32", f"env.store={folder}/store", "env.collect.num_episodes=60"),
        *("train.steps=8", "train.batch_size=8", "train.processes=1", "train.num_evaluations=1", "refinement.steps=4"),
        *("evaluation.pairs=4", "evaluation.videos=2", "planner.num_samples=40", "data=none", f"run_dir={folder}/run"),
    )
    made = run("train_world_model", *words)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.mark.slow
def test_a_cloned_policy_is_trained_once_and_judged_on_the_planners_pairs(trained):
    words = ("policy=goal_cloning", f"run={trained}/run", f"out={trained}/bc", "train.steps=5", "policy.width=32")
    made = run("train_policy", *words)
    assert made.returncode == 0, made.stderr
    assert "holds a trained policy already" in run("train_policy", *words).stdout
    judged = run(
        "evaluate",
        *("policy=goal_cloning", f"policy.make.path={trained}/bc", f"run={trained}/run", f"out={trained}/judged"),
    )
    assert judged.returncode == 0, judged.stderr
    table, planned = (json.loads((trained / name / "planning.json").read_text()) for name in ("judged", "run"))
    assert set(table["scripted"]) - {"planner"} >= {"goal_cloning", "random", "still", "replay"}
    assert table["scripted"]["manifest_hash"] == planned["scripted"]["manifest_hash"]
    assert (trained / "judged" / "videos" / "scripted-goal_cloning.mp4").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("env=two_room", "env.image_size=48"), r"fields.pixels.shape is \(48, 48, 3\), expected \(32, 32, 3\)"),
        (("env=pusht",), "env_id is worldjepa/PushT-v0, expected worldjepa/TwoRoom-v0"),
        (("measure=return",), "gives no rewards"),
        (("cost=predicted_return",), "was trained on episodes without rewards"),
    ],
)
def test_what_does_not_fit_the_run_is_refused(trained, words, message):
    refused = run("evaluate", f"run={trained}/run", f"out={trained}/refused", *words)
    assert refused.returncode == 1
    assert re.search(message, refused.stderr), refused.stderr
