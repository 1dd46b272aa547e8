"""From a LiDAR's sweeps to judged latents by one command."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from envs.street_driver import Driver
from worldjepa.datasets.store import EpisodeStore

ROOT = Path(__file__).parents[1]


def pretrain(folder: Path, *words: str) -> subprocess.CompletedProcess:
    street = ("model=ad_l_jepa", "env=street", f"env.store={folder}/store", f"run_dir={folder}/run")
    few = ("env.collect.num_episodes=12", "env.collect.episodes_per_shard=6", "env.collect.num_frames=4")
    small = ("encoder.widths=[4,4,8,8]", "encoder.bev_dim=8", "train.batch_size=2", "train.warmup_steps=1")
    quick = ("train.steps=3", "train.num_evaluations=1", "train.processes=1", "train.trackers=[]")
    judged = ("scans.num_train=12", "scans.num_held_out=6", "scans.shares=[0.1,1.0]", "scans.detection.steps=2")
    return subprocess.run(
        [sys.executable, "scripts/pretrain.py", *street, *few, *small, *quick, *judged, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    done = pretrain(folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_a_run_is_trained_judged_and_shown_once(trained):
    run_dir = trained / "run"
    measured = json.loads((run_dir / "scans.json").read_text())
    assert {"iou_occupied", "untrained_iou_occupied", "neighbour_iou_occupied", "miou_0.1", "spread"} <= set(measured)
    assert all(0 <= value <= 1 for value in measured.values())
    page = (run_dir / "report.html").read_text()
    assert "seen from above" in page and "planning has not been judged" not in page
    before = (run_dir / "model.safetensors").stat().st_mtime_ns
    assert "ap" in measured and "untrained_ap" in measured
    folder = trained / "clouds"
    folder.mkdir()
    points = np.random.default_rng(0).uniform(-8, 8, (500, 4)).astype("<f4")
    points[:, 2:] = np.abs(points[:, 2:]) / 8 - [1.7, 0.0]
    for name in ("a.bin", "b.bin"):
        points.tofile(folder / name)
    # Another judgement of the same training.
    again = pretrain(trained, "scans.shares=[1.0]", "scans.detection.steps=0", f"scans.folder={folder}")
    assert again.returncode == 0, again.stderr[-2000:]
    assert (run_dir / "model.safetensors").stat().st_mtime_ns == before
    measured = json.loads((run_dir / "scans.json").read_text())
    assert "miou_0.1" not in measured and "ap" not in measured and measured["folder_voxels"] > 100
    assert "Clouds from elsewhere" in (run_dir / "report.html").read_text()


def test_what_shows_no_scans_is_refused(tmp_path):
    done = pretrain(tmp_path, "env=two_room")
    assert done.returncode == 1 and "worldjepa/TwoRoom-v0 shows none; use env=street" in done.stderr
    done = pretrain(tmp_path, "scans.shares=[0]")
    assert done.returncode == 1 and "scans.shares in (0, 1]" in done.stderr
    done = pretrain(tmp_path, f"scans.folder={tmp_path}")
    assert done.returncode == 1 and "*.bin" in done.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_a_lidar_of_64_beams_takes_two_words(tmp_path):
    refused = pretrain(tmp_path, "env.kwargs.beams=64")
    assert refused.returncode == 1 and "sensor.beams" in refused.stderr, refused.stderr[-2000:]
    done = pretrain(tmp_path, "env.kwargs.beams=64", "sensor.beams=64", "scans.shares=[1.0]", "scans.detection.steps=0")
    assert done.returncode == 0, done.stderr[-2000:]
    assert EpisodeStore.open(tmp_path / "store").episode(0).arrays["sweep"].shape[1:] == (64, 512, 2)
    assert 0 <= json.loads((tmp_path / "run" / "scans.json").read_text())["iou_occupied"] <= 1


def run(script: str, *words: str) -> subprocess.CompletedProcess:
    done = [sys.executable, f"scripts/{script}.py", *words]
    return subprocess.run(done, cwd=ROOT, capture_output=True, text=True, check=False)


def street(folder: Path) -> tuple[str, ...]:
    few = ("env.collect.num_episodes=12", "env.collect.episodes_per_shard=6", "env.collect.num_frames=4")
    return ("env=street", f"env.store={folder}/store", *few, "train.processes=1", "train.trackers=[]")


JUDGED = ("evaluation.episodes=2", "evaluation.steps=3", "evaluation.workers=1", "evaluation.videos=1")


@pytest.mark.slow
def test_a_world_model_of_the_street_is_trained_on_the_latents_and_drives(trained):
    small = ("encoder.widths=[4,4,8,8]", "encoder.bev_dim=8", "predictor.width=8", "planner.num_samples=20")
    words = (*small, "train.steps=2", "train.clip_frames=4", "train.num_evaluations=1", *JUDGED)
    refused = run("train_world_model", *street(trained), *words, f"run_dir={trained}/none")
    assert refused.returncode == 1 and "give encoder.init=<run of scripts/pretrain.py model=ad_l_jepa" in refused.stderr
    words = (*words, f"encoder.init={trained}/run", f"run_dir={trained}/world")
    made = run("train_world_model", *street(trained), *words)
    assert made.returncode == 0, made.stderr[-2000:]
    assert len(list(trained.glob("store-*"))) == 1  # the latents, once
    table = json.loads((trained / "world" / "returns.json").read_text())
    assert set(table["policies"]) == {"random", "still", "blind", "expert", "planner"}
    assert set(table["policies"]["planner"]["outcomes"]) == {"completion", "collided", "distance"}
    assert "How it drives" in (trained / "world" / "report.html").read_text()
    assert (trained / "world" / "videos" / "return-planner.mp4").stat().st_size > 1000
    before = (trained / "world" / "model.safetensors").stat().st_mtime_ns
    again = run("train_world_model", *street(trained), *words, "cost.meeting=4.0")
    assert again.returncode == 0, again.stderr[-2000:]
    assert (trained / "world" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_driver_is_cloned_on_the_latents_and_judged_on_other_streets(trained):
    small = ("policy.encoder.widths=[4,4,8,8]", "policy.encoder.bev_dim=8", "policy.encoder.latent_dim=16")
    asked = ("policy.dagger.rounds=2", "policy.dagger.episodes=3", "policy.dagger.steps=4", "collection_workers=1")
    words = (*small, *asked, "train.steps=2", f"policy.encoder.init={trained}/run", f"out={trained}/driver")
    made = run("train_policy", "policy=driver", *street(trained), *words)
    assert made.returncode == 0, made.stderr[-2000:]
    demonstrations, said = EpisodeStore.open(trained / "store"), np.load(trained / "driver" / "said.npy")
    states = np.concatenate([demonstrations.episode(i).arrays["state"] for i in range(demonstrations.num_episodes)])
    for state, action in zip(states[::7], said[::7], strict=True):
        np.testing.assert_allclose(action, Driver().act(state), atol=1e-4)
    gathered = EpisodeStore.open(trained / "driver" / "gathered")
    assert gathered.policies == ["round_0"] * 3 + ["round_1"] * 3 and (gathered.lengths <= 5).all()
    for index in range(gathered.num_episodes):
        arrays = gathered.episode(index).arrays
        assert len(set(arrays["state"][:, 0])) == 1 and arrays["state"][0, 0] < 1_000_000  # of a street to train on
        for state, action in zip(arrays["state"], arrays["action"], strict=True):
            # Asked again of the state as it is stored; the wheel is turned by sums of many small numbers.
            np.testing.assert_allclose(action, Driver().act(state), atol=1e-4)
    judged = ("policy=driver", f"policy.make.path={trained}/driver", "measure=return", f"out={trained}/judged")
    done = run("evaluate", *judged, *JUDGED)
    assert done.returncode == 0, done.stderr[-2000:]
    table = json.loads((trained / "judged" / "returns.json").read_text())
    assert {"driver", "blind", "expert"} <= set(table["policies"])
    refused = run("train_policy", "policy=act", *street(trained), f"out={trained}/blind")
    assert refused.returncode == 1 and "encoder@policy.encoder=route_tokens looks at a LiDAR's sweeps" in refused.stderr
