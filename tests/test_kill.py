"""The real command, killed with SIGKILL again and again, ends with what an uninterrupted one gives."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worldjepa.checkpoint import STATE_FILE, load_tensors
from worldjepa.datasets.store import EpisodeStore

ROOT = Path(__file__).parents[1]
NUM_KILLS = 20


def command(folder: Path) -> list[str]:
    settings = {
        "env": "two_room",
        "env.image_size": 32,
        "env.collect.num_episodes": 60,
        "env.collect.episodes_per_shard": 15,
        "env.store": folder / "store",
        "run_dir": folder / "run",
        "data": "none",
        "train.steps": 80,
        "train.batch_size": 8,
        "train.processes": 1,
        "train.checkpoint_seconds": 0.5,
        "train.trackers": "[]",
        "train.num_evaluations": 0,
        "refinement.steps": 80,
        "refinement.batch_size": 16,
        "evaluation.pairs": 2,
        "planner.num_samples": 40,
        "planner.num_iterations": 2,
    }
    return [sys.executable, "scripts/train_world_model.py", *(f"{key}={value}" for key, value in settings.items())]


def start(folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        command(folder),
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def steps(folder: Path) -> list[int]:
    """Of both phases of training; -1 before the first checkpoint."""
    paths = [folder / "run" / STATE_FILE, folder / "run/refinement" / STATE_FILE]
    return [load_tensors(path)[1]["step"] if path.is_file() else -1 for path in paths]


@pytest.mark.slow
def test_kill_minus_nine_twenty_times(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    began = time.monotonic()
    process = start(whole)
    errors = process.stderr.read().decode()
    assert process.wait() == 0, errors
    duration = time.monotonic() - began

    chance, seen = random.Random(0), set()
    for attempt in range(NUM_KILLS):
        process = start(killed)
        try:
            # Ever later on average, so that every phase is hit; at a random moment each time.
            process.wait((0.1 + 0.6 * attempt / NUM_KILLS + chance.uniform(0, 0.2)) * duration)
            assert process.returncode == 0, process.stderr.read().decode()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seen.add(tuple(steps(killed)))
    process = start(killed)
    errors = process.stderr.read().decode()
    assert process.wait() == 0, errors

    assert len(seen) > 2, f"kills should land in collection and in training, got checkpoints at {seen}"
    assert steps(killed) == [80, 80]
    assert (whole / "run/model.safetensors").read_bytes() == (killed / "run/model.safetensors").read_bytes()
    assert EpisodeStore.open(whole / "store").hash == EpisodeStore.open(killed / "store").hash
    assert (killed / "run/report.html").is_file()
