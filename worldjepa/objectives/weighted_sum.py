"""One weighted sum of named training terms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldjepa.types import Prediction


class WeightedSum(nn.Module):
    """Adds up terms; a term of weight 0 is left out altogether.

    Args:
        terms: name -> module ``(prediction, generator) -> scalar``.
        weights: name -> weight; must name exactly the same terms.
    """

    def __init__(self, terms: dict[str, nn.Module], weights: dict[str, float]):
        super().__init__()
        if set(terms) != set(weights):
            raise ValueError(
                f"objective terms and weights must have the same names, got terms {sorted(terms)} "
                f"and weights {sorted(weights)}; add or remove the difference {sorted(set(terms) ^ set(weights))}"
            )
        self.weights = {name: float(weight) for name, weight in weights.items() if weight}
        if not self.weights:
            raise ValueError("every objective weight is 0, so nothing would be learned; set at least one")
        self.terms = nn.ModuleDict({name: terms[name] for name in self.weights})
        self.needs_rollout = any(getattr(term, "needs_rollout", False) for term in self.terms.values())

    def forward(self, prediction: Prediction, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Name -> unweighted scalar of each term, and ``total``, the weighted sum to minimise."""
        losses = {name: term(prediction, generator) for name, term in self.terms.items()}
        losses["total"] = sum(self.weights[name] * loss for name, loss in losses.items())
        return losses
