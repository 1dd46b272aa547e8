"""The improved cross-entropy method of Pinneri et al. (arXiv:2008.06389)."""

from __future__ import annotations

import torch

from worldjepa.planners.noise import ColouredNoise
from worldjepa.planners.planner import Planner, Problem, check_elites, check_proposals, check_search, take
from worldjepa.types import Plan


class ICEM(Planner):
    """CEM with coloured noise, elites that survive, and fewer candidates in each iteration.

    The plan is the best candidate ever judged, not the mean; the mean joins the candidates of the last iteration.
    ``info["elites"]`` hands the survivors to the next warm start. The paper colours over model steps; we colour over
    the raw actions inside the blocks, so that the noise is one smooth motion.

    Args:
        num_samples: candidates of the first iteration.
        num_iterations: refits.
        num_elites: best candidates the Gaussian is fitted to.
        initial_std: spread at the start, in standard deviations of the data's actions.
        min_std: the spread never falls below this.
        noise_exponent: power of the noise falls with frequency^this (see :class:`ColouredNoise`).
        momentum: part of the old mean and spread kept at each refit, in [0, 1).
        decay: each iteration has this many times fewer candidates (>= 1), but never fewer than two per elite.
        kept_elites: fraction of the elites that joins the next iteration and the next warm start, in [0, 1].
        environments_per_chunk: see :class:`Planner`.
    """

    def __init__(
        self,
        num_samples: int = 300,
        num_iterations: int = 10,
        num_elites: int = 30,
        initial_std: float = 1.0,
        min_std: float = 0.02,
        noise_exponent: float = 2.0,
        momentum: float = 0.1,
        decay: float = 1.25,
        kept_elites: float = 0.3,
        environments_per_chunk: int | None = None,
    ):
        super().__init__(environments_per_chunk)
        check_search(num_samples, num_iterations, initial_std, min_std)
        check_elites(num_elites, num_samples)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        if decay < 1:
            raise ValueError(f"decay must be >= 1 (1 keeps num_samples in every iteration), got {decay}")
        if not 0 <= kept_elites <= 1:
            raise ValueError(f"kept_elites must be a fraction in [0, 1], got {kept_elites}")
        self.num_samples = num_samples
        self.num_iterations = num_iterations
        self.num_elites = num_elites
        self.initial_std = initial_std
        self.min_std = min_std
        self.noise = ColouredNoise(noise_exponent)
        self.momentum = momentum
        self.decay = decay
        self.num_kept = round(kept_elites * num_elites)

    @torch.no_grad()  # not inference mode: there, autocast casts every weight anew at every call
    def _search(self, problem: Problem) -> Plan:
        proposals = problem.proposals
        check_proposals(proposals.shape[1], self.num_samples)
        mean, std = proposals[:, 0], torch.full_like(proposals[:, 0], self.initial_std)
        best_cost = torch.full((len(mean), self.num_iterations), torch.inf, device=mean.device)
        best, kept = proposals[:, :1], proposals[:, :0]
        lowest = torch.full((len(mean), 1), torch.inf, device=mean.device)
        for i in range(self.num_iterations):
            num_total = max(2 * self.num_elites, round(self.num_samples * self.decay**-i))
            if i == self.num_iterations - 1:
                proposals = torch.cat([proposals, mean[:, None]], 1)
            num_fresh = max(1, min(num_total, self.num_samples) - proposals.shape[1])
            noise = self.noise.sample(problem.generators, num_fresh, problem.horizon, problem.block).to(mean.device)
            fresh = problem.clamp(mean[:, None] + std[:, None] * noise)
            candidates = torch.cat([proposals, fresh], 1)
            cost, index = problem.evaluate(candidates).topk(self.num_elites, largest=False)
            elites = take(candidates, index)

            mean = torch.lerp(elites.mean(1), mean, self.momentum)
            std = torch.lerp(elites.std(1, correction=0), std, self.momentum).clamp_min(self.min_std)
            proposals = kept = elites[:, : self.num_kept]
            better = cost[:, :1] < lowest
            lowest = torch.where(better, cost[:, :1], lowest)
            best = torch.where(better[:, :, None, None], elites[:, :1], best)
            best_cost[:, i] = lowest[:, 0]
        return Plan(best[:, 0], lowest[:, 0], {"best_cost": best_cost, "elites": kept})
