"""Finding cars: a detector fine-tuned on a bird's-eye view, and its average precision on held-out sweeps."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from worldjepa.detection import CenterHead, Detections, average_precision
from worldjepa.encoders.bev import BevEncoder
from worldjepa.evaluation.bev import ScanWorld
from worldjepa.evaluation.fitting import fit
from worldjepa.sweeps import RangeImage, clouds_of
from worldjepa.types import Segment
from worldjepa.voxels import VoxelGrid, voxelize

LEAST_RAYS = 5
"""A box that fewer rays meet is neither taught nor asked for."""


class BoxWorld(ScanWorld, Protocol):
    """A world that also tells of the things in it; what a ray meets is a row of ``boxes``."""

    def boxes(self, state: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """State (S,) -> (N,7) in the sensor's frame, and N names."""


def seen_boxes(world: BoxWorld, state: np.ndarray, grid: VoxelGrid, kind: str = "car") -> Tensor:
    """float32 (M,7): boxes of one kind in the grid that enough rays meet."""
    boxes, names = world.boxes(state)
    met = world.hits(state)[0]
    rays = np.bincount(met[met >= 0], minlength=len(boxes))
    low, high = np.array(grid.low[:2]), np.array(grid.high[:2])
    inside = ((boxes[:, :2] >= low) & (boxes[:, :2] < high)).all(1)
    wanted = np.array([name == kind for name in names], bool)
    return torch.from_numpy(boxes[wanted & inside & (rays >= LEAST_RAYS)])


def detector_precision(
    encoder: BevEncoder,
    sensor: RangeImage,
    world: BoxWorld,
    train: Segment,
    held_out: Segment,
    settings: Mapping[str, float],
    seed: int = 0,
) -> float:
    """AP at BEV IoU 0.5 of a copy of ``encoder`` with a centre-point head, trained together on labelled sweeps.

    Args:
        encoder: pre-trained, or with new weights: trained from scratch with the same budget. It stays as it is.
        sensor: of the sweeps.
        world: knows the boxes.
        train, held_out: all of their frames are sweeps by themselves.
        settings: ``steps``, ``batch_size`` (sweeps) and ``learning_rate`` (AdamW, falling to 0 by a cosine).
        seed: of the head's weights and the batches.
    """
    device = next(encoder.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = CenterHead(encoder.latent_dim, encoder.grid, encoder.stride).to(device)
    encoder = copy.deepcopy(encoder).requires_grad_(True).train()
    known, asked = (_labelled(world, segment, sensor, encoder.grid) for segment in (train, held_out))

    def loss(index: Tensor) -> Tensor:
        some = [known[number] for number in index.tolist()]
        bev = encoder(voxelize([cloud.to(device) for cloud, _ in some], encoder.grid))
        return head.loss(bev, [boxes for _, boxes in some])

    size = int(settings["batch_size"])
    fit(
        [*encoder.parameters(), *head.parameters()],
        loss,
        len(known),
        steps=int(settings["steps"]),
        batch_size=size,
        learning_rate=settings["learning_rate"],
        seed=seed,
        gradient_clip=10.0,
    )
    encoder.eval()
    head.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(asked), size):
            clouds = [cloud.to(device) for cloud, _ in asked[start : start + size]]
            found += [
                Detections(one.boxes.cpu(), one.scores.cpu())
                for one in head.detect(encoder(voxelize(clouds, encoder.grid)))
            ]
    return average_precision(found, [boxes for _, boxes in asked])


def _labelled(world: BoxWorld, segment: Segment, sensor: RangeImage, grid: VoxelGrid) -> list[tuple[Tensor, Tensor]]:
    """Every frame's cloud and the boxes seen in it."""
    states = segment.state.flatten(0, 1).double().numpy()
    clouds = clouds_of(segment.observation, sensor)
    return [(cloud, seen_boxes(world, state, grid)) for cloud, state in zip(clouds, states, strict=True)]
