"""Model predictive path integral control (Williams et al., arXiv:1509.01149)."""

from __future__ import annotations

import torch

from worldjepa.planners.noise import BlockNoise
from worldjepa.planners.planner import Planner, Problem, check_proposals, check_search
from worldjepa.types import Plan


class MPPI(Planner):
    """Averages all candidates with weights that fall exponentially with their cost; the plan is the average.

    Better than CEM with few candidates (< 64), worse with many. We iterate and refit the spread with the same
    weights, as TD-MPC does; ``num_iterations=1`` is the original.

    Args:
        num_samples: candidates per iteration and environment.
        num_iterations: rounds of sampling and averaging.
        temperature: > 0, in standard deviations of the candidates' costs, so that it means the same near the goal
            and far from it (the original's is in units of cost). Small: only the best candidate counts.
        initial_std: spread at the start, in standard deviations of the data's actions.
        min_std: the spread never falls below this.
        noise_correlation: of the noise inside an action block (see :class:`BlockNoise`).
        environments_per_chunk: see :class:`Planner`.
    """

    def __init__(
        self,
        num_samples: int = 300,
        num_iterations: int = 10,
        temperature: float = 0.3,
        initial_std: float = 1.0,
        min_std: float = 0.02,
        noise_correlation: float = 0.8,
        environments_per_chunk: int | None = None,
    ):
        super().__init__(environments_per_chunk)
        check_search(num_samples, num_iterations, initial_std, min_std)
        if temperature <= 0:
            raise ValueError(f"temperature must be > 0, got {temperature}")
        self.num_samples = num_samples
        self.num_iterations = num_iterations
        self.temperature = temperature
        self.initial_std = initial_std
        self.min_std = min_std
        self.noise = BlockNoise(noise_correlation)

    @torch.no_grad()  # not inference mode: there, autocast casts every weight anew at every call
    def _search(self, problem: Problem) -> Plan:
        proposals = problem.proposals
        check_proposals(proposals.shape[1], self.num_samples)
        mean, std = proposals[:, 0], torch.full_like(proposals[:, 0], self.initial_std)
        best_cost = torch.empty(len(mean), self.num_iterations, device=mean.device)
        for i in range(self.num_iterations):
            num_fresh = self.num_samples - proposals.shape[1]
            noise = self.noise.sample(problem.generators, num_fresh, problem.horizon, problem.block).to(mean.device)
            fresh = problem.clamp(mean[:, None] + std[:, None] * noise)
            candidates = torch.cat([proposals, fresh], 1)
            cost = problem.evaluate(candidates)
            best_cost[:, i] = cost.amin(1)

            scale = cost.masked_fill(cost.isinf(), torch.nan)
            scale = (scale - scale.nanmean(1, keepdim=True)).square().nanmean(1, keepdim=True).sqrt()
            logits = (cost.amin(1, keepdim=True) - cost) / (self.temperature * scale).clamp_min(1e-12)
            weight = logits.softmax(1)[:, :, None, None]
            mean = (weight * candidates).sum(1)
            variance = (weight * (candidates - mean[:, None]).square()).sum(1)
            std = variance.sqrt().clamp_min(self.min_std)
            proposals = mean[:, None]
        cost = problem.evaluate(proposals)[:, 0]
        return Plan(mean, cost, {"best_cost": best_cost.cummin(1).values})
