"""What a model of motion and content knows (MC-JEPA): flow against the truth, classes, and masks through a video.

Everything is measured on held-out episodes, with the model frozen and in eval mode. Worlds that know how their pictures
move (:class:`FlowWorld`) give the flow's truth; in others the flow is judged by how well it explains the next picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from worldjepa.datasets.flow_files import find_flow_pairs
from worldjepa.datasets.splits import split_episodes
from worldjepa.datasets.store import EpisodeStore
from worldjepa.evaluation.flow import end_point_error, flow_picture, measure_flow, opencv_flow, warp_picture
from worldjepa.evaluation.frozen import linear_probe_accuracy
from worldjepa.evaluation.propagation import measure_propagation, propagate_masks, still_masks
from worldjepa.evaluation.rankme import rankme
from worldjepa.motion import inside
from worldjepa.systems.mc_jepa import MotionModel
from worldjepa.types import Segment

MOTION_FILE, MOTION_FIGURES = "motion.json", "motion_figures.npz"
CARRIED_LEVEL = 1
"""Level (stride 4) whose features carry masks, within ``CARRIED_RADIUS`` of its cells."""
CARRIED_RADIUS = 4
NUM_VIDEOS, MOST_FRAMES = 40, 24


Truth = tuple[np.ndarray, np.ndarray]
"""Of B pairs: flow (B,height,width,2) px, and bool (B,height,width), seen in both pictures."""


class FlowWorld(Protocol):
    """What an environment tells of how its pictures move, beside :class:`worldjepa.types.GoalEnv`."""

    def flow(self, state: np.ndarray, next_state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """States (S,), (S,) -> float32 (height,width,2) px, where each pixel of the first picture has gone in the
        second, x to the right and y down; and bool (height,width): it is seen there."""

    def segments(self, state: np.ndarray) -> np.ndarray:
        """int64 (height,width): 0 where nothing moves by itself, k at thing k, the same number at all times."""


@torch.no_grad()
def predicted_flow(model: MotionModel, segment: Segment, batch_size: int = 64) -> np.ndarray:
    """The flow from the first frame of each clip to the second, float32 (B,height,width,2)."""
    device, pixels = next(model.parameters()).device, segment.observation["pixels"]
    parts = [model.flow(some[:, 0].to(device), some[:, 1].to(device)).cpu() for some in pixels.split(batch_size)]
    return rearrange(torch.cat(parts), "b c h w -> b h w c").numpy()


def true_flow(world: FlowWorld | object, segment: Segment) -> Truth | None:
    """What the world says of the first two frames: (B,height,width,2) px and bool (B,height,width), seen in both.

    None where it does not know.
    """
    if not hasattr(world, "flow"):
        return None
    states = segment.state[:, :2].double().numpy()
    flows, visible = zip(*(world.flow(*pair) for pair in states), strict=True)
    return np.stack(flows), np.stack(visible)


def measure_pairs(model: MotionModel, segment: Segment, truth: Truth | None) -> dict[str, float]:
    """How good the flow of pairs of frames is: :func:`worldjepa.evaluation.flow.measure_flow`, where there is truth.

    Beside them ``warp_error``: mean absolute difference, in grey levels, of the second picture moved back and the first
    one, over all pixels whose flow stays inside; and ``still_error`` of the second picture as it is, over the same.
    """
    if model.predictor is None:
        return {}
    flows, pixels = predicted_flow(model, segment), segment.observation["pixels"]
    within = inside(torch.from_numpy(flows).movedim(-1, 1))[:, 0].numpy()
    first, second = rearrange(pixels[:, :2], "b t c h w -> t b h w c").numpy()
    warped = np.stack([warp_picture(*pair) for pair in zip(second, flows, strict=True)])
    measured = {
        name: float(np.abs(other.astype(float) - first)[within].mean())
        for name, other in (("warp_error", warped), ("still_error", second))
    }
    return measured if truth is None else measured | measure_flow(flows, *truth)


def opencv_errors(segment: Segment, truth: Truth) -> dict[str, float]:
    """``epe_farneback`` and ``epe_dis``: OpenCV's flows of the same pairs, px."""
    pictures = rearrange(segment.observation["pixels"][:, :2], "b t c h w -> b t h w c").numpy()
    found = {method: np.stack([opencv_flow(*pair, method) for pair in pictures]) for method in ("farneback", "dis")}
    return {f"epe_{method}": float(end_point_error(flows, truth[0]).mean()) for method, flows in found.items()}


