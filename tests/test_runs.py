import json
import subprocess
import sys
import time

import pytest
import torch
from omegaconf import OmegaConf

from worldjepa.checkpoint import STATE_FILE, save_tensors
from worldjepa.footprint import Footprint
from worldjepa.runs import PLANNING_FILE, check_disk, check_init, env_factory, open_run


def config(**changes):
    values = {"seed": 0, "train": {"steps": 5}, "planner": {"num_samples": 300}, "evaluation": {"pairs": 10}}
    return OmegaConf.create(values | changes)


def test_a_run_is_opened_again_with_the_same_settings_only(tmp_path):
    open_run(tmp_path / "run", config())
    (tmp_path / "run" / "metrics.jsonl").touch()
    open_run(tmp_path / "run", config())
    with pytest.raises(ValueError, match=r"train.steps: 5 there, 6 asked.*run=<name>"):
        open_run(tmp_path / "run", config(train={"steps": 6}))


def test_a_run_that_never_learned_gives_way_to_the_corrected_command(tmp_path):
    open_run(tmp_path, config())
    Footprint(tmp_path).note(data="none at that place")
    open_run(tmp_path, config(train={"steps": 6}))
    assert OmegaConf.load(tmp_path / "config.yaml").train.steps == 6 and not (tmp_path / "facts.json").exists()


def test_another_way_of_judging_keeps_the_training_and_drops_the_judgement(tmp_path):
    open_run(tmp_path, config())
    (tmp_path / PLANNING_FILE).write_text("{}")
    open_run(tmp_path, config())
    assert (tmp_path / PLANNING_FILE).is_file()
    open_run(tmp_path, config(evaluation={"pairs": 20}))
    assert not (tmp_path / PLANNING_FILE).is_file()
    assert OmegaConf.load(tmp_path / "config.yaml").evaluation.pairs == 20


def test_who_is_judged_by_reward_gets_what_the_environment_keeps_for_that():
    env = {"id": "Some-v0", "kwargs": {"layouts": [0, 10], "size": 3}, "judged": {"layouts": [10, 20]}}
    made = OmegaConf.create({"env": env})
    assert env_factory(made).params == {"id": "Some-v0", "layouts": [0, 10], "size": 3}
    assert env_factory(made, judged=True).params == {"id": "Some-v0", "layouts": [10, 20], "size": 3}
    del made.env.judged
    assert env_factory(made, judged=True).params == env_factory(made).params


def test_a_full_disk_is_said_before_anything_is_done(tmp_path):
    with pytest.raises(ValueError, match="GB are free; make room"):
        check_disk(tmp_path / "not" / "yet", needed_gb=10**9)


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot write"):
        open_run(tmp_path / "file" / "run", config())


def test_footprint_adds_up_over_sittings(tmp_path):
    for _ in range(2):
        with Footprint(tmp_path).stage("training"):
            time.sleep(0.3)
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert 0.6 / 60 <= facts["minutes_training"] < 5 / 60
    assert Footprint(tmp_path).minutes == pytest.approx(facts["minutes_training"], abs=0.01)


def test_peak_memory_sees_what_was_held_for_a_moment():
    # In a process of its own: what other tests hold or free meanwhile would count as well.
    code = """
import time
from worldjepa.footprint import PeakMemory
with PeakMemory(interval=0.02) as before:
    time.sleep(0.5)
with PeakMemory(interval=0.02) as during:
    block = b"x" * 100_000_000
    time.sleep(0.5)
    del block
print(during.peak_gb - before.peak_gb)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(shown.stdout) > 0.08


def test_a_run_without_weights_or_with_foreign_ones_is_refused(tmp_path):
    from worldjepa.checkpoint import load_world_model

    with pytest.raises(ValueError, match=r"expected a run with config.yaml"):
        load_world_model(tmp_path)
    open_run(tmp_path, config())
    with pytest.raises(ValueError, match="found none"):
        load_world_model(tmp_path)
    save_tensors(tmp_path / "model.safetensors", {"weight": torch.zeros(2)}, {})
    with pytest.raises(ValueError, match="no environment specification"):
        load_world_model(tmp_path)


def test_an_encoder_that_is_to_start_from_nothing_is_refused(tmp_path):
    check_init(tmp_path, None)
    check_init(tmp_path, OmegaConf.create({"init": None}))
    nowhere = OmegaConf.create({"init": str(tmp_path / "nowhere")})
    with pytest.raises(ValueError, match=r"encoder\.init=.*nowhere: expected the folder of a trained run"):
        check_init(tmp_path, nowhere)
    (tmp_path / STATE_FILE).touch()  # what has begun has started from it already
    check_init(tmp_path, nowhere)
