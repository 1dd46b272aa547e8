"""Do features know which pixels belong together over time? The first frame's masks, carried through a video by them.

The protocol of DAVIS for frozen features: nothing is trained. A position takes its label from the positions most
similar to it, nearby, in the first and the last few frames. Then regions (J) and contours (F) are compared with the
truth.

Source: Jabri et al. 2020, arXiv:2006.14613; Xu and Wang 2021 (VFS), arXiv:2103.17263; Caron et al. 2021 (DINO),
arXiv:2104.14294, whose numbers are the defaults; measures of Perazzi et al. 2016 and Pont-Tuset et al.,
arXiv:1704.00675.
"""

from __future__ import annotations

from math import ceil, hypot

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

CONTOUR_TOLERANCE = 0.008
"""Of the picture's diagonal, by which contours may differ (DAVIS); rounded up, so never less than 1 px."""


@torch.no_grad()
def propagate_masks(
    features: Tensor,
    mask: np.ndarray,
    *,
    num_last: int = 7,
    top_k: int = 5,
    radius: int = 12,
    temperature: float = 0.1,
) -> np.ndarray:
    """The first frame's objects in all frames.

    Labels are shrunk to the features' grid by the share of each cell they cover, and grown back bilinearly before the
    largest wins. (DINO picks the nearest pixel, and stretches every label to 0..1 before the largest wins.)

    Args:
        features: float (T,h,w,D), of any length: they are normalised here, so similarities are cosines.
        mask: int (H,W), of the first frame: 0 is the background, other numbers are objects.
        num_last: frames before the current one that are looked at, beside the first; DAVIS evaluations take 4 to 7.
        top_k: positions that a label is taken from.
        radius: rows and columns of the grid, within which they must lie.
        temperature: of the softmax over their cosines; 0.07 to 0.1 is usual.

    Returns:
        int64 (T,H,W); the first is ``mask``, the others hold its numbers only.
    """
    mask = np.asarray(mask)
    if features.ndim != 4 or not torch.isfinite(features).all():
        raise ValueError(
            f"expected finite features (T, h, w, D), got {tuple(features.shape)}; the first frame comes first"
        )
    if mask.ndim != 2 or mask.dtype.kind not in "iu":
        raise ValueError(f"expected the first frame's mask, int (height, width), got {mask.dtype} {mask.shape}")
    if num_last < 0 or top_k < 1 or radius < 0 or temperature <= 0:
        raise ValueError(
            "expected num_last >= 0, top_k >= 1, radius >= 0 and temperature > 0, "
            f"got {num_last}, {top_k}, {radius} and {temperature}"
        )
    features = F.normalize(features.float(), dim=-1)
    numbers = np.unique(mask)
    shares = torch.from_numpy(mask == numbers[:, None, None]).to(features)
    labels = [rearrange(F.adaptive_avg_pool2d(shares, features.shape[1:3]), "k h w -> h w k")]
    masks = still_masks(mask, len(features))
    for t in range(1, len(features)):
        seen = [0, *range(max(1, t - num_last), t)]
        sources = torch.stack([labels[i] for i in seen])
        labels.append(_carried(features[t], features[seen], sources, top_k, radius, temperature))
        full = F.interpolate(rearrange(labels[t], "h w k -> 1 k h w"), size=mask.shape, mode="bilinear")[0]
        masks[t] = numbers[full.argmax(dim=0).cpu().numpy()]
    return masks


def still_masks(mask: np.ndarray, num_frames: int) -> np.ndarray:
    """The first frame's mask (H,W) in all frames, int64 (num_frames,H,W): the baseline that knows of no motion."""
    return np.repeat(np.asarray(mask, np.int64)[None], num_frames, axis=0)


