"""Training terms of MC-JEPA (arXiv:2307.12698): optical flow without labels, and content from the same features.

Terms that need flow set ``needs_motion``, those that need features alone ``needs_features``, those that need two views
of one picture ``needs_content``: what no term needs is not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldjepa.motion import warp
from worldjepa.objectives.vicreg import VicReg
from worldjepa.types import Motion


class FeatureRegression(nn.Module):
    """Mean over levels of |x - warp(y)|^2, where a place is seen in both pictures."""

    needs_motion = True

    def forward(self, motion: Motion, generator: torch.Generator | None = None) -> Tensor:
        return _mean_error(_levels(motion), lambda x, flow: (x.float() - warp(swapped(x), flow)).square())


class FeatureCycle(nn.Module):
    """Mean over levels of |x - there and back|^2: x warped by the flow back and then by the flow forth is x again."""

    needs_motion = True

    def forward(self, motion: Motion, generator: torch.Generator | None = None) -> Tensor:
        return _mean_error(_levels(motion), lambda x, flow: (x.float() - warp(warp(x, swapped(flow)), flow)).square())


class Reconstruction(nn.Module):
    """Weighted mean over levels of L1 + L2 + SSIM of the pictures, where a place is seen in both.

    Args:
        l1, l2, ssim: weights; SSIM's term is (1 - SSIM) / 2 in windows of 3 x 3.
        decay: weight of a level over that of the next finer one, > 0. In the coarse ones borders of things are blurred.

    Raises:
        ValueError: no such decay.
    """

    needs_motion = True

    def __init__(self, l1: float = 0.5, l2: float = 0.5, ssim: float = 1.0, decay: float = 0.25):
        super().__init__()
        if not decay > 0:
            raise ValueError(f"decay of the levels' weights must be > 0, got {decay}")
        self.l1, self.l2, self.ssim, self.decay = l1, l2, ssim, decay

    def forward(self, motion: Motion, generator: torch.Generator | None = None) -> Tensor:
        def error(x: Tensor, flow: Tensor) -> Tensor:
            guess = warp(swapped(x), flow)
            apart = x - guess
            return self.l1 * apart.abs() + self.l2 * apart.square() + self.ssim * (1 - ssim(x, guess)) / 2

        return _mean_error(zip(motion.pictures, motion.flow, motion.seen, strict=True), error, self.decay)


class Smoothness(nn.Module):
    """Mean over levels of the flow's change from place to place, less where the picture has an edge.

    |second differences of the flow| exp(-edges |first differences of the picture|), UFlow's (arXiv:2006.04902).

    Args:
        edges: how much an edge counts; pictures are in 0..1.
    """

    needs_motion = True

    def __init__(self, edges: float = 20.0):
        super().__init__()
        self.edges = edges

    def forward(self, motion: Motion, generator: torch.Generator | None = None) -> Tensor:
        terms = []
        for picture, flow in zip(motion.pictures, motion.flow, strict=True):
            for axis in (-1, -2):
                if flow.shape[axis] < 3:
                    continue  # two places do not bend
                edge = picture.diff(dim=axis).abs().mean(1, keepdim=True)
                size = flow.shape[axis] - 2
                edge = torch.maximum(edge.narrow(axis, 0, size), edge.narrow(axis, 1, size))
                bend = flow.diff(n=2, dim=axis)
                terms.append((bend.square() + 1e-6).sqrt().mul(torch.exp(-self.edges * edge)).mean())
        return torch.stack(terms).mean()


class LevelVicReg(nn.Module):
    """Variance and covariance of every level's features over pictures and places: no level may collapse.

    Of each data-parallel process's own pictures, as in :class:`ContentVicReg`.

    Args:
        variance, covariance: weights, see :class:`VicReg`.
        num_places: that are looked at in each level, drawn at random.
    """

    needs_features = True

    def __init__(self, variance: float = 25.0, covariance: float = 1.0, num_places: int = 2048):
        super().__init__()
        self.vicreg, self.num_places = VicReg(variance, covariance), num_places

    def forward(self, motion: Motion, generator: torch.Generator | None = None) -> Tensor:
        terms = []
        for x in motion.features:
            places = x.permute(0, 2, 3, 1).flatten(0, 2)
            chosen = torch.randint(len(places), (min(self.num_places, len(places)),), generator=generator)
            terms.append(self.vicreg(places[chosen.to(places.device)]))
        return torch.stack(terms).mean()


class ContentVicReg(nn.Module):
    """VICReg (arXiv:2105.04906) between two views of one picture: invariance, variance and covariance.

    Args:
        invariance, variance, covariance: weights, 25, 25 and 1 in the paper.
    """

    needs_content = True

    def __init__(self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0):
        super().__init__()
        # Published: the mean of both views' variance hinges, but the sum of their covariances; VicReg takes means.
        self.invariance, self.vicreg = invariance, VicReg(variance, 2 * covariance)

    def forward(self, motion: Motion, generator: torch.Generator | None = None) -> Tensor:
        first, second = motion.views
        return self.invariance * F.mse_loss(first, second) + self.vicreg(motion.views)


def swapped(x: Tensor) -> Tensor:
    """Of pairs both ways round (2N,...), what belongs to the other picture of each pair."""
    first, second = x.chunk(2)
    return torch.cat([second, first])


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004), -1..1, of pictures (N,C,height,width) in 0..1, in 3 x 3 windows."""
    c1, c2 = 0.01**2, 0.03**2

    def mean(z: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(z, (1, 1, 1, 1), mode="replicate"), 3, 1)

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    return (2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))


def _levels(motion: Motion) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Features, flow and what is seen of every level; pictures have one size more."""
    return zip(motion.features, motion.flow[1:], motion.seen[1:], strict=True)


def _mean_error(
    levels: Iterator[tuple[Tensor, Tensor, Tensor]], error: Callable[[Tensor, Tensor], Tensor], decay: float = 1.0
) -> Tensor:
    """Mean over levels (x, flow, seen) of ``error(x, flow)`` (N,C,height,width), where a place is ``seen``.

    Args:
        decay: weight of a level over that of the next finer one.
    """
    terms = [(error(x, flow).mean(1, keepdim=True) * seen).sum() / seen.sum().clamp_min(1) for x, flow, seen in levels]
    weights = [decay**level for level in range(len(terms))]
    return sum(weight * term for weight, term in zip(weights, terms, strict=True)) / sum(weights)