@torch.no_grad()
def measure_folder(model: MotionModel, folder: str | Path) -> dict[str, float]:
    """Errors of the flow of recorded pairs with known truth, and of OpenCV's: Sintel, KITTI, FlyingChairs, Middlebury.

    Args:
        folder: see :func:`worldjepa.datasets.flow_files.find_flow_pairs`.

    Returns:
        the numbers of :func:`worldjepa.evaluation.flow.measure_flow` as ``recorded_<name>``, and
        ``recorded_epe_farneback`` and ``recorded_epe_dis``.
    """
    if model.predictor is None:
        return {}
    device = next(model.parameters()).device
    found: dict[str, list] = {"model": [], "farneback": [], "dis": []}
    truths, visibles, valids = [], [], []
    for pair in find_flow_pairs(folder):
        sample = pair.read()
        if sample.flow is None:
            continue
        first, second = (torch.from_numpy(x).movedim(-1, 0)[None].to(device) for x in (sample.first, sample.second))
        found["model"].append(model.flow(first, second)[0].movedim(0, -1).cpu().numpy())
        for method in ("farneback", "dis"):
            found[method].append(opencv_flow(sample.first, sample.second, method))
        truths.append(sample.flow)
        visibles.append(sample.visible)
        valids.append(sample.valid)
    measured = {name: measure_flow(flows, truths, visibles, valids) for name, flows in found.items()}
    ours = {f"recorded_{name}": value for name, value in measured["model"].items()}
    return ours | {f"recorded_epe_{method}": measured[method]["epe"] for method in ("farneback", "dis")}


