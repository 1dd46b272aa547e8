"""seq-JEPA's aggregator and predictor: views and the actions between them become one latent, which knows the next view.

Source: seq-JEPA (arXiv:2505.03176), sections 3.1 and A.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldjepa.layers import Transformer
from worldjepa.predictors.windows import WindowPredictor, present_mask


class AggregatePredictor(WindowPredictor):
    """Tokens [view; action to the next view] and a learned AGG token attend to one another; AGG predicts.

    There is no positional encoding: what orders views is the actions between them. The last view's action is withheld
    from the aggregate (zero) and given to the prediction alone, so that the aggregate holds what all views have in
    common, and the encoder's latents what an action changes. Unlike the paper's, the blocks are pre-norm, like all of
    this library's; BatchNorm is where the paper has it.

    Args:
        latent_dim: D.
        action_dim: A.
        num_tokens: P, must be 1.
        action_width: width of the action's embedding.
        depth, heads, mlp_ratio, dropout: of the aggregator.
        hidden: width of the prediction's hidden layer.
        num_history: views aggregated at most, in training and planning; :meth:`aggregate` takes any number.
        acts: False is the paper's ablation without action conditioning: actions are never looked at.
        residual: the change from the last view is predicted, for worlds in which steps are small (not in the paper).
    """

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        num_tokens: int = 1,
        action_width: int = 64,
        depth: int = 2,
        heads: int = 4,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        hidden: int = 512,
        num_history: int = 3,
        acts: bool = True,
        residual: bool = False,
    ):
        super().__init__(num_history)
        if num_tokens != 1:
            raise ValueError(
                f"seq-JEPA aggregates one token per view, got num_tokens = {num_tokens}; "
                "use predictor=causal, or an encoder with one token per frame, such as convnet, resnet or glimpse"
            )
        width = latent_dim + action_width
        self.latent_dim, self.aggregate_dim, self.residual = latent_dim, width, residual
        self.action_embedding = None
        if acts:
            self.action_embedding = nn.Sequential(
                nn.Linear(action_dim, action_width, bias=False), nn.BatchNorm1d(action_width, affine=False)
            )
        self.token = nn.Parameter(0.02 * torch.randn(width))
        self.transformer = Transformer(width, depth, heads, mlp_ratio, dropout)
        self.head = nn.Sequential(
            nn.Linear(width + action_width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, latent_dim)
        )

    def aggregate(self, latent: Tensor, action: Tensor) -> Tensor:
        """The latent of a sequence of views, for recognising what they show.

        Args:
            latent: (B,T,1,D) of T >= 1 views.
            action: (B,T-1,A) normalised, between them.

        Returns:
            (B, aggregate_dim).
        """
        return self._aggregate(latent[:, :, 0], self.embed(action), None)

    def embed(self, action: Tensor) -> Tensor:
        """(B,T,A) -> (B,T,action_width), of unit variance; zero where actions are not looked at."""
        if self.action_embedding is None or not action.numel():
            return action.new_zeros(*action.shape[:2], self.aggregate_dim - self.latent_dim)
        return self.action_embedding(action.flatten(0, 1)).unflatten(0, action.shape[:2])

    def following(self, latent: Tensor, embedded: Tensor, num_missing: Tensor | None = None) -> Tensor:
        present = None if num_missing is None else present_mask(num_missing, latent.shape[1])
        aggregate = self._aggregate(latent[:, :, 0], embedded[:, :-1], present)
        predicted = self.head(torch.cat([aggregate, embedded[:, -1]], -1)).unsqueeze(1)
        return latent[:, -1] + predicted if self.residual else predicted

    def _aggregate(self, latent: Tensor, embedded: Tensor, present: Tensor | None) -> Tensor:
        """(M,h,D), (M,h-1,action_width), bool (M,h) -> (M,aggregate_dim)."""
        withheld = embedded.new_zeros(len(latent), 1, self.aggregate_dim - self.latent_dim)
        views = torch.cat([latent, torch.cat([embedded.to(latent.dtype), withheld.to(latent.dtype)], 1)], -1)
        tokens = torch.cat([self.token.to(views.dtype).expand(len(views), 1, -1), views], 1)
        mask = None
        if present is not None:
            # AGG is always there, so no token is left with nothing to attend to.
            mask = torch.cat([torch.ones_like(present[:, :1]), present], 1)[:, None]
        return self.transformer(tokens, mask=mask)[:, 0]
