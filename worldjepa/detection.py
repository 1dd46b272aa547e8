"""Boxes from a bird's-eye view: a small centre-point head, what trains it, and how well it finds things.

Every cell says whether the centre of a box lies in it, and how that box is (CenterPoint, arXiv:2006.11275, first stage,
one class). A box is (7,) x, y, z of its centre, length, width, height, m, and yaw, rad, in the sensor's frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldjepa.voxels import VoxelGrid, bev_shape

BOX_NUMBERS = 8  # place in the cell (2), z, log of the sizes (3), sine and cosine of the yaw
PRIOR = 0.01  # what an untrained head says of every cell (focal loss, arXiv:1708.02002)


class Detections(NamedTuple):
    """Of one cloud, most likely first: ``boxes`` float32 (K,7) and ``scores`` (K,), 0..1."""

    boxes: Tensor
    scores: Tensor


class CenterHead(nn.Module):
    """Latents of a bird's-eye view -> boxes.

    Args:
        latent_dim: D.
        grid, stride: of the cells, see :class:`worldjepa.encoders.bev.BevEncoder`.
        width: channels of its two convolutions.
    """

    def __init__(self, latent_dim: int, grid: VoxelGrid, stride: int, width: int = 64):
        super().__init__()
        self.grid, self.stride = grid, stride
        layers: list[nn.Module] = []
        for channels in (latent_dim, width):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.center, self.box = nn.Conv2d(width, 1, 1), nn.Conv2d(width, BOX_NUMBERS, 1)
        nn.init.constant_(self.center.bias, math.log(PRIOR / (1 - PRIOR)))

    def forward(self, bev: Tensor) -> tuple[Tensor, Tensor]:
        """(B,D,Y,X) -> logits of centres (B,Y,X) and what boxes there are like (B,8,Y,X)."""
        features = self.trunk(bev)
        return self.center(features)[:, 0], self.box(features)

    def loss(self, bev: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Focal loss of the centres, and of their boxes the L1 distance; means over boxes.

        Args:
            boxes: of each sample, (M_i,7); those whose centre is outside of the grid are left out.
        """
        logits, said = self(bev)
        heat, wanted, where = self._targets(boxes, bev.device)
        chance = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
        centre = heat == 1
        focal = torch.where(
            centre, -chance.log() * (1 - chance) ** 2, -(1 - chance).log() * chance**2 * (1 - heat) ** 4
        )
        sample, row, column = where.unbind(1)
        apart = (said[sample, :, row, column] - wanted).abs().sum()
        return (focal.sum() + apart) / max(len(where), 1)

    @torch.no_grad()
    def detect(self, bev: Tensor, most: int = 40) -> list[Detections]:
        """The likeliest boxes of every sample: cells that no neighbour beats."""
        logits, said = self(bev)
        peak = logits == F.max_pool2d(logits[:, None], 3, 1, 1)[:, 0]
        scores = (logits.sigmoid() * peak).flatten(1)
        found = []
        for score, box in zip(scores, said.flatten(2), strict=True):
            best, cell = score.topk(min(most, len(score)))
            found.append(Detections(self._boxes(box[:, cell].T, cell), best))
        return found

    def _targets(self, boxes: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Heat (B,Y,X), 1 in cells with a centre and less around them; wanted (M,8); their cells (M,3) sample, y, x."""
        height, width = bev_shape(self.grid.shape, self.stride)
        heat = torch.zeros(len(boxes), height, width, device=device)
        rows, columns = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
        wanted, where = [], []
        for sample, several in enumerate(boxes):
            for box in several.to(device).float():
                place = (box[:2] - box.new_tensor(self.grid.low[:2])) / box.new_tensor(self._cell)
                column, row = (int(x) for x in place.floor())
                if not (0 <= row < height and 0 <= column < width):
                    continue
                # As wide as half of the box's shorter side, one cell at least.
                sigma = max(float(box[3:5].min()) / self._cell[0] / 4, 0.5)
                around = torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * sigma**2))
                heat[sample] = torch.maximum(heat[sample], around)
                inside = place - place.floor()
                angle = torch.stack([box[6].sin(), box[6].cos()])
                wanted.append(torch.cat([inside, box[2:3], box[3:6].log(), angle]))
                where.append([sample, row, column])
        if not where:
            return heat, heat.new_zeros(0, BOX_NUMBERS), torch.zeros(0, 3, dtype=torch.long, device=device)
        return heat, torch.stack(wanted), torch.tensor(where, device=device)

    def _boxes(self, numbers: Tensor, cell: Tensor) -> Tensor:
        """(K,8) of the cells (K,), counted through (Y,X), -> (K,7)."""
        width = bev_shape(self.grid.shape, self.stride)[1]
        corner = torch.stack([cell % width, cell // width], 1)
        place = (corner + numbers[:, :2]) * numbers.new_tensor(self._cell) + numbers.new_tensor(self.grid.low[:2])
        yaw = torch.atan2(numbers[:, 6], numbers[:, 7])
        return torch.cat([place, numbers[:, 2:3], numbers[:, 3:6].clamp(-3, 4).exp(), yaw[:, None]], 1)

    @property
    def _cell(self) -> tuple[float, float]:
        """Extent of a cell along x and y, m."""
        return self.grid.size[0] * self.stride, self.grid.size[1] * self.stride


def bev_iou(box: Tensor, boxes: Tensor) -> np.ndarray:
    """(M,): intersection over union, seen from above, of a box (7,) and others (M,7)."""
    import cv2

    def rectangle(one: Tensor) -> tuple:
        x, y, _, length, width, _, yaw = one.double().tolist()
        return (x, y), (length, width), math.degrees(yaw)

    found = np.zeros(len(boxes))
    for index, other in enumerate(boxes):
        kind, corners = cv2.rotatedRectangleIntersection(rectangle(box), rectangle(other))
        if kind == cv2.INTERSECT_NONE or corners is None:
            continue
        shared = cv2.contourArea(cv2.convexHull(corners))
        found[index] = shared / (float(box[3] * box[4] + other[3] * other[4]) - shared)
    return found


def average_precision(found: Sequence[Detections], truth: Sequence[Tensor], least_iou: float = 0.5) -> float:
    """AP over all clouds, 0..1: the area under precision over recall at 40 recalls (KITTI's AP_R40), seen from above.

    From the likeliest on, a detection takes the box with which its IoU is largest, if that is ``least_iou`` or more and
    nobody has taken it; a box is found once.

    Args:
        found: of each cloud.
        truth: boxes (M_i,7) of each cloud.

    Raises:
        ValueError: there are no boxes at all, so there is nothing to find.
    """
    total = sum(map(len, truth))
    if total == 0:
        raise ValueError("average precision needs at least one box in the clouds, got none; take more clouds")
    order = sorted(
        ((float(score), cloud, place) for cloud, one in enumerate(found) for place, score in enumerate(one.scores)),
        key=lambda entry: -entry[0],
    )
    taken = [np.zeros(len(boxes), bool) for boxes in truth]
    hits = np.zeros(len(order), bool)
    for rank, (_, cloud, place) in enumerate(order):
        if not len(truth[cloud]):
            continue
        likeness = np.where(taken[cloud], 0.0, bev_iou(found[cloud].boxes[place], truth[cloud]))
        best = int(likeness.argmax())
        if likeness[best] >= least_iou:
            taken[cloud][best] = hits[rank] = True
    recall = hits.cumsum() / total
    precision = hits.cumsum() / np.arange(1, len(order) + 1)
    reached = [precision[recall >= level - 1e-9].max(initial=0.0) for level in np.arange(1, 41) / 40]
    return float(np.mean(reached))
