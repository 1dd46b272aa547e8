"""From moving pictures to judged flow by one command; what it learned starts a world model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = ("encoder.widths=[6,8,10]", "encoder.depths=[1,1,1]")


def run(script: str, *words: str) -> subprocess.CompletedProcess:
    quick = ("train.batch_size=8", "train.warmup_steps=1", "train.processes=1", "train.trackers=[]")
    return subprocess.run(
        [sys.executable, f"scripts/{script}.py", *quick, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


def pretrain(folder: Path, name: str, *words: str) -> subprocess.CompletedProcess:
    shapes = ("model=mc_jepa", "env=moving_shapes", "env.image_size=32", f"env.store={folder}/store")
    few = ("env.collect.num_episodes=40", "env.collect.episodes_per_shard=20", "env.collect.num_frames=4")
    judged = ("train.steps=4", "train.num_evaluations=1", "motion.num_pairs=8", "motion.num_scenes=30")
    return run("pretrain", *shapes, *few, *judged, *SMALL, "expander=[16,16]", f"run_dir={folder / name}", *words)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion")
    done = pretrain(folder, "joint", "train.processes=2")
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_a_run_is_trained_judged_and_shown_once(trained):
    run_dir = trained / "joint"
    measured = json.loads((run_dir / "motion.json").read_text())
    assert {"epe", "epe_over_translation", "epe_dis", "accuracy", "j_and_f", "warp_error"} <= set(measured)
    page = (run_dir / "report.html").read_text()
    assert "How things move, and what they are" in page and "planning has not been judged" not in page
    assert [path.name for path in (run_dir / "videos").glob("*.mp4")] == ["flow.mp4"]
    before = {name: (run_dir / name).stat().st_mtime_ns for name in ("model.safetensors", "motion.json")}
    again = pretrain(trained, "joint", "train.processes=2")
    assert again.returncode == 0 and "nothing was missing" in again.stdout
    assert all((run_dir / name).stat().st_mtime_ns == when for name, when in before.items())


def test_flow_is_learned_on_a_frozen_encoder_of_another_run(trained):
    from worldjepa.checkpoint import load_motion_model

    words = ("objective.weights.content=0", "objective.weights.levels=0", "frozen_encoder=true")
    done = pretrain(trained, "frozen", *words, f"encoder.init={trained / 'joint'}")
    assert done.returncode == 0, done.stderr[-2000:]
    ours, theirs = (load_motion_model(trained / name)[0] for name in ("frozen", "joint"))
    for name, weight in theirs.encoder.state_dict().items():
        assert weight.equal(ours.encoder.state_dict()[name]), name
    assert not theirs.predictor.levels[0].say.weight.equal(ours.predictor.levels[0].say.weight)


def test_a_world_model_starts_from_what_was_learned(trained, tmp_path):
    from worldjepa.checkpoint import load_motion_model, load_world_model

    words = (
        *("env=two_room", "env.image_size=32", "encoder=pyramid", *SMALL, f"encoder.init={trained / 'joint'}"),
        *(f"env.store={tmp_path}/store", f"run_dir={tmp_path}/run", "env.collect.num_episodes=60"),
        *("env.collect.episodes_per_shard=30", "env.collect.num_frames=40", "train.learning_rate=1e-12"),
        *("train.steps=1", "train.weight_decay=0", "refinement.steps=0", "planner.num_samples=8"),
        *("planner.num_elites=2", "planner.num_iterations=1", "evaluation.pairs=2", "evaluation.workers=1"),
        *("evaluation.videos=1", "train.num_evaluations=1"),
    )
    done = run("train_world_model", *words)
    assert done.returncode == 0, done.stderr[-2000:]
    ours, theirs = load_world_model(tmp_path / "run")[0].encoder, load_motion_model(trained / "joint")[0].encoder
    for mine, found in zip(ours.pyramid.parameters(), theirs.pyramid.parameters(), strict=True):
        assert (mine - found).abs().max() < 1e-6
