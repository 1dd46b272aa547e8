"""Gradient descent on the plan, through the world model."""

from __future__ import annotations

import torch
from torch import Tensor

from worldjepa.planners.noise import BlockNoise
from worldjepa.planners.planner import Planner, Problem, check_proposals, check_search, take
from worldjepa.types import Plan


class Gradient(Planner):
    """Adam on several plans at once, projected onto the bounds; the plan is the best one ever judged.

    The cost must be differentiable in the candidates. Contacts have no useful slope from afar, hence the restarts.

    Args:
        num_restarts: plans descended per environment: those of the warm start, the rest drawn around its first one.
        num_iterations: gradient steps.
        learning_rate: step size, in standard deviations of the data's actions.
        initial_std: spread of the restarts, in standard deviations of the data's actions.
        noise_correlation: of the restarts inside an action block (see :class:`BlockNoise`).
        environments_per_chunk: see :class:`Planner`.
    """

    def __init__(
        self,
        num_restarts: int = 16,
        num_iterations: int = 50,
        learning_rate: float = 0.1,
        initial_std: float = 1.0,
        noise_correlation: float = 0.8,
        environments_per_chunk: int | None = None,
    ):
        super().__init__(environments_per_chunk)
        check_search(num_restarts, num_iterations, initial_std, min_std=0.0)
        if learning_rate <= 0:
            raise ValueError(f"learning_rate must be > 0, got {learning_rate}")
        self.num_restarts = num_restarts
        self.num_iterations = num_iterations
        self.learning_rate = learning_rate
        self.initial_std = initial_std
        self.noise = BlockNoise(noise_correlation)

    @torch.no_grad()
    def _search(self, problem: Problem) -> Plan:
        proposals = problem.proposals
        check_proposals(proposals.shape[1], self.num_restarts)
        num_fresh = self.num_restarts - proposals.shape[1]
        noise = self.noise.sample(problem.generators, num_fresh, problem.horizon, problem.block).to(proposals.device)
        fresh = problem.clamp(proposals[:, :1] + self.initial_std * noise)
        action = torch.cat([proposals, fresh], 1)

        best, first_moment, second_moment = action, torch.zeros_like(action), torch.zeros_like(action)
        lowest = torch.full(action.shape[:2], torch.inf, device=action.device)
        best_cost = torch.empty(len(action), self.num_iterations + 1, device=action.device)
        for i in range(self.num_iterations + 1):
            cost, slope = _cost_and_slope(problem, action)
            better = cost < lowest
            lowest = torch.where(better, cost, lowest)
            best = torch.where(better[:, :, None, None], action, best)
            best_cost[:, i] = lowest.amin(1)
            # Adam (arXiv:1412.6980), beta 0.9 and 0.999.
            first_moment = torch.lerp(slope, first_moment, 0.9)
            second_moment = torch.lerp(slope.square(), second_moment, 0.999)
            step = (first_moment / (1 - 0.9 ** (i + 1))) / ((second_moment / (1 - 0.999 ** (i + 1))).sqrt() + 1e-8)
            action = problem.clamp(action - self.learning_rate * step)
        cost, index = lowest.min(1, keepdim=True)
        return Plan(take(best, index)[:, 0], cost[:, 0], {"best_cost": best_cost})


def _cost_and_slope(problem: Problem, action: Tensor) -> tuple[Tensor, Tensor]:
    """Costs (b,N) and their gradient in the plans (b,N,H,A); the model's parameters get none."""
    with torch.enable_grad():
        action = action.detach().requires_grad_()
        cost = problem.evaluate(action)
    (slope,) = torch.autograd.grad(cost, action, torch.ones_like(cost))
    # Where a plan makes the model diverge there is no slope to follow.
    return cost.detach(), torch.nan_to_num(slope, nan=0.0, posinf=0.0, neginf=0.0)
