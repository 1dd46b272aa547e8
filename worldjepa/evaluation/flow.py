"""How good an optical flow is: its errors, the baselines it must beat, OpenCV's flows beside it, and pictures of it.

A flow is (H,W,2): x to the right, y down, px, from the first picture to the second
(see :mod:`worldjepa.datasets.flow_files`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np

OUTLIER_PX, OUTLIER_SHARE = 3.0, 0.05
"""KITTI 2015: an outlier errs by more than 3 px and by more than 5 % of the true length (Menze and Geiger 2015)."""
MOST_STEPS, SMALLEST_STEP = 500, 1e-6
"""Of Weiszfeld's algorithm; the latter in px."""
SMALLEST_FOR_DIS = 16
"""px of the shorter side. Below it, OpenCV 4.13's DIS reads outside its pyramid: a segmentation fault, no exception."""


def end_point_error(flow: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Mean Euclidean distance of a flow from the truth, over the pixels of each pair.

    Args:
        flow, truth: (...,H,W,2), px; whatever the truth holds outside the mask is ignored.
        mask: bool (...,H,W), the pixels that count; None says all.

    Returns:
        float64 (...), px, one per pair; NaN where the mask is empty.
    """
    error, mask = _errors(flow, truth), _mask(mask, truth)
    return _mean(error, mask)


def f1_all(flow: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """KITTI's share of outliers: more than 3 px and more than 5 % of the true length off.

    Args and shapes as in :func:`end_point_error`.

    Returns:
        float64 (...), 0 to 1, one per pair; NaN where the mask is empty.
    """
    mask = _mask(mask, truth)
    return _mean(_outliers(_errors(flow, truth), truth), mask)


def best_translation(truth: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """The one vector with the least mean Euclidean distance from the true flow: what no single shift can beat.

    It is the geometric median, by Weiszfeld's algorithm with the remedy for iterates that fall on a data point.

    Args:
        truth: (H,W,2), px.
        mask: bool (H,W), the pixels that count; None says all.

    Returns:
        float64 (2,), px.

    Raises:
        ValueError: the mask is empty.

    Source: Vardi and Zhang 2000, The multivariate L1-median and associated data depth.
    """
    vectors = np.asarray(truth, np.float64)[_mask(mask, truth)]
    if not len(vectors):
        raise ValueError("the best translation needs a pixel with a known flow, got none; leave such pairs out")
    # complex numbers for points of the plane; equal flows are common, and counted once
    points, counts = np.unique(vectors[:, 0] + 1j * vectors[:, 1], return_counts=True)
    place = complex(np.median(vectors[:, 0]), np.median(vectors[:, 1]))
    for _ in range(MOST_STEPS):
        away = points - place
        distance = np.abs(away)
        here = distance < 1e-12
        weight = np.where(here, 0, counts / np.where(here, 1, distance))
        pull, resting = complex((weight * away).sum()), float(counts[here].sum())
        if abs(pull) <= resting:
            break
        step = (1 - resting / abs(pull)) * pull / weight.sum()
        place += step
        if abs(step) < SMALLEST_STEP:
            break
    # towards a data point the algorithm creeps; that it is one is quickly told
    nearest = complex(points[np.abs(points - place).argmin()])
    place = min(place, nearest, key=lambda candidate: float(counts @ np.abs(points - candidate)))
    return np.array([place.real, place.imag])


def measure_flow(
    flows: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    visibles: Sequence[np.ndarray | None],
    valids: Sequence[np.ndarray] | None = None,
) -> dict[str, float]:
    """Errors of many flows and of the baselines, pooled: every pixel counts the same, whichever pair it is in.

    Sintel's errors are pooled so, and KITTI's outliers; KITTI's end-point error is often stated as a mean over pairs,
    which is ``np.mean`` of :func:`end_point_error`.

    Args:
        flows, truths: per pair (H,W,2), px; pairs may differ in size.
        visibles: per pair bool (H,W), seen in the second picture too, or None where that is not known.
        valids: per pair bool (H,W), the truth is known; None says everywhere.

    Returns:
        ``epe``, px; ``epe_visible`` and ``epe_hidden`` over the pixels that are seen, or not, in the second picture,
        of the pairs that tell; ``f1_all``, 0 to 1; ``epe_zero``, of no motion; ``epe_translation``, of each pair's
        :func:`best_translation`; ``epe_over_zero`` and ``epe_over_translation``, below 1 where the flow is better.
        A mean over no pixel and a ratio to 0 are left out.

    Raises:
        ValueError: the numbers of pairs or shapes differ, a flow is not finite, or no truth is known at all.
    """
    valids = [None] * len(truths) if valids is None else valids
    if not len(flows) == len(truths) == len(visibles) == len(valids):
        raise ValueError(
            "expected a flow, a truth, a visible and a valid for every pair, "
            f"got {len(flows)}, {len(truths)}, {len(visibles)} and {len(valids)}"
        )
    sums: dict[str, float] = dict.fromkeys(("epe", "epe_visible", "epe_hidden", "f1_all", "epe_zero"), 0.0)
    sums["epe_translation"] = 0.0
    counts = dict.fromkeys(sums, 0)

    def add(name: str, values: np.ndarray) -> None:
        sums[name] += float(values.sum())
        counts[name] += values.size

    for number, (flow, truth, visible, valid) in enumerate(zip(flows, truths, visibles, valids, strict=True)):
        error, valid = _errors(flow, truth), _mask(valid, truth)
        if not np.isfinite(flow).all():
            raise ValueError(f"pair {number}: expected a finite flow, got NaN or infinity; the model has diverged")
        if not valid.any():
            continue
        known = np.asarray(truth, np.float64)[valid]
        add("epe", error[valid])
        add("f1_all", _outliers(error, truth)[valid])
        add("epe_zero", np.linalg.norm(known, axis=-1))
        add("epe_translation", np.linalg.norm(known - best_translation(truth, valid), axis=-1))
        if visible is not None:
            visible = _mask(visible, truth)
            add("epe_visible", error[valid & visible])
            add("epe_hidden", error[valid & ~visible])
    if not counts["epe"]:
        raise ValueError("expected a pixel with a known flow in some pair, got none; give pairs with a truth")
    measured = {name: sums[name] / counts[name] for name in sums if counts[name]}
    for baseline in ("zero", "translation"):
        if measured[f"epe_{baseline}"] > 0:
            measured[f"epe_over_{baseline}"] = measured["epe"] / measured[f"epe_{baseline}"]
    return measured


def opencv_flow(first: np.ndarray, second: np.ndarray, method: str) -> np.ndarray:
    """Optical flow by OpenCV, which learns nothing; of grey pictures, so colour is not used.

    Args:
        first, second: uint8 (H,W,3), RGB.
        method: ``farneback`` (polynomial expansion, OpenCV's usual numbers) or ``dis`` (dense inverse search, the
            medium preset). DIS needs 16 px: where a side is shorter, both pictures are enlarged by the least integer
            factor that gives it, and the flow is shrunk back.

    Returns:
        float32 (H,W,2), px.

    Source: Farneback 2003; Kroeger et al. 2016, arXiv:1603.03590.
    """
    import cv2

    for picture in (first, second):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.shape != first.shape:
            raise ValueError(
                "expected two pictures uint8 (height, width, 3) of one size, "
                f"got {first.dtype} {first.shape} and {second.dtype} {second.shape}"
            )
    grey = [cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY) for picture in (first, second)]
    if method == "farneback":
        return cv2.calcOpticalFlowFarneback(*grey, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    if method != "dis":
        raise ValueError(f"expected method farneback or dis, got {method}")
    height, width = grey[0].shape
    factor = ceil(SMALLEST_FOR_DIS / min(height, width))
    if factor > 1:
        size = (factor * width, factor * height)
        grey = [cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC) for picture in grey]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)
    return cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA) / factor if factor > 1 else flow


def flow_picture(flow: np.ndarray, largest: float | None = None) -> np.ndarray:
    """A flow on the usual colour wheel: hue is the direction, white is no motion.

    Args:
        flow: (H,W,2), px, finite.
        largest: px, the length of full colour; longer flows look the same. None takes this flow's longest; give the
            same to several flows that are to be compared.

    Returns:
        uint8 (H,W,3), RGB.
    """
    import torch
    from torchvision.utils import flow_to_image

    flow = _flow(flow)
    if flow.ndim != 3 or not np.isfinite(flow).all():
        raise ValueError(f"expected one finite flow (height, width, 2), got {flow.shape}; set unknown pixels to 0")
    if largest is not None and largest <= 0:
        raise ValueError(f"largest must be > 0 px, got {largest}")
    length = np.linalg.norm(flow, axis=-1, keepdims=True)
    largest = largest or float(length.max()) or 1.0
    # flow_to_image scales by the longest flow it sees: a last column of that length sets it. All others stay a hair
    # shorter, since a rounding beyond 1 would wrap a colour of 0 round to 255.
    shown = flow * np.minimum(1, (1 - 1e-5) * largest / np.maximum(length, 1e-12))
    column = np.broadcast_to([largest, 0.0], (len(flow), 1, 2))
    channels_first = np.concatenate([shown, column], axis=1).transpose(2, 0, 1)
    return flow_to_image(torch.from_numpy(channels_first.astype(np.float32)))[:, :, :-1].permute(1, 2, 0).numpy()


def warp_picture(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The second picture brought back to the first: each pixel is read, bilinearly, where the flow leads.

    Args:
        picture: uint8 (H,W,3), the second.
        flow: (H,W,2), px, from the first to the second.

    Returns:
        uint8 (H,W,3), black where the flow leads out of the picture. What is hidden in the second picture shows double.
    """
    import cv2

    flow = _flow(flow)
    if flow.shape != (*picture.shape[:2], 2):
        raise ValueError(f"expected a flow {(*picture.shape[:2], 2)} for the picture, got {flow.shape}")
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]]
    x, y = (x + flow[..., 0]).astype(np.float32), (y + flow[..., 1]).astype(np.float32)
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def _errors(flow: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(...,H,W,2), (...,H,W,2) -> (...,H,W), px."""
    flow, truth = _flow(flow), _flow(truth)
    if flow.shape != truth.shape:
        raise ValueError(f"expected flow and truth of one shape, got {flow.shape} and {truth.shape}")
    return np.linalg.norm(flow - truth, axis=-1)


def _outliers(error: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return (error > OUTLIER_PX) & (error > OUTLIER_SHARE * np.linalg.norm(_flow(truth), axis=-1))


def _mean(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(...,H,W) over the mask's pixels -> (...)."""
    with np.errstate(invalid="ignore"):
        return np.where(mask, values, 0).sum(axis=(-2, -1)) / mask.sum(axis=(-2, -1))


def _flow(flow: np.ndarray) -> np.ndarray:
    flow = np.asarray(flow, np.float64)
    if flow.ndim < 3 or flow.shape[-1] != 2:
        raise ValueError(f"expected a flow (..., height, width, 2), got {flow.shape}; move the two channels last")
    return flow


def _mask(mask: np.ndarray | None, truth: np.ndarray) -> np.ndarray:
    shape = np.shape(truth)[:-1]
    mask = np.ones(shape, bool) if mask is None else np.asarray(mask)
    if mask.shape != shape or mask.dtype != bool:
        raise ValueError(f"expected a mask bool {shape} as the flow has, got {mask.dtype} {mask.shape}")
    return mask
