"""AD-L-JEPA on a simulated street: what its latents know without labels, and how well one drives by them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from worldjepa.evaluation.bev import SCANS_FILE
from worldjepa.evaluation.driving import RETURNS_FILE
from worldjepa.files import in_data, write_text
from worldjepa.runs import machine
from worldjepa.studies.jobs import collect_job, in_turns, pretrain_job, run_script, seconds_in_turns
from worldjepa.studies.record import clear_figure, figure, mean_figure, paired_figure, write_result
from worldjepa.training import read_metrics

SEEDS = (0, 1, 2)
MORE_SEEDS = (3, 4)
"""Of the latents alone: with three seeds the interval of the gain with few labels, .05, reached from -.02 to .12."""
FOLDER = Path("runs") / "study-ad_l_jepa"
NUM_STREETS = 20
"""That each driver is judged on, others for each seed; nobody has learned from them."""
STORE = (f"env.store={FOLDER}/store", "env.collect.num_episodes=400")
FINE = ("encoder.widths=[16,32,64]",)
"""128 x 128 cells."""
REAL = in_data("lidar")
"""Where frames of KITTI may be, which the latents are tried on."""


def run(command: str, steps: int, driver_steps: int, world_steps: int) -> None:
    """Writes ``results/ad_l_jepa.json``; every part that is there already is read back.

    Args:
        steps: of pre-training; ``driver_steps``: of imitation; ``world_steps``: of the world model.
    """
    collected = collect_job("street", FOLDER, STORE[1:])
    # Worlds stand last: where cores are few they fill the gap beside the last driver, where there are many they wait
    # for the latents of their seed.
    ready = {seed: Event() for seed in SEEDS}
    jobs = {f"driver {seed}": partial(_driver, seed, steps, driver_steps, ready[seed]) for seed in SEEDS}
    jobs |= {f"latents {seed}": partial(_latents, seed, steps) for seed in MORE_SEEDS}
    jobs |= {f"world {seed}": partial(_world, seed, world_steps, ready[seed]) for seed in SEEDS}
    done = in_turns(jobs)
    began = time.monotonic()
    drivers, worlds = ([done[f"{kind} {seed}"] for seed in SEEDS] for kind in ("driver", "world"))
    drives = [driver["drives"] | world["drives"] for driver, world in zip(drivers, worlds, strict=True)]
    latents = [*(job["scans"] for job in drivers), *(done[f"latents {seed}"] for seed in MORE_SEEDS)]
    figures = _scan_figures(latents) | _drive_figures(drives)
    figures |= _speed_figures() | _fine_figures()
    seconds = collected + seconds_in_turns(done)
    figures["minutes"] = figure((seconds + time.monotonic() - began) / 60, None, 1, at_most=60)
    write_result("ad_l_jepa", command, machine(), (*SEEDS, *MORE_SEEDS), figures)


def _scan_figures(jobs: list[dict[str, float]]) -> dict[str, Any]:
    def values(name: str) -> list[float]:
        return [job[name] for job in jobs]

    figures = {
        "occupancy_iou": mean_figure(values("iou_occupied")),
        "untrained_occupancy_iou": mean_figure(values("untrained_iou_occupied")),
        "neighbour_occupancy_iou": mean_figure(values("neighbour_iou_occupied")),
        "all_full_occupancy_iou": mean_figure(values("occupied_share")),
        "occupancy_iou_over_untrained": clear_figure(values("iou_occupied"), values("untrained_iou_occupied")),
        "occupancy_iou_over_neighbour": clear_figure(values("iou_occupied"), values("neighbour_iou_occupied")),
        "empty_iou": mean_figure(values("iou_empty")),
        "empty_iou_over_neighbour": paired_figure(values("iou_empty"), values("neighbour_iou_empty")),
        "spread": mean_figure(values("spread")),
        "channels_in_use": mean_figure(values("channels_in_use")),
    }
    for share, words in (("0.01", "1_percent"), ("0.1", "10_percent"), ("1", "100_percent")):
        gain = clear_figure if share == "0.01" else paired_figure
        figures[f"probe_gain_{words}"] = gain(values(f"miou_{share}"), values(f"untrained_miou_{share}"))
        figures[f"probe_miou_{words}"] = mean_figure(values(f"miou_{share}"))
    figures["detection_ap_finetuned"] = mean_figure(values("ap"))
    figures["detection_ap_scratch"] = mean_figure(values("untrained_ap"))
    figures["detection_gain"] = paired_figure(values("ap"), values("untrained_ap"))
    for name in ("voxels", "iou_occupied", "neighbour_iou_occupied", "occupied_share"):
        if f"folder_{name}" in jobs[0]:
            figures[f"kitti_{name}"] = mean_figure(values(f"folder_{name}"))
    return figures


def _drive_figures(jobs: list[dict[str, dict[str, list[float]]]]) -> dict[str, Any]:
    """Of the drives of each seed: who drove -> outcome -> of each street."""

    def completion(who: str, **target: float) -> dict[str, Any]:
        return mean_figure([float(np.mean(job[who]["completion"])) for job in jobs], **target)

    def per_km(who: str) -> list[float]:
        return [1000 * sum(job[who]["collided"]) / max(sum(job[who]["distance"]), 1.0) for job in jobs]

    ratios = [ours / max(blind, 1e-9) for ours, blind in zip(per_km("driver"), per_km("blind"), strict=True)]
    figures = {
        "imitation_route_completion": completion("driver", at_least=0.8),
        "imitation_collisions_per_km": mean_figure(per_km("driver")),
        "blind_collisions_per_km": mean_figure(per_km("blind")),
        "imitation_collisions_over_blind": mean_figure(ratios, at_most=0.5),
        "planner_route_completion": completion("planner"),
        "planner_collisions_per_km": mean_figure(per_km("planner")),
    }
    for who in ("expert", "blind", "cloned"):
        figures[f"{who}_route_completion"] = completion(who)
    for who in ("expert", "cloned"):
        figures[f"{who}_collisions_per_km"] = mean_figure(per_km(who))
    return figures


def _driver(seed: int, steps: int, driver_steps: int, ready: Event, alone: bool) -> dict[str, Any]:
    """Pre-training, after which latents are ``ready``, and the policy that imitates; on one core unless ``alone``."""
    try:
        scans = _latents(seed, steps, alone)
    finally:
        ready.set()
    driver, seconds = FOLDER / f"driver-{seed}", scans["seconds"]
    words = ("policy=driver", *_common(seed, alone), f"policy.encoder.init={_scans(seed)}")
    seconds += _timed("train_policy", (*words, f"train.steps={driver_steps}", f"out={driver}"), driver, alone)
    # Judged before the expert was asked, too: what cloning demonstrations alone would give.
    for policy, beside in ((driver / "round-0", "[]"), (driver, "[blind,expert]")):
        words = ("policy=driver", f"policy.make.path={policy}", "measure=return", f"evaluation.beside={beside}")
        words = (*words, *_judged(seed, alone), f"out={policy}/judged")
        seconds += _timed("evaluate", words, policy / "judged", alone)
    drives = _drives(driver / "judged") | {"cloned": _drives(driver / "round-0" / "judged")["driver"]}
    return {"scans": scans, "drives": drives, "seconds": seconds}


def _latents(seed: int, steps: int, alone: bool) -> dict[str, float]:
    """Pre-training and its probes, on one core unless ``alone``."""
    budget = (f"train.steps={steps}", "train.num_evaluations=1", "scans.detection.steps=150")
    real = (f"scans.folder={REAL}",) if REAL and REAL.is_dir() else ()
    words = ("model=ad_l_jepa", "env=street", *STORE, f"seed={seed}", *budget, *real)
    return pretrain_job(_scans(seed), words, SCANS_FILE, alone)


def _world(seed: int, world_steps: int, ready: Event, alone: bool) -> dict[str, Any]:
    """A world model on the latents, and how its planner drives; on one core unless ``alone``."""
    ready.wait()
    world = FOLDER / f"world-{seed}"
    words = (*_common(seed, alone), f"encoder.init={_scans(seed)}", f"train.steps={world_steps}")
    words = (*words, "evaluation.beside=[]", *_judged(seed, alone), f"run_dir={world}")
    seconds = _timed("train_world_model", words, world, alone)
    return {"drives": _drives(world), "seconds": seconds}


def _scans(seed: int) -> Path:
    return FOLDER / f"scans-{seed}"


def _common(seed: int, alone: bool) -> tuple[str, ...]:
    return ("env=street", *STORE, f"seed={seed}", *(() if alone else ("train.processes=1", "collection_workers=1")))


def _judged(seed: int, alone: bool) -> tuple[str, ...]:
    one = () if alone else ("evaluation.workers=1",)
    return (f"evaluation.episodes={NUM_STREETS}", f"evaluation.seed={seed}", *one)


def _drives(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Who drove -> outcome -> of each street."""
    table = json.loads((folder / RETURNS_FILE).read_text())["policies"]
    return {who: row["episodes"] for who, row in table.items()}