@torch.no_grad()
def measure_content(
    model: MotionModel, world: object, store: EpisodeStore, num_scenes: int, policies: Sequence[str] | None = None
) -> dict[str, float]:
    """What the pooled features of single pictures say: ``rankme``, and where the world has classes ``accuracy``.

    Beside the accuracy of a linear probe on held-out scenes, that of chance (the most frequent class).

    Args:
        num_scenes: episodes on whose pictures the probe is fitted, at most; a third as many are held out.
        policies: whose episodes; None takes all.
    """
    features, labels = {}, {}
    for split, most in (("train", num_scenes), ("held_out", max(1, num_scenes // 3))):
        pictures, classes = [], []
        for index in split_episodes(store, split, policies)[:most]:
            arrays = store.episode(int(index)).arrays
            frames = sorted({0, len(arrays["state"]) // 2})
            pictures += [arrays["pixels"][frame] for frame in frames]
            if hasattr(world, "label_name"):
                classes += [arrays["state"][0, world.state_names.index(world.label_name)]] * len(frames)
        features[split] = _pooled(model, np.stack(pictures))
        labels[split] = torch.tensor(np.array(classes)).round().long()
    measured = {"rankme": rankme(features["train"])}
    if hasattr(world, "label_name"):
        measured["accuracy"] = linear_probe_accuracy(
            features["train"], labels["train"], features["held_out"], labels["held_out"]
        )
        commonest = labels["train"].bincount().argmax()
        measured["chance"] = float((labels["held_out"] == commonest).float().mean())
    return measured


@torch.no_grad()
def measure_carrying(
    model: MotionModel, world: FlowWorld, store: EpisodeStore, frameskip: int = 1, policies: Sequence[str] | None = None
) -> dict[str, float]:
    """``j_and_f``, ``j`` and ``f`` of the first frame's masks carried through held-out episodes by the features.

    And ``still_j_and_f`` of masks that stay where they were. Every thing counts the same, as in DAVIS. Empty where the
    world has no segments.

    Args:
        frameskip: raw steps between the frames.
        policies: whose episodes; None takes all.
    """
    if not hasattr(world, "segments"):
        return {}
    device = next(model.parameters()).device
    scores: list[dict[str, float]] = []
    things: list[int] = []
    for arrays in _episodes(store, frameskip, policies, NUM_VIDEOS):
        truth = np.stack([world.segments(state) for state in arrays["state"].astype(np.float64)])
        if not truth[0].any():
            continue
        pixels = torch.from_numpy(arrays["pixels"]).movedim(-1, 1)[None]
        levels = model.encoder.features({"pixels": pixels.to(device)})
        level = levels[min(CARRIED_LEVEL, len(levels) - 1)].cpu()
        carried = propagate_masks(rearrange(level, "t d h w -> t h w d"), truth[0], radius=CARRIED_RADIUS)
        found = measure_propagation(carried, truth)
        still = measure_propagation(still_masks(truth[0], len(truth)), truth)
        scores.append(found | {"still_j_and_f": still["j_and_f"]})
        things.append(len(np.unique(truth[0][truth[0] > 0])))
    if not scores:
        return {}
    return {name: float(np.average([score[name] for score in scores], weights=things)) for name in scores[0]}


def motion_figures(model: MotionModel, segment: Segment, truth: Truth | None, most: int = 8) -> dict[str, np.ndarray]:
    """Pictures uint8 (most,height,width,3) by name: ``first``, ``second``, ``warped``, ``flow`` and ``true_flow``."""
    if model.predictor is None:
        return {}
    some = segment.map(lambda x: x[:most])
    flows = predicted_flow(model, some)
    pictures = rearrange(some.observation["pixels"][:, :2], "b t c h w -> t b h w c").numpy()
    found = {"first": pictures[0], "second": pictures[1]}
    found["warped"] = np.stack([warp_picture(*pair) for pair in zip(pictures[1], flows, strict=True)])
    truths = flows if truth is None else truth[0][:most]
    largest = max(float(np.linalg.norm(truths, axis=-1).max()), 1e-3)
    found["flow"] = np.stack([flow_picture(flow, largest) for flow in flows])
    if truth is not None:
        found["true_flow"] = np.stack([flow_picture(flow, largest) for flow in truths])
    return found


@torch.no_grad()
def motion_film(
    model: MotionModel, store: EpisodeStore, frameskip: int = 1, policies: Sequence[str] | None = None, most: int = 4
) -> np.ndarray:
    """Frames uint8 (T,height,width,3) of held-out episodes, a row each: picture, flow, and the next picture moved back.

    Args: as for :func:`measure_carrying`, and the number of episodes at most.
    """
    device, rows = next(model.parameters()).device, []
    for arrays in _episodes(store, frameskip, policies, most):
        pictures = arrays["pixels"]
        pixels = torch.from_numpy(pictures).movedim(-1, 1).to(device)
        flows = rearrange(model.flow(pixels[:-1], pixels[1:]).cpu(), "t c h w -> t h w c").numpy()
        largest = max(float(np.linalg.norm(flows, axis=-1).max()), 1.0)
        drawn = np.stack([flow_picture(flow, largest) for flow in flows])
        back = np.stack([warp_picture(*pair) for pair in zip(pictures[1:], flows, strict=True)])
        rows.append(np.concatenate([pictures[:-1], drawn, back], 2))
    longest = max(len(row) for row in rows)
    held = [np.concatenate([row, row[-1:].repeat(longest - len(row), 0)]) for row in rows]
    return np.concatenate(held, 1).repeat(2, 1).repeat(2, 2)  # 64 px are small on a screen


def _episodes(
    store: EpisodeStore, frameskip: int, policies: Sequence[str] | None, most: int
) -> Iterator[dict[str, np.ndarray]]:
    """Pictures and states of held-out episodes, ``frameskip`` raw steps apart, of two frames at least."""
    chosen = split_episodes(store, "held_out", policies)
    long = [index for index in chosen if store.lengths[index] > frameskip]
    for index in long[:most]:
        arrays = store.episode(int(index)).arrays
        yield {name: np.asarray(arrays[name][: MOST_FRAMES * frameskip : frameskip]) for name in ("pixels", "state")}


def _pooled(model: MotionModel, pictures: np.ndarray, batch_size: int = 256) -> Tensor:
    """uint8 (N,height,width,3) -> (N,D) on the CPU."""
    device = next(model.parameters()).device
    pixels = torch.from_numpy(pictures).movedim(-1, 1)[:, None]
    return torch.cat([model.encode({"pixels": some.to(device)})[:, 0, 0].cpu() for some in pixels.split(batch_size)])
