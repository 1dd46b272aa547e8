"""Speeds on this machine, written to ``results/speed.json``: ``python scripts/benchmark.py``.

Every figure is the median of several repetitions in one run, with the range of the middle 95 % of them.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate
from omegaconf import OmegaConf

from policies.planning import PlanningPolicy
from worldjepa.config import RUN_SCHEMA
from worldjepa.runs import build_training, env_factory, machine, open_run, open_store, train_run
from worldjepa.studies.record import write_result
from worldjepa.training import launch, read_metrics

CONFIGS = Path(__file__).parent.parent / "configs"


def figure(values, at_least=None, at_most=None) -> dict:
    """Median of repetitions against a target."""
    value = statistics.median(values)
    low, high = np.quantile(values, [0.025, 0.975])
    met = value >= at_least if at_least is not None else value <= at_most
    target = f">= {at_least:g}" if at_least is not None else f"<= {at_most:g}"
    rounded = [float(f"{x:.4g}") for x in (value, low, high)]
    return {"value": rounded[0], "ci95": rounded[1:], "n": len(values), "target": target, "met": bool(met)}


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    ConfigStore.instance().store("base_train_world_model", RUN_SCHEMA)
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONFIGS.resolve()), version_base="1.3"):
        overrides = [f"env.store={folder}/store", "env.collect.num_episodes=400", f"run_dir={folder}/run", "data=none"]
        config = compose("train_world_model", [*overrides, "collection_workers=1", "train.steps=300"])
        config.train.num_evaluations, config.train.log_every, config.train.trackers = 0, 25, []
        config.refinement.steps = 0
        figures = measure(config)
    write_result("speed", "python scripts/benchmark.py", machine(), [0], figures)
    print(json.dumps(figures, indent=1))


def measure(config) -> dict[str, dict]:
    player, env = instantiate({"_target_": config.env.collect.scripted}), env_factory(config).build().unwrapped
    rng, collect = np.random.default_rng(0), []
    for _ in range(20):  # whole episodes with their pictures, as collection records them
        began, steps = time.perf_counter(), 0
        for _ in range(5):
            state, _ = player.reset(rng)
            _, info = env.reset(options={"state": state})
            for _ in range(75):
                *_, info = env.step(player.act(info["state"]))
                steps += 1
        collect.append(steps / (time.perf_counter() - began))

    store, _ = open_store(config)
    system, windows, settings = build_training(config, store)
    loader = []
    for step in range(60):
        began = time.perf_counter()
        windows.sample(settings.batch_size, 0, step)
        loader.append(settings.batch_size * settings.clip_frames / (time.perf_counter() - began))

    run_dir = Path(config.run_dir)
    open_run(run_dir, config)
    launch(train_run, (str(run_dir),), 2)
    train = [row["images_per_s"] for row in read_metrics(run_dir)][2:]

    cost, planner = instantiate(config.cost), instantiate(config.planner)
    policy = PlanningPolicy(system.model.eval(), planner, cost, **OmegaConf.to_container(config.planning))
    goal = env.observe_state(np.array([200.0, 200.0, 256.0, 256.0, 1.0, 0.0, 0.0]))
    plan = []
    for seed in range(30):  # each with the full horizon, from a fresh start
        observation, _ = env.reset(seed=seed)
        stacked = {name: value[None] for name, value in observation.items()}
        policy.reset({name: value[None] for name, value in goal.items()}, [seed])
        began = time.perf_counter()
        policy.act(stacked)
        plan.append(1e3 * (time.perf_counter() - began))
    return {
        "collect_steps_per_s": figure(collect, at_least=5000),
        "loader_frames_per_s": figure(loader[10:], at_least=20_000),
        "train_images_per_s": figure(train, at_least=1800),
        "plan_ms": figure(plan[5:], at_most=100),
    }


if __name__ == "__main__":
    main()
