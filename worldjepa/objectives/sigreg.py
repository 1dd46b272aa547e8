"""SIGReg, the sketched isotropic-Gaussian regulariser of LeJEPA (arXiv:2511.08544)."""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor, nn

from worldjepa.types import Prediction


def mean_over_ranks(x: Tensor) -> Tensor:
    """Average over data-parallel processes, with gradient; ``x`` itself in a single process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return x
    world_size = torch.distributed.get_world_size()
    if world_size == 1:
        return x
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(x) / world_size


def num_ranks() -> int:
    """Number of data-parallel processes."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if distributed else 1


class SigReg(nn.Module):
    """Mean Epps-Pulley statistic of random one-dimensional projections against N(0, 1).

    Per direction T = N * integral |phi_hat(t) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt, by the trapezoid rule on
    ``num_knots`` knots of [0, max_t], doubled for the negative half. E[T] = 1.0525 for N(0, I), whatever N and D; a
    totally collapsed batch gives 0.40205 N. Under data parallelism the empirical characteristic function is averaged
    over all ranks before it is squared, so that N is the global batch.

    Args:
        num_directions: random unit vectors, drawn anew at each call.
        num_knots, max_t: quadrature.
    """

    def __init__(self, num_directions: int = 64, num_knots: int = 17, max_t: float = 3.0):
        super().__init__()
        self.num_directions = num_directions
        knots = torch.linspace(0, max_t, num_knots)
        gaussian = torch.exp(-knots.square() / 2)
        weights = torch.full((num_knots,), 2 * max_t / (num_knots - 1))
        weights[0] = weights[-1] = max_t / (num_knots - 1)
        self.register_buffer("knots", knots, persistent=False)
        self.register_buffer("gaussian", gaussian, persistent=False)
        self.register_buffer("weights", weights * gaussian, persistent=False)

    def forward(self, embedding: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(N,D) or (G,N,D), G groups that are each to be Gaussian -> scalar, the mean over groups and directions.

        ``generator`` is a CPU generator; under data parallelism every rank must pass one in the same state.
        """
        embedding = embedding.float()
        directions = torch.randn(embedding.shape[-1], self.num_directions, generator=generator)
        directions = (directions / directions.norm(dim=0)).to(embedding.device)
        # cos and sin of every (sample, direction, knot) are most of the cost. Knots are equally spaced multiples of the
        # second one, so cos(k a), sin(k a) follow from cos(a), sin(a) by rotation: two transcendentals instead of 34.
        angle = (embedding @ directions) * self.knots[1]
        real, imaginary = [], []
        step_cos, step_sin = angle.cos(), angle.sin()
        cos, sin = torch.ones_like(step_cos), torch.zeros_like(step_sin)
        for _ in range(len(self.knots)):
            real.append(cos.mean(-2))
            imaginary.append(sin.mean(-2))
            cos, sin = cos * step_cos - sin * step_sin, sin * step_cos + cos * step_sin
        characteristic = mean_over_ranks(torch.stack([torch.stack(real, -1), torch.stack(imaginary, -1)]))
        error = (characteristic[0] - self.gaussian).square() + characteristic[1].square()
        return ((error @ self.weights) * embedding.shape[-2] * num_ranks()).mean()


class LatentSigReg(SigReg):
    """:class:`SigReg` of a world model's latents, pooled over batch and time, each token on its own.

    LeWM takes one statistic per time step; pooling gives the same optimum with T times the samples, which is what
    small batches need.
    """

    def forward(self, prediction: Prediction, generator: torch.Generator | None = None) -> Tensor:
        return super().forward(prediction.latent.flatten(0, 1).transpose(0, 1), generator)
