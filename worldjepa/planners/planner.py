"""What all planners share: checked arguments, chunks of environments, and the problem a search is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worldjepa.types import Plan

Evaluate = Callable[[Tensor, slice], Tensor]
"""Costs (b,N) of candidate plans (b,N,H,A) for the b environments that the slice names."""


@dataclass(frozen=True)
class Problem:
    """The search of one chunk of b environments.

    Attributes:
        evaluate: (b,N,H,A) candidate plans within the bounds -> costs (b,N).
        horizon: H, planned model steps.
        block: (frameskip, raw action width); A is their product.
        low, high: (A,) bounds of normalised model actions.
        generators: b random streams.
        proposals: (b,M,H,A) plans to start from, within the bounds; the first one is the initial mean.
    """

    evaluate: Callable[[Tensor], Tensor]
    horizon: int
    block: tuple[int, int]
    low: Tensor
    high: Tensor
    generators: Sequence[torch.Generator]
    proposals: Tensor

    def clamp(self, action: Tensor) -> Tensor:
        return torch.clamp(action, self.low, self.high)


class Planner(ABC):
    """Minimises a cost over plans, each environment on its own.

    Every environment has its own random stream and is judged in chunks of fixed size, so with the default of one
    environment per chunk a plan on the CPU is the same to the last bit alone or among fifty.

    Args:
        environments_per_chunk: environments whose candidates are judged in one call. None: 1 on the CPU, where larger
            chunks gain nothing and rounding would depend on them; all on an accelerator, which wants large batches.
    """

    def __init__(self, environments_per_chunk: int | None = None):
        if environments_per_chunk is not None and environments_per_chunk < 1:
            raise ValueError(f"environments_per_chunk must be >= 1 (or null to choose), got {environments_per_chunk}")
        self.environments_per_chunk = environments_per_chunk

    def plan(
        self,
        evaluate: Evaluate,
        *,
        horizon: int,
        block: tuple[int, int],
        action_low: Tensor,
        action_high: Tensor,
        generators: Sequence[torch.Generator],
        warm_start: Tensor | None = None,
    ) -> Plan:
        """The best plan found for each of B environments.

        Args:
            evaluate: (b,N,H,A) candidates and the slice of the b environments they are for -> costs (b,N). Lower is
                better. Must not mix environments.
            horizon: H >= 1, planned model steps.
            block: (frameskip, raw action width): a model action is a block of raw actions, in order of time.
            action_low, action_high: (A,) bounds of normalised model actions, A = frameskip * raw action width.
            generators: B random streams, one per environment; they advance.
            warm_start: (B,M,H,A) plans to start from; the first one is the initial mean. None: all zeros, which is
                the average action.

        Returns:
            Plan with ``action`` (B,H,A) within the bounds and ``cost`` (B,). ``info["best_cost"]`` (B,iterations) is
            the lowest cost seen so far. ``info["elites"]`` (B,K,H,A), where the planner keeps some, can be shifted
            into the next warm start.
        """
        frameskip, raw_action_dim = block
        action_dim, num_environments = frameskip * raw_action_dim, len(generators)
        if horizon < 1:
            raise ValueError(f"horizon must be >= 1 model step, got {horizon}")
        if action_low.shape != (action_dim,) or action_high.shape != (action_dim,):
            raise ValueError(
                f"action bounds must have shape ({action_dim},) for blocks of {frameskip} actions of width "
                f"{raw_action_dim}, got {tuple(action_low.shape)} and {tuple(action_high.shape)}"
            )
        if not bool((action_low < action_high).all()):
            raise ValueError(f"action_low must be below action_high everywhere, got {action_low} and {action_high}")
        if num_environments == 0:
            raise ValueError("generators is empty: pass one torch.Generator per environment")
        if warm_start is None:
            warm_start = torch.zeros(num_environments, 1, horizon, action_dim, device=action_low.device)
        if warm_start.ndim != 4 or warm_start.shape[::2] != (num_environments, horizon):
            raise ValueError(
                f"warm_start must be ({num_environments}, plans, {horizon}, {action_dim}), got "
                f"{tuple(warm_start.shape)}; shift and pad the last plan to the horizon"
            )

        plans = []
        for where in self.chunks(num_environments, action_low.device):
            problem = Problem(
                evaluate=lambda action, where=where: _checked_cost(evaluate(action, where), action),
                horizon=horizon,
                block=block,
                low=action_low,
                high=action_high,
                generators=generators[where],
                proposals=torch.clamp(warm_start[where], action_low, action_high),
            )
            plans.append(self._search(problem))
        plan = Plan(
            action=torch.cat([plan.action for plan in plans]),
            cost=torch.cat([plan.cost for plan in plans]),
            info={name: torch.cat([plan.info[name] for plan in plans]) for name in plans[0].info},
        )
        if not bool(torch.isfinite(plan.cost).all()):
            raise ValueError(
                "the cost of the best plan is not finite: the world model diverged on this observation; "
                "check the training run (loss, RankMe) before planning with it"
            )
        return plan

    def chunks(self, num_environments: int, device: torch.device) -> list[slice]:
        """The environments that are judged together."""
        size = self.environments_per_chunk or (1 if device.type == "cpu" else num_environments)
        return [slice(i, min(i + size, num_environments)) for i in range(0, num_environments, size)]

    @abstractmethod
    def _search(self, problem: Problem) -> Plan:
        """Solves one chunk. Environments of a chunk must not influence each other."""


def check_search(num_samples: int, num_iterations: int, initial_std: float, min_std: float) -> None:
    """Refuses numbers that no sampling search can work with."""
    if num_samples < 1 or num_iterations < 1:
        raise ValueError(f"num_samples and num_iterations must be >= 1, got {num_samples} and {num_iterations}")
    if initial_std <= 0 or not 0 <= min_std <= initial_std:
        raise ValueError(f"expected 0 <= min_std <= initial_std and initial_std > 0, got {min_std} and {initial_std}")


def check_elites(num_elites: int, num_samples: int) -> None:
    if not 2 <= num_elites <= num_samples:
        raise ValueError(
            f"num_elites must be between 2 and num_samples ({num_samples}), got {num_elites}; "
            "a tenth of num_samples is usual"
        )


def check_proposals(num_proposals: int, num_samples: int) -> None:
    if num_proposals > num_samples:
        raise ValueError(f"{num_proposals} warm-start plans do not fit into {num_samples} candidates")


def take(candidates: Tensor, index: Tensor) -> Tensor:
    """Candidates (b,N,H,A) at ``index`` (b,K) -> (b,K,H,A)."""
    return torch.gather(candidates, 1, index[:, :, None, None].expand(-1, -1, *candidates.shape[2:]))


def _checked_cost(cost: Tensor, action: Tensor) -> Tensor:
    assert cost.shape == action.shape[:2], f"cost {tuple(cost.shape)} for candidates {tuple(action.shape)}"
    # A candidate that makes the model diverge is a bad candidate, not a bad plan.
    return torch.nan_to_num(cost.float(), nan=torch.inf, posinf=torch.inf, neginf=torch.inf)