def _timed(script: str, words: tuple[str, ...], folder: Path, alone: bool) -> float:
    """Runs a script that writes ``folder``, unless it has; the s it took, of an interrupted one in its last sitting."""
    took = folder / "seconds.json"
    if not took.is_file():
        began = time.monotonic()
        run_script(script, words, folder, not alone)
        write_text(took, json.dumps(time.monotonic() - began))
    return json.loads(took.read_text())


def _fine_figures(steps: int = 12) -> dict[str, Any]:
    """A step of pre-training, s, and peak memory, GB, at 128 x 128 cells, with all cores."""
    folder = FOLDER / "fine"
    judged = ("scans.num_train=4", "scans.num_held_out=4", "scans.shares=[1.0]", "scans.detection.steps=0")
    budget = (f"train.steps={steps}", "train.num_evaluations=0", "train.log_every=3")
    pretrain_job(folder, ("model=ad_l_jepa", "env=street", *STORE, *FINE, *budget, *judged), SCANS_FILE, True)
    rows = [row for row in read_metrics(folder) if "loss/total" in row]
    took = [(b["seconds"] - a["seconds"]) / (b["step"] - a["step"]) for a, b in pairwise(rows)]
    facts = json.loads((folder / "facts.json").read_text())
    return {
        "step_seconds_128": mean_figure(took),
        "peak_memory_gb_128": figure(facts["peak_memory_gb"], None, 1),
    }


def _speed_figures(num_streets: int = 10, repeats: int = 10) -> dict[str, Any]:
    """Sweeps of 32 x 512 rays with all that is observed, and rays with what each has met, per s of one core, on streets
    with about 40 things."""
    import gymnasium as gym

    env = gym.make("envs:worldjepa/Street-v0").unwrapped
    sweeps, rays = [], []
    for seed in range(num_streets):
        env.reset(seed=seed)
        state = env.step(np.array([0.0, 1.0]))[4]["state"]
        sweeps.append(repeats / _seconds(partial(env.observe_state, state), repeats))
        num_rays = env.hits(state)[0].size
        rays.append(repeats * num_rays / _seconds(partial(env.hits, state), repeats))
    env.close()
    return {
        "sweeps_per_s": mean_figure(sweeps, at_least=10),
        "rays_per_s": mean_figure(rays, at_least=1e6),
    }


def _seconds(work: Callable[[], Any], repeats: int) -> float:
    work()  # the first time may have to build something
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    return time.perf_counter() - began
