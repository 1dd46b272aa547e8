"""The causal, action-conditioned transformer predictor (AdaLN-zero on the action embedding; LeWM, arXiv:2603.19312)."""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from worldjepa.layers import Transformer, block_causal_mask
from worldjepa.predictors.windows import WindowPredictor, present_mask


class CausalPredictor(WindowPredictor):
    """Predicts the next frame's tokens from the last ``num_history`` frames and their actions.

    A window that starts before the clip is masked there. The residual form (next = last + change) makes "nothing
    moves" the initial guess.

    Args:
        latent_dim, num_tokens: D and P of the encoder.
        action_dim: A.
        width, depth, heads, head_dim, mlp_ratio, dropout: of the transformer. The default dropout is LeWM's, whose
            success on PushT falls from 96 to 78 % without.
        num_history: frames seen, 1..3 is usual.
    """

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        num_tokens: int = 1,
        width: int = 192,
        depth: int = 3,
        heads: int = 6,
        head_dim: int | None = None,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
        num_history: int = 3,
    ):
        super().__init__(num_history)
        self.latent_dim, self.num_tokens = latent_dim, num_tokens
        self.latent_in = nn.Linear(latent_dim, width)
        self.action_embedding = nn.Sequential(nn.Linear(action_dim, width), nn.SiLU(), nn.Linear(width, width))
        self.place = nn.Parameter(0.02 * torch.randn(num_history, num_tokens, width))
        self.transformer = Transformer(width, depth, heads, mlp_ratio, dropout, condition_dim=width, head_dim=head_dim)
        self.out = nn.Linear(width, latent_dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def embed(self, action: Tensor) -> Tensor:
        return self.action_embedding(action)

    def following(self, latent: Tensor, embedded: Tensor, num_missing: Tensor | None = None) -> Tensor:
        _, h, p, _ = latent.shape
        x = rearrange(self.latent_in(latent) + self.place[-h:], "m h p w -> m (h p) w")
        condition = repeat(embedded, "m h w -> m (h p) w", p=p)
        mask = block_causal_mask(h, p, latent.device)
        if num_missing is not None:
            mask = mask & repeat(present_mask(num_missing, h), "m h -> m 1 (h p)", p=p)
            # A missing frame attends to itself, lest softmax over nothing gives NaN; nobody else looks at it.
            mask = mask | torch.eye(h * p, dtype=torch.bool, device=latent.device)
        y = self.transformer(x, condition, mask)
        return latent[:, -1] + self.out(y[:, -p:]).to(latent.dtype)
