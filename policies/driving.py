"""Drives by planning in a world model of the street's bird's-eye view."""

from __future__ import annotations

import time
from collections.abc import Sequence, Sized
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.planning import as_observation
from worldjepa.checkpoint import load_bev_world
from worldjepa.costs.driving import DrivingCost
from worldjepa.planners import Planner
from worldjepa.systems.bev_world import BevWorld


class DrivingPolicy:
    """Model-predictive control: look, imagine what the others will do, plan, act, look again.

    Follows :class:`worldjepa.evaluation.protocol.Policy`.

    Args:
        model: in eval mode.
        planner: searches raw actions.
        cost: of plans.
        horizon: planned blocks of actions.
        hold: raw actions of a block, which the planner's noise moves together.
        replan_every: raw steps done before looking again, 1..horizon * hold.
    """

    observes = ("sweep", "proprioception", "route")

    def __init__(
        self,
        model: BevWorld,
        planner: Planner,
        cost: DrivingCost,
        *,
        horizon: int = 6,
        hold: int = 2,
        replan_every: int = 1,
    ):
        if horizon < 1 or hold < 1 or not 1 <= replan_every <= horizon * hold:
            raise ValueError(
                f"horizon and hold must be >= 1 and replan_every between 1 and horizon * hold, got {horizon}, {hold} "
                f"and {replan_every}"
            )
        self.model, self.planner, self.cost = model.eval(), planner, cost
        self.horizon, self.hold, self.replan_every = horizon, hold, replan_every
        self.device = next(model.parameters()).device
        self.num_plans = 0
        self.plan_seconds = 0.0

    def reset(self, goal_observation: dict[str, np.ndarray], seeds: Sequence[int]) -> None:
        """Forgets everything; goals are not looked at: the route is observed.

        Args:
            goal_observation: not looked at.
            seeds: B seeds of the environments' random streams.
        """
        self._generators = [torch.Generator(self.device).manual_seed(int(seed)) for seed in seeds]
        self._before: list[tuple[Tensor, Tensor] | None] = [None] * len(seeds)
        self._plans: list[Tensor | None] = [None] * len(seeds)  # (K,A) what is left of them
        self._step = 0

    @torch.no_grad()
    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """Raw actions float32 (B,raw_action_dim)."""
        began, looks = time.perf_counter(), self._step % self.replan_every == 0
        # What moves is seen against the frame just before, so that one is encoded too.
        if looks or (self._step + 1) % self.replan_every == 0:
            seen = {name: as_observation(observation[name], self.device) for name in self.observes}
            # One environment at a time: on the CPU rounding would depend on the batch.
            for i in range(len(self._generators)):
                self._look({name: x[i : i + 1] for name, x in seen.items()}, i, looks)
            self.plan_seconds += time.perf_counter() - began
        actions = torch.stack([plan[0] for plan in self._plans])
        self._plans = [plan[1:] for plan in self._plans]
        self._step += 1
        return actions.float().cpu().numpy()

    def _look(self, seen: dict[str, Tensor], i: int, plans: bool) -> None:
        model, felt = self.model, seen["proprioception"][:, 0]
        now = model.look(seen)[:, 0]
        before, felt_before = self._before[i] or (now, None)
        self._before[i] = now, felt
        if not plans:
            return
        move = felt.new_zeros(1, 3) if felt_before is None else model.vehicle.moved(felt_before, felt)
        steps = self.horizon * self.hold
        chance = model.chance(model.rollout(before, now, move, steps)).sigmoid()
        width = len(model.action_low)

        def evaluate(action: Tensor, where: slice) -> Tensor:
            raw = action.view(*action.shape[:2], steps, width)
            poses, then = model.driven(felt[:, None].expand(-1, raw.shape[1], -1), raw)
            return self.cost(chance, poses, then, seen["route"][:, 0], model.area, model.vehicle)

        left = self._plans[i]
        if left is None:
            left = felt.new_zeros(1, width)
        left = torch.cat([left, left[-1:].expand(max(0, steps - len(left)), -1)])[:steps]
        # Beside going on as planned: to keep the wheels as they are, and to brake as hard as one can with them so.
        # A search from "go on" alone is slow to find that, and by then it is too late.
        throttles = torch.stack(
            [left[:, -1], left.new_zeros(steps), left.new_full((steps,), float(model.action_low[-1]))]
        )
        first = torch.stack([left[:, :-1]] * 3)
        starts = torch.cat([first, throttles[..., None]], -1).view(1, 3, self.horizon, self.hold * width)
        plan = self.planner.plan(
            evaluate,
            horizon=self.horizon,
            block=(self.hold, width),
            action_low=model.action_low.repeat(self.hold),
            action_high=model.action_high.repeat(self.hold),
            generators=self._generators[i : i + 1],
            warm_start=starts,
        )
        # A mean of good plans, past something to the left and to the right, may be none.
        found = torch.cat([plan.action[:, None], starts], 1)
        best = int(evaluate(found, slice(0, 1))[0].argmin())
        self._plans[i] = found[0, best].view(steps, width)
        self.num_plans += 1


def load_driving_policy(
    tasks: Sized, *, path: str, planner: Planner, cost: DrivingCost, device: str = "cpu", **settings: Any
) -> DrivingPolicy:
    """A policy of a trained run; ``functools.partial`` of this is what evaluation workers are given.

    Args:
        tasks: not looked at.
        path: the run's folder.
        settings: see :class:`DrivingPolicy`.
    """
    return DrivingPolicy(_load(str(Path(path).resolve()), device), planner, cost, **settings)


@lru_cache(maxsize=1)
def _load(path: str, device: str) -> BevWorld:
    """Once per process, not once per batch of episodes."""
    return load_bev_world(path)[0].to(device)
