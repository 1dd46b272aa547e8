"""Act by planning in the world model's latents."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence, Sized
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from worldjepa.checkpoint import load_world_model
from worldjepa.planners import Planner
from worldjepa.systems.world_model import WorldModel


class PlanningPolicy:
    """Model-predictive control: look, plan towards the goal's latent, act for a few raw steps, look again.

    The model and the planner are pure; what was seen, what was done and what is planned is kept here. Follows
    :class:`worldjepa.evaluation.protocol.Policy`.

    A model step is ``frameskip`` raw steps, but looking again need not wait for its end: the history is then what was
    seen one, two .. model steps *ago*, as in training, wherever the blocks of the last plan began.

    Args:
        model: in eval mode.
        planner: searches normalised model actions.
        cost: ``forward(latent (B,N,H,P,D), goal (B,P,D), action (B,N,H,A), start (B,P,D)) -> (B,N)``.
        horizon: model steps planned ahead.
        replan_every: raw steps done before looking again, 1..horizon * frameskip. The frameskip is a good choice;
            fewer close the loop faster and plan as many times more.
        shrink_horizon: plan no further than the end of a period of ``horizon`` model steps, then start the next
            period, so that a plan aims at one moment; otherwise always the whole horizon.
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
        replan_every: int = 5,
        shrink_horizon: bool = True,
        observes: tuple[str, ...] = ("pixels",),
        bf16: bool | None = None,
    ):
        if not 1 <= replan_every <= horizon * model.frameskip:
            raise ValueError(
                f"replan_every must be between 1 and the horizon's {horizon * model.frameskip} raw steps, "
                f"got {replan_every}; set planning.replan_every"
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
            goal_observation: observations (B,...) of the goals, as the environment gives them; empty where the cost
                asks for none.
            seeds: B seeds of the environments' random streams.
        """
        self._generators = [torch.Generator(self.device).manual_seed(int(seed)) for seed in seeds]
        with self._autocast():
            self._goal = self._encode(goal_observation) if goal_observation else None
        reach = (self.model.num_history - 1) * self.model.frameskip
        self._seen: deque[Tensor | None] = deque(maxlen=reach + 1)  # per raw step (B,P,D); None where nobody will ask
        self._done: deque[Tensor] = deque(maxlen=max(reach, 1))  # per raw step (B,raw_action_dim), normalised
        self._left: Tensor | None = None  # (B,M,steps,raw_action_dim): what is left of the plan, and alternatives
        self._step = self._until_look = 0

    @torch.no_grad()
    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """Raw actions float32 (B,raw_action_dim) in the environment's units.

        Args:
            observation: (B,...) as the environment gives them; looked at only where a plan needs it.
        """
        begin, num_plans = time.perf_counter(), self.num_plans
        with self._autocast():
            looks = self._step % math.gcd(self.replan_every, self.model.frameskip) == 0
            self._seen.append(self._encode(observation) if looks else None)
            if self._until_look == 0:
                self._plan()
        action, self._left = self._left[:, 0, 0], self._left[:, :, 1:]
        self._until_look -= 1
        self._done.append(action)
        self._step += 1
        if self.num_plans > num_plans:
            self.plan_seconds += time.perf_counter() - begin
        block = action.repeat(1, self.model.frameskip)
        return self.model.denormalize_action(block)[:, : self.model.raw_action_dim].float().cpu().numpy()

    def _plan(self) -> None:
        skip, period = self.model.frameskip, self.horizon * self.model.frameskip
        horizon = self.horizon
        if self.shrink_horizon:
            horizon = -(-(period - self._step % period) // skip)
        seen = list(self._seen)[::-1][::skip][::-1]
        history = torch.stack(seen, 1)
        past = torch.zeros(len(history), 0, self.model.action_dim, device=self.device)
        if len(seen) > 1:
            done = torch.stack(list(self._done)[-(len(seen) - 1) * skip :], 1)
            past = rearrange(done, "b (t f) a -> b t (f a)", f=skip)

        def evaluate(action: Tensor, where: slice) -> Tensor:
            latent = self.model.rollout(history[where], past[where], action)
            goal = None if self._goal is None else self._goal[where]
            return self.cost(latent, goal, action, history[where][:, -1])

        plan = self.planner.plan(
            evaluate,
            horizon=horizon,
            block=(skip, self.model.raw_action_dim),
            action_low=self.model.action_low,
            action_high=self.model.action_high,
            generators=self._generators,
            warm_start=self._warm_start(horizon),
        )
        plans = plan.action[:, None]
        if "elites" in plan.info:
            plans = torch.cat([plans, plan.info["elites"]], 1)
        self._left = rearrange(plans, "b m h (f a) -> b m (h f) a", f=skip)
        self._until_look = min(self.replan_every, horizon * skip)
        self.num_plans += len(history)

    def _warm_start(self, horizon: int) -> Tensor | None:
        """What is left of the last plans, cut or filled up with average actions to ``horizon`` model steps."""
        if self._left is None or self._left.shape[2] == 0:
            return None
        steps = horizon * self.model.frameskip
        left = self._left[:, :, :steps]
        left = nn.functional.pad(left, (0, 0, 0, steps - left.shape[2]))
        return rearrange(left, "b m (h f) a -> b m h (f a)", f=self.model.frameskip)

    def _encode(self, observation: dict[str, np.ndarray]) -> Tensor:
        """Observations (B,...) -> latents float32 (B,P,D), in the planner's chunks, so as not to depend on B."""
        tensors = {name: as_observation(observation[name], self.device) for name in self.observes}
        chunks = self.planner.chunks(len(self._generators), self.device)
        latents = [self.model.encode({name: x[where] for name, x in tensors.items()}) for where in chunks]
        return torch.cat(latents)[:, 0].float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def as_observation(array: np.ndarray, device: torch.device) -> Tensor:
    """(B,...) from the environment -> (B,1,...) for the library; pictures become channels first."""
    tensor = torch.from_numpy(np.ascontiguousarray(array)).to(device)[:, None]
    return tensor.movedim(-1, 2) if tensor.dtype == torch.uint8 else tensor.float()


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are native there, not emulated."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return device.type == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def load_planning_policy(
    tasks: Sized,
    *,
    run_dir: str,
    planner: Planner,
    cost: nn.Module | Callable[..., nn.Module],
    horizon: int = 5,
    replan_every: int = 5,
    shrink_horizon: bool = True,
    observes: tuple[str, ...] = ("pixels",),
    bf16: bool | None = None,
    device: str = "cpu",
) -> PlanningPolicy:
    """A policy of a trained run; ``functools.partial`` of this is what evaluation workers are given.

    Args:
        tasks: not looked at.
        cost: a cost, or what makes one of the model's ``reward``.
    """
    model = _load(str(Path(run_dir).resolve()), device)
    return PlanningPolicy(
        model,
        planner,
        cost if isinstance(cost, nn.Module) else cost(reward=model.reward),
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
