"""MC-JEPA: motion and content together, against each alone, a frozen encoder, and OpenCV; on shapes and a real picture.

:func:`transfer` then gives the pyramid to a world model and to a policy on PushT, against the same from scratch.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldjepa.checkpoint import load_motion_model
from worldjepa.datasets.store import EpisodeStore
from worldjepa.evaluation.flow import end_point_error, opencv_flow, warp_picture
from worldjepa.evaluation.motion import MOTION_FILE, measure_carrying, measure_content
from worldjepa.runs import env_factory, machine
from worldjepa.studies.act_jepa import best_coverage, policy_job, solved_of
from worldjepa.studies.jobs import collect_job, in_turns, pretrain_job, seconds_in_turns
from worldjepa.studies.pusht import planning_figures, run_seed
from worldjepa.studies.record import figure, join_result, mean_figure, paired_figure, rate_figure
from worldjepa.systems.mc_jepa import MotionModel

SEEDS = (0, 1, 2)
FLOW_TERMS = ("regression", "cycle", "reconstruction", "smoothness", "levels")
NO_FLOW = tuple(f"objective.weights.{term}=0" for term in FLOW_TERMS)
METHODS = {
    "joint": (),
    "flow_only": ("objective.weights.content=0",),
    # Alone, the weight is a scale that Adam divides by again; with this one gradient_clip cuts as it did.
    "content_only": (*NO_FLOW, "objective.weights.content=0.03"),
    "no_levels": ("objective.weights.levels=0",),
    # On what content_only of the same seed has learned.
    "frozen": ("objective.weights.content=0", "objective.weights.levels=0", "frozen_encoder=true"),
}
FOLDER = Path("runs") / "study-mc_jepa"
WIDTH = 256
"""px of the real pair's pictures; it moves by up to 8 % of that, as shapes do by up to 10 % of theirs."""
SIMULATED = (
    *("PushT", "reacher-easy", "point_mass-easy", "cartpole-swingup", "cheetah-run", "walker-walk", "finger-spin"),
    *("ball_in_cup-catch", "gym-reacher", "gym-pusher", "gym-half_cheetah"),
)
"""Environments whose true flow is checked by what it makes of their pictures."""
FINE = ("gym-half_cheetah", 512)
"""An environment whose floor is too fine for small pictures, and a size in px that is large enough for it."""
STARTS = ("scratch", "pretrained")
"""What encoders on PushT start from."""
NUM_PAIRS = 60
"""Of each split, per seed, where a planner is judged."""


def run(command: str, steps: int) -> None:
    """Writes ``results/mc_jepa.json``; every part that is there already is read back.

    Args:
        steps: of training, the same for every method and seed.
    """
    collected = collect_job("moving_shapes", FOLDER)
    first = [name for name in METHODS if name != "frozen"]
    done = in_turns({f"{name}-{seed}": partial(_job, name, seed, steps) for seed in SEEDS for name in first})
    done |= in_turns({f"frozen-{seed}": partial(_job, "frozen", seed, steps) for seed in SEEDS})
    jobs = {name: [done[f"{name}-{seed}"] for seed in SEEDS] for name in METHODS}
    figures = _figures(jobs)
    figures["steps"] = figure(steps, None, len(SEEDS))
    seconds = seconds_in_turns(done)
    figures["minutes"] = figure((collected + seconds) / 60, None, 1)
    join_result("mc_jepa", command, machine(), SEEDS, figures, part_of)


def flow_truth(command: str) -> None:
    """Adds what simulated environments' true flow makes of their pictures to ``results/mc_jepa.json``."""
    figures: dict[str, Any] = {}
    for name, size in (*((name, None) for name in SIMULATED), FINE):
        label = name.replace("-", "_").lower() + ("" if size is None else f"_{size}px")
        warped, still = warp_errors(name, size)
        figures[f"{label}_warp_error"] = mean_figure(warped, at_most=2.0)
        figures[f"{label}_still_error"] = mean_figure(still)
    join_result("mc_jepa", command, machine(), SEEDS, figures, part_of)


