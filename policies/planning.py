"""Act by planning in the world model's latents."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from worldjepa.checkpoint import load_world_model
from worldjepa.evaluation.pairs import Pairs
from worldjepa.planners import Planner
from worldjepa.systems.world_model import WorldModel


class PlanningPolicy:
    """Model-predictive control: look, plan towards the goal's latent, do a block or a few, look again.

    The model and the planner are pure; what was seen, what was done and what is planned is kept here. Follows
    :class:`worldjepa.evaluation.protocol.Policy`.

    Args:
        model: in eval mode.
        planner: searches normalised model actions.
        cost: ``forward(latent (B,N,H,P,D), goal (B,P,D), action (B,N,H,A)) -> (B,N)``.
        horizon: model steps planned ahead.
        replan_every: model steps done before looking again, 1..horizon.
        shrink_horizon: plan H, H-1, .. 1 steps and start over, so that a plan aims at one moment; otherwise always H.
        observes: observations the model's encoder reads.
        bf16: run the model under bfloat16 autocast. None: where the hardware multiplies bfloat16 natively.
    """

    def __init__(
        self,
        model: WorldModel,
        planner: Planner,
        cost: nn.Module,
        *,
        horizon: int = 5,
        replan_every: int = 1,
        shrink_horizon: bool = True,
        observes: tuple[str, ...] = ("pixels",),
        bf16: bool | None = None,
    ):
        if not 1 <= replan_every <= horizon:
            raise ValueError(
                f"replan_every must be between 1 and the horizon ({horizon}), got {replan_every}; set policy.horizon"
            )
        if model.training:
            raise ValueError("the world model is in training mode, which changes what it predicts: call model.eval()")
        self.model = model
        self.planner = planner
        self.cost = cost
        self.horizon = horizon
        self.replan_every = replan_every
        self.shrink_horizon = shrink_horizon
        self.observes = tuple(observes)
        self.device = model.action_low.device
        self.bf16 = has_fast_bf16(self.device) if bf16 is None else bf16
        self.num_plans = 0
        self.plan_seconds = 0.0

    @torch.no_grad()
    def reset(self, goal_observation: dict[str, np.ndarray], seeds: Sequence[int]) -> None:
        """Forgets everything and takes up B goals.

        Args:
            goal_observation: observations (B,...) of the goals, as the environment gives them.
            seeds: B seeds of the environments' random streams.
        """
        self._generators = [torch.Generator(self.device).manual_seed(int(seed)) for seed in seeds]
        with self._autocast():
            self._goal = self._encode(goal_observation)
        self._latents: deque[Tensor] = deque(maxlen=self.model.num_history)  # each (B,P,D)
        self._done: deque[Tensor] = deque(maxlen=self.model.num_history)  # each (B,A), normalised
        self._proposals: Tensor | None = None  # (B,M,h,A): what is left of the plan, and alternatives to it
        self._num_left = 0  # blocks to do before the next look
        self._num_done = 0
        self._raw: deque[np.ndarray] = deque()  # each (B,raw_action_dim)

    @torch.no_grad()
    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """Raw actions float32 (B,raw_action_dim) in the environment's units.

        Args:
            observation: (B,...) as the environment gives them; looked at only where a block begins.
        """
        if not self._raw:
            begin, num_plans = time.perf_counter(), self.num_plans
            block = self._next_block(observation)
            raw = self.model.denormalize_action(block).float().cpu().numpy()
            self._raw.extend(np.split(raw, self.model.frameskip, axis=1))
            if self.num_plans > num_plans:
                self.plan_seconds += time.perf_counter() - begin
        return self._raw.popleft()

    def _next_block(self, observation: dict[str, np.ndarray]) -> Tensor:
        with self._autocast():
            self._latents.append(self._encode(observation))
            if self._num_left == 0:
                self._plan()
        block = self._proposals[:, 0, 0]
        self._proposals = self._proposals[:, :, 1:]
        self._done.append(block)
        self._num_left -= 1
        self._num_done += 1
        return block

    def _plan(self) -> None:
        horizon = self.horizon - self._num_done % self.horizon if self.shrink_horizon else self.horizon
        history = torch.stack(list(self._latents), 1)
        num_past = history.shape[1] - 1
        past = torch.zeros(len(history), 0, self.model.action_dim, device=self.device)
        if num_past:
            past = torch.stack(list(self._done)[-num_past:], 1)

        def evaluate(action: Tensor, where: slice) -> Tensor:
            latent = self.model.rollout(history[where], past[where], action)
            return self.cost(latent, self._goal[where], action)

        plan = self.planner.plan(
            evaluate,
            horizon=horizon,
            block=(self.model.frameskip, self.model.raw_action_dim),
            action_low=self.model.action_low,
            action_high=self.model.action_high,
            generators=self._generators,
            warm_start=self._warm_start(horizon),
        )
        self._proposals = plan.action[:, None]
        if "elites" in plan.info:
            self._proposals = torch.cat([self._proposals, plan.info["elites"]], 1)
        self._num_left = min(self.replan_every, horizon)
        self.num_plans += len(history)

    def _warm_start(self, horizon: int) -> Tensor | None:
        """What is left of the last plans, cut or filled up with average actions to ``horizon`` steps."""
        if self._proposals is None or self._proposals.shape[2] == 0:
            return None
        left = self._proposals[:, :, :horizon]
        return nn.functional.pad(left, (0, 0, 0, horizon - left.shape[2]))

    def _encode(self, observation: dict[str, np.ndarray]) -> Tensor:
        """Observations (B,...) -> latents float32 (B,P,D), in the planner's chunks, so as not to depend on B."""
        tensors = {name: self._tensor(observation[name]) for name in self.observes}
        chunks = self.planner.chunks(len(self._generators), self.device)
        latents = [self.model.encode({name: x[where] for name, x in tensors.items()}) for where in chunks]
        return torch.cat(latents)[:, 0].float()

    def _tensor(self, array: np.ndarray) -> Tensor:
        """(B,...) from the environment -> (B,1,...) for the library; pictures become channels first."""
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self.device)[:, None]
        return tensor.movedim(-1, 2) if tensor.dtype == torch.uint8 else tensor.float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are native there, not emulated."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return device.type == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def load_planning_policy(
    pairs: Pairs,
    *,
    run_dir: str,
    planner: Planner,
    cost: nn.Module,
    horizon: int = 5,
    replan_every: int = 1,
    shrink_horizon: bool = True,
    observes: tuple[str, ...] = ("pixels",),
    bf16: bool | None = None,
    device: str = "cpu",
) -> PlanningPolicy:
    """A policy of a trained run; ``functools.partial`` of this is what evaluation workers are given."""
    return PlanningPolicy(
        _load(str(Path(run_dir).resolve()), device),
        planner,
        cost,
        horizon=horizon,
        replan_every=replan_every,
        shrink_horizon=shrink_horizon,
        observes=observes,
        bf16=bf16,
    )


@lru_cache(maxsize=1)
def _load(run_dir: str, device: str) -> WorldModel:
    """Once per process, not once per batch of pairs."""
    return load_world_model(run_dir)[0].to(device)
