"""Sparse structure between latent codes and groups of a latent's numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupLasso(nn.Module):
    """Latents are explained by few codes per group: -ELBO of a linear group factor model, and a group lasso on its map.

    After SparseJEPA (arXiv:2504.16140), which puts the penalty of oi-VAE (arXiv:1802.06765) on a JEPA's
    embeddings: a latent's D numbers are G groups, each of them a linear function W_g z of codes z ~ N(0, I), and
    ``sparsity * sum_gk |W_g[:, k]|`` leaves most codes out of most groups. As the map and the codes' posterior are
    linear and Gaussian, the expectation over codes is exact and nothing is drawn.

    What we could learn of SparseJEPA names these three terms (reconstruction, KL divergence, group lasso) but not what
    the groups are: ours are D / G neighbouring numbers. Latents are first centred over the batch and scaled to mean
    square 1 each: else those that are all the same, or small, would be best, as they need no codes. oi-VAE takes
    proximal steps, which give exact zeros; here the optimiser of the whole system takes gradient steps, so
    :meth:`strengths` of what is left out are small, not 0.

    Args:
        latent_dim: D.
        num_groups: G, of equal size.
        num_codes: K.
        sparsity: weight of the group lasso beside the ELBO, both divided by D.
        noise: variance of a scaled latent's number around its reconstruction.

    Raises:
        ValueError: a latent that cannot be cut into the groups, and a negative weight or variance.
    """

    smallest = 1e-8  # under the root of a norm, whose gradient at 0 is else no number

    def __init__(self, latent_dim: int, num_groups: int, num_codes: int, sparsity: float = 3.0, noise: float = 0.1):
        super().__init__()
        if num_groups < 1 or latent_dim % num_groups:
            raise ValueError(f"latent_dim ({latent_dim}) must be a multiple of num_groups, got {num_groups}")
        if sparsity < 0 or noise <= 0:
            raise ValueError(f"sparsity must be >= 0 and noise > 0, got {sparsity} and {noise}")
        self.num_groups, self.sparsity, self.noise = num_groups, sparsity, noise
        self.code = nn.Linear(latent_dim, num_codes)
        self.log_variance = nn.Parameter(torch.zeros(num_codes))
        self.groups = nn.Linear(num_codes, latent_dim)

    def forward(self, latent: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents (M,D) -> scalar."""
        latent = latent.float()
        latent = F.rms_norm(latent - latent.mean(0), latent.shape[-1:], eps=1e-6)
        code, variance = self.code(latent).float(), self.log_variance.exp()
        # E |x - W z - b|^2 over z ~ N(code, variance)
        error = (self.groups(code).float() - latent).square().sum(-1).mean()
        error = error + (variance * self.groups.weight.square().sum(0)).sum()
        kl = 0.5 * (code.square().mean(0) + variance - self.log_variance - 1).sum()
        return (error / (2 * self.noise) + kl + self.sparsity * self.strengths().sum()) / latent.shape[-1]

    def strengths(self) -> Tensor:
        """(K,G): how much each code does in each group, the norm of that group's column of the map."""
        columns = self.groups.weight.unflatten(0, (self.num_groups, -1))
        return (columns.square().sum(1) + self.smallest).sqrt().T