def measure_propagation(masks: np.ndarray, truths: np.ndarray) -> dict[str, float]:
    """J, F and their mean, over the first frame's objects and all frames but the first, which is given.

    DAVIS 2017's toolkit leaves the last frame out too; give ``masks[:-1]`` and ``truths[:-1]`` for its numbers. It
    averages over the objects of all videos, so weigh this by the number of objects.

    Args:
        masks, truths: int (T,H,W), T at least 2: 0 is the background, other numbers are objects.

    Returns:
        ``j``, ``f`` and ``j_and_f``, 0 to 1.
    """
    masks, truths = np.asarray(masks), np.asarray(truths)
    if masks.shape != truths.shape or masks.ndim != 3 or len(masks) < 2:
        raise ValueError(
            "expected masks and truths (T, height, width) of one shape with T >= 2, "
            f"got {masks.shape} and {truths.shape}"
        )
    objects = [number for number in np.unique(truths[0]) if number != 0]
    if not objects:
        raise ValueError("expected an object (a number other than 0) in the first frame's truth, got none")
    both = [(masks[t] == number, truths[t] == number) for number in objects for t in range(1, len(masks))]
    j = float(np.mean([region_similarity(*pair) for pair in both]))
    f = float(np.mean([contour_accuracy(*pair) for pair in both]))
    return {"j": j, "f": f, "j_and_f": (j + f) / 2}


def region_similarity(mask: np.ndarray, truth: np.ndarray) -> float:
    """J: intersection over union of two bool (H,W), 0 to 1; 1 where both are empty, as in DAVIS."""
    mask, truth = _pair(mask, truth)
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def contour_accuracy(mask: np.ndarray, truth: np.ndarray) -> float:
    """F: harmonic mean of precision and recall of a mask's contour, 0 to 1, as in DAVIS.

    A pixel of a contour is right when the other has one within 0.8 % of the diagonal (8 px for 854 x 480), at least
    1 px. Two masks without contour agree; an empty one and another do not.

    Args:
        mask, truth: bool (H,W).
    """
    import cv2

    mask, truth = _pair(mask, truth)
    reach = ceil(CONTOUR_TOLERANCE * hypot(*mask.shape))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= reach**2).astype(np.uint8)
    found, wanted = _contour(mask), _contour(truth)
    if not found.any() or not wanted.any():
        return float(found.any() == wanted.any())
    precision = cv2.dilate(wanted.astype(np.uint8), disk)[found].mean()
    recall = cv2.dilate(found.astype(np.uint8), disk)[wanted].mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _carried(query: Tensor, sources: Tensor, labels: Tensor, top_k: int, radius: int, temperature: float) -> Tensor:
    """Labels (h,w,K) of one frame (h,w,D) from those (C,h,w,K) of others (C,h,w,D).

    Row by row: all pairs of positions at once take gigabytes at DAVIS's size.
    """
    height, width = query.shape[:2]
    column = torch.arange(width, device=query.device)
    far = (column[:, None] - column).abs() > radius
    rows = []
    for i in range(height):
        near = slice(max(0, i - radius), i + radius + 1)
        cosine = torch.einsum("wd,crvd->wcrv", query[i], sources[:, near])
        cosine = rearrange(cosine.masked_fill(far[:, None, None], -torch.inf), "w c r v -> w (c r v)")
        best, place = cosine.topk(min(top_k, cosine.shape[1]), dim=1)
        # fewer positions than top_k may be near; those beyond weigh exp(-inf) = 0
        weight = (best / temperature).softmax(dim=1)
        candidates = rearrange(labels[:, near], "c r v k -> (c r v) k")
        rows.append(torch.einsum("wn,wnk->wk", weight, candidates[place]))
    return torch.stack(rows)


def _contour(mask: np.ndarray) -> np.ndarray:
    """bool (H,W): pixels that differ from the one to the right, below or both; the picture's edge is no contour."""
    beyond = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask != beyond[:-1, 1:]) | (mask != beyond[1:, :-1]) | (mask != beyond[1:, 1:])


def _pair(mask: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mask, truth = np.asarray(mask), np.asarray(truth)
    if mask.shape != truth.shape or mask.ndim != 2 or mask.dtype != bool or truth.dtype != bool:
        raise ValueError(
            f"expected two masks bool (height, width) of one size, got {mask.dtype} {mask.shape} and "
            f"{truth.dtype} {truth.shape}; compare with an object's number first"
        )
    return mask, truth