def plan(command: str, steps: int) -> None:
    """Adds world models of PushT to ``results/mc_jepa.json``, with the pyramid pre-trained and without.

    Args:
        steps: of each world model, half as many as of its second phase; it learns from a
            quarter of the default job's episodes; the rest is as there.
    """
    # Every frame is encoded for the second phase, which takes this encoder longer than training it for 600 steps.
    budget = (f"train.steps={steps}", f"refinement.steps={2 * steps}", "env.collect.num_episodes=3000")
    models = in_turns(
        {
            f"{name}-{seed}": partial(_world_model, name, seed, ("encoder=pyramid", f"encoder.init={start}", *budget))
            for name, seed, start in _starts()
        }
    )
    figures: dict[str, Any] = {}
    for name in STARTS:
        figures |= planning_figures([models[f"{name}-{seed}"] for seed in SEEDS], f"_{name}")
    figures["pusht_steps"] = figure(steps, None, len(SEEDS))
    figures["pusht_minutes"] = mean_figure([job["facts"]["minutes"] for job in models.values()])
    join_result("mc_jepa", command, machine(), SEEDS, figures, part_of)


def imitate(command: str, steps: int) -> None:
    """Adds policies on PushT to ``results/mc_jepa.json``, with the pyramid pre-trained and without.

    Args:
        steps: of each policy (ACT-JEPA), which learns from people alone, by pictures as large as the pyramid has seen:
            twice as fast as by those of 96 px.
    """
    words = ("policy=act_jepa", "encoder@policy.encoder=pyramid_tokens", "env.imitation.image_size=64")
    done = in_turns(
        {
            f"{name}-{seed}": partial(
                policy_job, f"policy-{name}", seed, (*words, f"policy.encoder.init={start}"), steps, parent=FOLDER
            )
            for name, seed, start in _starts()
        }
    )
    figures: dict[str, Any] = {}
    for name in STARTS:
        policies = [done[f"{name}-{seed}"] for seed in SEEDS]
        best = best_coverage(policies)
        figures[f"pusht_policy_success_{name}"] = rate_figure(solved_of(best))
        figures[f"pusht_policy_avg_max_coverage_{name}"] = mean_figure([float(coverage.mean()) for coverage in best])
        figures[f"pusht_policy_held_out_error_{name}"] = mean_figure([job["held_out_error"] for job in policies])
    figures["pusht_policy_steps"] = figure(steps, None, len(SEEDS))
    figures["pusht_policy_minutes"] = mean_figure([job["minutes"] for job in done.values()])
    join_result("mc_jepa", command, machine(), SEEDS, figures, part_of)


def part_of(name: str) -> str:
    """Which part of the study a figure of that name belongs to: what one of its commands measures."""
    if name.endswith(("_warp_error", "_still_error")):
        return "flow_truth"
    if name.startswith("pusht_"):
        return "imitate" if name.startswith("pusht_policy_") else "plan"
    return "run"


def _starts() -> list[tuple[str, int, str]]:
    """Of every run on PushT: where its encoder starts from, its seed, and the value of ``encoder.init``."""
    folders = {seed: _folder("joint", seed) for seed in SEEDS}
    if missing := [str(folder) for folder in folders.values() if not (folder / MOTION_FILE).is_file()]:
        raise SystemExit(f"no finished run in {', '.join(missing)}: study.py mc_jepa trains them")
    return [(name, seed, str(folders[seed]) if name == "pretrained" else "null") for seed in SEEDS for name in STARTS]


def _world_model(name: str, seed: int, words: tuple[str, ...], alone: bool) -> dict[str, Any]:
    return run_seed(f"mc_jepa-{name}", seed, words, num_pairs=NUM_PAIRS, alone=alone)


