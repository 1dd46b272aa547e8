"""MuJoCo: how fast pictures come, what experts reach, goals reached by planning from pixels, and planned return."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from worldjepa.rollout import Factory
from worldjepa.runs import machine
from worldjepa.studies.jobs import outcomes
from worldjepa.studies.pusht import run_seed, seed_folder
from worldjepa.studies.record import figure, mean_figure, rate_figure, write_result

SEEDS = (0, 1)  # two, so that everything fits into a sitting
NUM_PAIRS, NUM_PAIRS_BESIDE_RETURN, NUM_EXPERT_EPISODES, NUM_RETURN_EPISODES = 100, 25, 20, 10
SPEEDS = {"reacher": ("reacher-easy", 1000), "cheetah": ("cheetah-run", 700), "point_mass": ("point_mass-easy", 1500)}
EXPERTS = {"reacher": 950, "point_mass": 850, "cartpole": 750, "cheetah": None}
GOALS = {"reacher": 0.85, "point_mass": 0.95}
RETURNS = ("reacher", "cartpole", "cheetah")
PLANNING = {env: ("planning.shrink_horizon=false", "planning.horizon=8") for env in RETURNS}
FOLDER = Path("runs") / "study-mujoco"


def run(command: str) -> None:
    """Writes ``results/mujoco.json``; every part that is there already is read back."""
    figures: dict[str, Any] = {}
    for name, (task, at_least) in SPEEDS.items():
        figures[f"{name}_fps"] = mean_figure(_speeds(task), at_least=at_least)
    for env, at_least in EXPERTS.items():
        row = _returns(FOLDER / f"expert-{env}", f"env={env}", "policy=expert", NUM_EXPERT_EPISODES)["expert"]["return"]
        figures[f"{env}_expert"] = figure(row["mean"], row["ci95"], row["n"], at_least)
    jobs = {env: [run_seed(f"mujoco-{env}", seed, env=env, num_pairs=NUM_PAIRS) for seed in SEEDS] for env in GOALS}
    for env, at_least in GOALS.items():
        figures[f"{env}_success"] = rate_figure(outcomes(jobs[env], "scripted", "planner", "any"), at_least=at_least)
        far = outcomes(jobs[env], "scripted", "planner", "any_moved")
        figures[f"{env}_moved_success"] = rate_figure(far)
        figures[f"{env}_minutes"] = mean_figure([job["facts"]["minutes"] for job in jobs[env]], at_most=30)
    for player, bound in (("random", {"at_most": 0.15}), ("still", {}), ("replay", {})):
        pooled = [outcome for env in GOALS for outcome in outcomes(jobs[env], "scripted", player, "any")]
        figures[f"{player}_success"] = rate_figure(pooled, **bound)
    for env in RETURNS:
        if env not in GOALS:
            run_seed(f"mujoco-{env}", 0, env=env, num_pairs=NUM_PAIRS_BESIDE_RETURN)
        model = seed_folder(f"mujoco-{env}", 0)
        table = _returns(
            FOLDER / f"return-{env}", f"run={model}", "cost=predicted_return", NUM_RETURN_EPISODES, *PLANNING[env]
        )
        expert = table["expert"]["return"]["mean"]
        for policy in ("planner", "random"):
            row = table[policy]["return"]
            share = [row["mean"] / expert, [end / expert for end in row["ci95"]]]
            figures[f"{env}_{'return' if policy == 'planner' else 'random_return'}_share"] = figure(*share, row["n"])
    write_result("mujoco", command, machine(), SEEDS, figures)


def _returns(folder: Path, place: str, how: str, num_episodes: int, *overrides: str) -> dict[str, Any]:
    """The policies of a table of returns, from a process of its own unless it is there."""
    file = folder / "returns.json"
    if not file.is_file():
        words = [place, how, "measure=return", f"evaluation.episodes={num_episodes}", f"out={folder}", *overrides]
        subprocess.run([sys.executable, "scripts/evaluate.py", *words], check=True)
    return json.loads(file.read_text())["policies"]


def _speeds(task: str, repetitions: int = 10, steps: int = 200) -> list[float]:
    """Steps with a 64-px picture per second of processor time, of several repetitions."""
    env = Factory("gymnasium.make", {"id": f"envs:worldjepa/{task}-v0"}).build().unwrapped
    env.reset(seed=0)
    env.action_space.seed(0)
    speeds = []
    for _ in range(repetitions + 1):
        actions = [env.action_space.sample() for _ in range(steps)]
        began = time.process_time()
        for action in actions:
            env.step(action)
        speeds.append(steps / (time.process_time() - began))
    return speeds[1:]
