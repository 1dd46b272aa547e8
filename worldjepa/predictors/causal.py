"""The causal, action-conditioned transformer predictor (AdaLN-zero on the action embedding; LeWM, arXiv:2603.19312)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from worldjepa.layers import Transformer, block_causal_mask


class CausalPredictor(nn.Module):
    """Predicts the next frame's tokens from the last ``num_history`` frames and their actions.

    Every prediction sees exactly its own window of frames, in training as in planning; a window that starts before
    the clip is masked there. The residual form (next = last + change) makes "nothing moves" the initial guess.

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
        super().__init__()
        if num_history < 1:
            raise ValueError(f"num_history must be >= 1, got {num_history}; set predictor.num_history")
        self.latent_dim, self.num_tokens, self.num_history = latent_dim, num_tokens, num_history
        self.latent_in = nn.Linear(latent_dim, width)
        self.action_embedding = nn.Sequential(nn.Linear(action_dim, width), nn.SiLU(), nn.Linear(width, width))
        self.place = nn.Parameter(0.02 * torch.randn(num_history, num_tokens, width))
        self.transformer = Transformer(width, depth, heads, mlp_ratio, dropout, condition_dim=width, head_dim=head_dim)
        self.out = nn.Linear(width, latent_dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def _next(self, latent: Tensor, action: Tensor, num_missing: Tensor | None = None) -> Tensor:
        """Windows (M,h,P,D) and (M,h,A), h <= num_history, ``num_missing`` (M,) padded frames -> (M,P,D)."""
        _, h, p, _ = latent.shape
        x = rearrange(self.latent_in(latent) + self.place[-h:], "m h p w -> m (h p) w")
        condition = repeat(self.action_embedding(action), "m h w -> m (h p) w", p=p)
        mask = block_causal_mask(h, p, latent.device)
        if num_missing is not None:
            present = torch.arange(h, device=latent.device)[None] >= num_missing[:, None]
            mask = mask & repeat(present, "m h -> m 1 (h p)", p=p)
            # A missing frame attends to itself, lest softmax over nothing gives NaN; nobody else looks at it.
            mask = mask | torch.eye(h * p, dtype=torch.bool, device=latent.device)
        y = self.transformer(x, condition, mask)
        return latent[:, -1] + self.out(y[:, -p:]).to(latent.dtype)

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """(B,T,P,D), (B,T,A) -> (B,T,P,D); ``out[:, t]`` estimates ``latent[:, t + 1]``."""
        b, t = latent.shape[:2]
        past = min(self.num_history, t) - 1
        frames = F.pad(latent, (0, 0, 0, 0, past, 0)).unfold(1, past + 1, 1)
        actions = F.pad(action, (0, 0, past, 0)).unfold(1, past + 1, 1)
        num_missing = (past - torch.arange(t, device=latent.device)).clamp_min(0).repeat(b)
        predicted = self._next(
            rearrange(frames, "b t p d h -> (b t) h p d"), rearrange(actions, "b t a h -> (b t) h a"), num_missing
        )
        return rearrange(predicted, "(b t) p d -> b t p d", b=b)

    def rollout(self, latent: Tensor, past_action: Tensor, action: Tensor) -> Tensor:
        """History (B,T,P,D) and (B,T-1,A), candidates (B,N,H,A) -> (B,N,H,P,D) predicted open loop."""
        b, n, horizon, _ = action.shape
        frames = repeat(latent[:, -self.num_history :], "b t p d -> (b n) t p d", n=n)
        actions = repeat(past_action[:, past_action.shape[1] + 1 - frames.shape[1] :], "b t a -> (b n) t a", n=n)
        candidates = rearrange(action, "b n h a -> (b n) h a")
        predicted = []
        for h in range(horizon):
            actions = torch.cat([actions, candidates[:, h : h + 1]], 1)[:, -self.num_history :]
            following = self._next(frames, actions)
            frames = torch.cat([frames, following[:, None]], 1)[:, -self.num_history :]
            if frames.shape[1] == self.num_history:
                actions = actions[:, -(self.num_history - 1) :] if self.num_history > 1 else actions[:, :0]
            predicted.append(following)
        return rearrange(torch.stack(predicted, 1), "(b n) h p d -> b n h p d", b=b)
