"""What a prediction is compared with: the online encoder itself, a slow copy of it, or something fixed.

A target is called like the encoder it stands for and returns what that returns, under the right grad mode:

    target = Ema(encoder)
    wanted = target(tokens)                # no gradient, always in eval mode
    target.update(encoder, progress=0.3)   # after every optimiser step
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn


class Target(nn.Module):
    """Base of all targets: ``forward`` as the encoder's, and ``update``, which does nothing here."""

    def given(self, online_output: Tensor, *inputs) -> Tensor:
        """The target of ``inputs`` when the online encoder's output of the same inputs is known already."""
        return self(*inputs)

    def update(self, online: nn.Module, progress: float) -> None:
        """Follows ``online`` after an optimiser step; ``progress`` in [0, 1] is the share of training done."""


class Teacher(Target):
    """A copy of a module of its own: frozen, without gradient and in eval mode whatever its parent's mode is."""

    def __init__(self, online: nn.Module):
        super().__init__()
        self.module = copy.deepcopy(online).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Teacher:
        super().train(mode)
        self.module.eval()  # model.train() reaches every child; a teacher with live dropout or BatchNorm is noise
        return self

    @torch.no_grad()
    def forward(self, *inputs):
        return self.module(*inputs)


class Frozen(Teacher):
    """The module as it was when given, for good."""


class Ema(Teacher):
    """Exponential moving average of the online parameters; buffers (BatchNorm statistics) are copied.

    Args:
        online: the encoder to follow; the average starts as its copy.
        start, end: momentum at progress 0 and 1 (I-JEPA: 0.996 to 1, linear).
        schedule: how the momentum moves between them.
    """

    def __init__(
        self,
        online: nn.Module,
        start: float = 0.996,
        end: float = 1.0,
        schedule: Literal["linear", "cosine"] = "linear",
    ):
        super().__init__(online)
        if not 0.0 <= start <= end <= 1.0:
            raise ValueError(f"momentum must satisfy 0 <= start <= end <= 1, got start={start}, end={end}")
        if schedule not in ("linear", "cosine"):
            raise ValueError(f"schedule must be 'linear' or 'cosine', got {schedule!r}")
        self.start = start
        self.end = end
        self.schedule = schedule

    def momentum(self, progress: float) -> float:
        """Share of the average that one update keeps."""
        progress = min(max(progress, 0.0), 1.0)
        if self.schedule == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return self.start + (self.end - self.start) * progress

    @torch.no_grad()
    def update(self, online: nn.Module, progress: float) -> None:
        momentum = self.momentum(progress)
        for slow, fast in zip(self.module.parameters(), online.parameters(), strict=True):
            slow.lerp_(fast.to(slow.dtype), 1 - momentum)
        for slow, fast in zip(self.module.buffers(), online.buffers(), strict=True):
            slow.copy_(fast)


class Live(Target):
    """The online encoder itself, with gradient: needs a regulariser against collapse."""

    def __init__(self, online: nn.Module):
        super().__init__()
        self._online = (online,)  # a tuple hides it from state_dict and parameters(): it has an owner already

    def forward(self, *inputs):
        return self._online[0](*inputs)

    def given(self, online_output: Tensor, *inputs) -> Tensor:
        return online_output


class StopGradient(Live):
    """The online encoder itself, in its current mode, without gradient."""

    @torch.no_grad()
    def forward(self, *inputs):
        return super().forward(*inputs)

    def given(self, online_output: Tensor, *inputs) -> Tensor:
        return online_output.detach()


class FixedFeature(Target):
    """A fixed function of the input, such as hand-made image features; without gradient."""

    def __init__(self, feature: Callable[..., Tensor]):
        super().__init__()
        self.feature = feature

    @torch.no_grad()
    def forward(self, *inputs):
        return self.feature(*inputs)