def _figures(jobs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Of the moving shapes and the real pair."""

    def values(name: str, key: str) -> list[float]:
        return [job[key] for job in jobs[name]]

    def ratio(name: str, other: str) -> list[float]:
        return [a / b for a, b in zip(values(name, "epe"), values(other, "epe"), strict=True)]

    figures = {
        "epe": mean_figure(values("joint", "epe")),
        "epe_unoccluded": mean_figure(values("joint", "epe_visible"), at_most=1.0),
        "epe_ratio_to_translation": mean_figure(values("joint", "epe_over_translation"), at_most=0.5),
        "epe_ratio_to_zero": mean_figure(values("joint", "epe_over_zero"), at_most=0.25),
        "frozen_over_joint_epe": mean_figure(ratio("frozen", "joint"), at_least=1.5),
        "joint_over_flow_only_epe": mean_figure(ratio("joint", "flow_only")),
        "joint_over_no_levels_epe": mean_figure(ratio("joint", "no_levels")),
        "probe_joint_minus_content_only": paired_figure(
            values("joint", "accuracy"), values("content_only", "accuracy")
        ),
        "epe_farneback": mean_figure(values("joint", "epe_farneback")),
        "epe_dis": mean_figure(values("joint", "epe_dis")),
    }
    for name, seeds in jobs.items():
        if name != "content_only":
            figures[f"{name}_epe"] = mean_figure([job["epe"] for job in seeds])
        figures[f"{name}_probe"] = mean_figure([job["accuracy"] for job in seeds])
        figures[f"{name}_j_and_f"] = mean_figure([job["j_and_f"] for job in seeds])
        figures[f"{name}_rankme"] = mean_figure([job["rankme"] for job in seeds])
    found = [_untrained(seed) for seed in SEEDS]
    for name, measure in (("probe", "accuracy"), ("j_and_f", "j_and_f"), ("rankme", "rankme")):
        figures[f"untrained_{name}"] = mean_figure([one[measure] for one in found])
    left, right, truth, known = motorcycle()
    figures["motorcycle_epe_zero"] = figure(float(end_point_error(np.zeros_like(truth), truth, known)), None, 1)
    for method in ("farneback", "dis"):
        found = float(end_point_error(opencv_flow(left, right, method), truth, known))
        figures[f"motorcycle_epe_{method}"] = figure(found, None, 1)
    for when in ("before", "after"):
        errors = [_motorcycle_error(_folder("joint", seed), when == "after", seed) for seed in SEEDS]
        figures[f"motorcycle_epe_{when}"] = mean_figure(errors)
    for size in (64, 256):
        ours, dis = frames_per_s(_folder("joint", SEEDS[0]), size)
        figures[f"flow_fps_{size}"], figures[f"dis_fps_{size}"] = mean_figure(ours), mean_figure(dis)
    return figures


def warp_errors(
    name: str, image_size: int | None = None, num_pairs: int = 12, apart: int = 4
) -> tuple[list[float], list[float]]:
    """What an environment's true flow leaves of the difference between two pictures, ``apart`` random steps apart.

    Args:
        image_size: of the pictures, px; None: the environment's own.

    Returns:
        Mean absolute differences in grey levels over visible pixels, one per pair: of the second picture moved back by
        the flow and the first, and of the second as it is.
    """
    import gymnasium as gym

    size = {} if image_size is None else {"image_size": image_size}
    env = gym.make(f"envs:worldjepa/{name}-v0", **size).unwrapped
    env.action_space.seed(0)
    warped, still = [], []
    for seed in range(num_pairs):
        env.reset(seed=seed)
        states = [env.step(env.action_space.sample())[4]["state"] for _ in range(20 + apart)]
        first, second = (env.observe_state(states[index])["pixels"] for index in (19, 19 + apart))
        flow, visible = env.flow(states[19], states[19 + apart])
        for picture, found in ((warp_picture(second, flow), warped), (second, still)):
            found.append(float(np.abs(picture.astype(float) - first)[visible].mean()))
    env.close()
    return warped, still


def motorcycle() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """scikit-image's stereo pair at ``WIDTH`` px (Middlebury 2014, Scharstein et al.), with its disparity as flow.

    Returns:
        Left and right picture uint8 (H,W,3); flow float32 (H,W,2), px, from left to right; bool (H,W), it is known.
    """
    import cv2
    from skimage.data import stereo_motorcycle

    left, right, disparity = stereo_motorcycle()
    size = WIDTH, round(WIDTH * left.shape[0] / left.shape[1])
    pictures = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (left, right)]
    # Nearest neighbours: a mean over an edge is the motion of neither side.
    shift = cv2.resize(disparity, size, interpolation=cv2.INTER_NEAREST) * (WIDTH / left.shape[1])
    known = np.isfinite(shift)
    flow = np.stack([np.where(known, -shift, 0), np.zeros_like(shift)], -1).astype(np.float32)
    return *pictures, flow, known


def _fresh(run_dir: Path, seed: int) -> tuple[MotionModel, dict[str, Any]]:
    """A run's model with new weights, in eval mode, and its configuration."""
    from hydra.utils import instantiate

    trained, config = load_motion_model(run_dir)
    torch.manual_seed(seed)
    model = MotionModel(instantiate(config["encoder"]), instantiate(config["predictor"]))
    model.encoder.normalizer.load_state_dict(trained.encoder.normalizer.state_dict())
    return model.eval(), config


def _untrained(seed: int) -> dict[str, float]:
    """What the content of new weights is worth."""
    from omegaconf import OmegaConf

    model, config = _fresh(_folder("joint", seed), seed)
    env, store = config["env"], EpisodeStore.open(config["env"]["store"])
    world = env_factory(OmegaConf.create(config)).build().unwrapped
    found = measure_content(model, world, store, config["motion"]["num_scenes"], env.get("policies"))
    return found | measure_carrying(model, world, store, env["frameskip"], env.get("policies"))


@torch.no_grad()
def _motorcycle_error(run_dir: Path, trained: bool, seed: int) -> float:
    """EPE of a run's model on the real pair, px; of one with new weights unless ``trained``."""
    model, _ = load_motion_model(run_dir) if trained else _fresh(run_dir, seed)
    left, right, truth, known = motorcycle()
    pair = [torch.from_numpy(picture).movedim(-1, 0)[None] for picture in (left, right)]
    return float(end_point_error(model.flow(*pair)[0].movedim(0, -1).numpy(), truth, known))


@torch.no_grad()
def frames_per_s(run_dir: Path, size: int, repeats: int = 10) -> tuple[list[float], list[float]]:
    """Flows per second of one core, one pair at a time: the model's and those of OpenCV's DIS, in turns."""
    import cv2

    model, _ = load_motion_model(run_dir)
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (2, size // 4, size // 4, 3)).astype(np.uint8)
    pair = [cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC) for picture in small]
    tensors = [torch.from_numpy(picture).movedim(-1, 0)[None] for picture in pair]
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        players = (lambda: model.flow(*tensors)), (lambda: opencv_flow(*pair, "dis"))
        speeds: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeats):
            for play, found in zip(players, speeds, strict=True):
                play()
                began, count = time.perf_counter(), 10
                for _ in range(count):
                    play()
                found.append(count / (time.perf_counter() - began))
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)
    return speeds


def _folder(name: str, seed: int) -> Path:
    return FOLDER / f"{name}-{seed}"


def _job(name: str, seed: int, steps: int, alone: bool) -> dict[str, Any]:
    """What came out of one run, done unless it is there; on one core unless ``alone``."""
    start = (f"encoder.init={_folder('content_only', seed)}",) if name == "frozen" else ()
    words = ("model=mc_jepa", "env=moving_shapes", f"env.store={FOLDER}/store", f"seed={seed}", *METHODS[name], *start)
    budget = (f"train.steps={steps}", "train.num_evaluations=1")
    return pretrain_job(_folder(name, seed), (*words, *budget), MOTION_FILE, alone)
