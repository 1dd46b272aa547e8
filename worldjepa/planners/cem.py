"""The cross-entropy method."""

from __future__ import annotations

import torch

from worldjepa.planners.noise import BlockNoise
from worldjepa.planners.planner import Planner, Problem, check_elites, check_proposals, check_search, take
from worldjepa.types import Plan


class CEM(Planner):
    """Refits a Gaussian over plans to the best candidates, again and again; the plan is its mean.

    The defaults planned best in trials on PushT: ten iterations are within noise of thirty when the planner is asked
    again after every block. The mean is always among the candidates.

    Args:
        num_samples: candidates per iteration and environment.
        num_iterations: refits.
        num_elites: best candidates the Gaussian is fitted to.
        initial_std: spread at the start, in standard deviations of the data's actions.
        min_std: the spread never falls below this, so that the search cannot freeze.
        noise_correlation: of the noise inside an action block (see :class:`BlockNoise`).
        momentum: part of the old mean and spread kept at each refit, in [0, 1).
        tolerance: an environment stops early once an iteration lowers its elites' mean cost by less than this
            fraction. 0 never stops.
        environments_per_chunk: see :class:`Planner`.
    """

    def __init__(
        self,
        num_samples: int = 300,
        num_iterations: int = 10,
        num_elites: int = 30,
        initial_std: float = 1.0,
        min_std: float = 0.02,
        noise_correlation: float = 0.8,
        momentum: float = 0.0,
        tolerance: float = 0.0,
        environments_per_chunk: int | None = None,
    ):
        super().__init__(environments_per_chunk)
        check_search(num_samples, num_iterations, initial_std, min_std)
        check_elites(num_elites, num_samples)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        if not 0 <= tolerance < 1:
            raise ValueError(f"tolerance must be a fraction in [0, 1), got {tolerance}")
        self.num_samples = num_samples
        self.num_iterations = num_iterations
        self.num_elites = num_elites
        self.initial_std = initial_std
        self.min_std = min_std
        self.noise = BlockNoise(noise_correlation)
        self.momentum = momentum
        self.tolerance = tolerance

    @torch.no_grad()  # not inference mode: there, autocast casts every weight anew at every call
    def _search(self, problem: Problem) -> Plan:
        proposals = problem.proposals
        check_proposals(proposals.shape[1], self.num_samples)
        mean, std = proposals[:, 0], torch.full_like(proposals[:, 0], self.initial_std)
        best_cost = torch.full((len(mean), self.num_iterations), torch.inf, device=mean.device)
        elite_cost = best_cost.clone()
        active = torch.ones(len(mean), dtype=torch.bool, device=mean.device)
        for i in range(self.num_iterations):
            num_fresh = self.num_samples - proposals.shape[1]
            noise = self.noise.sample(problem.generators, num_fresh, problem.horizon, problem.block).to(mean.device)
            fresh = problem.clamp(mean[:, None] + std[:, None] * noise)
            candidates = torch.cat([proposals, fresh], 1)
            cost, index = problem.evaluate(candidates).topk(self.num_elites, largest=False)
            elites = take(candidates, index)

            keep = self.momentum * active[:, None, None] + ~active[:, None, None]
            mean = torch.lerp(elites.mean(1), mean, keep)
            std = torch.lerp(elites.std(1, correction=0).clamp_min(self.min_std), std, keep)
            proposals = mean[:, None]
            best_cost[:, i] = torch.where(active, cost[:, 0], torch.inf)
            elite_cost[:, i] = torch.where(active, cost.mean(1), elite_cost[:, i - 1])
            if self.tolerance > 0 and i > 0:
                active = active & (elite_cost[:, i] < (1 - self.tolerance) * elite_cost[:, i - 1])
                if not bool(active.any()):
                    break
        cost = problem.evaluate(proposals)[:, 0]
        return Plan(mean, cost, {"best_cost": best_cost.cummin(1).values, "elite_cost": elite_cost})
