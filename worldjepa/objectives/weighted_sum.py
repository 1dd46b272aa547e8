"""One weighted sum of named training terms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldjepa.types import BevPrediction, Motion, Prediction


class WeightedSum(nn.Module):
    """Adds up terms; a term of weight 0 is left out altogether.

    Args:
        terms: name -> module ``(prediction, generator) -> scalar``.
        weights: name -> weight; must name exactly the same terms.
        starts: name -> share of the training, 0..1, after which the term counts; 0 where none is given.
    """

    def __init__(self, terms: dict[str, nn.Module], weights: dict[str, float], starts: dict[str, float] | None = None):
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
        self.starts = {name: float(start) for name, start in (starts or {}).items()}
        if set(self.starts) - set(terms):
            raise ValueError(f"starts {sorted(set(self.starts) - set(terms))} name no term; terms are {sorted(terms)}")
        late = {name: start for name, start in self.starts.items() if not 0 <= start < 1}
        if late:
            raise ValueError(
                f"a term starts at a share of the training, 0 <= start < 1, got {late}; set objective.starts"
            )

    def needs(self, what: str) -> bool:
        """Whether any term looks at ``what`` (it has ``needs_<what>``): nobody computes what no term looks at."""
        return any(getattr(term, f"needs_{what}", False) for term in self.terms.values())

    def forward(
        self,
        prediction: Prediction | Motion | BevPrediction,
        generator: torch.Generator | None = None,
        progress: float = 1.0,
    ) -> dict[str, Tensor]:
        """Name -> unweighted scalar of each term, and ``total``, the weighted sum to minimise.

        Args:
            progress: of the training, 0..1.
        """
        losses = {name: term(prediction, generator) for name, term in self.terms.items()}
        # A term whose time has not come keeps its place in the sum: data-parallel processes want every gradient.
        weights = {name: weight * (progress >= self.starts.get(name, 0.0)) for name, weight in self.weights.items()}
        losses["total"] = sum(weights[name] * loss for name, loss in losses.items())
        return losses
