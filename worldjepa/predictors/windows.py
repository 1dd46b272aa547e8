"""What predictors share that see a window of the last frames: training on whole clips, and open-loop roll-outs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn


class WindowPredictor(nn.Module):
    """Predicts the next frame from the last ``num_history`` frames and their actions.

    Every prediction sees exactly its own window, in training as in planning. A kind of predictor fills in :meth:`embed`
    and :meth:`following`.

    Args:
        num_history: frames seen, >= 1.
    """

    def __init__(self, num_history: int):
        super().__init__()
        if num_history < 1:
            raise ValueError(f"num_history must be >= 1, got {num_history}; set predictor.num_history")
        self.num_history = num_history

    def embed(self, action: Tensor) -> Tensor:
        """(B,T,A) -> (B,T,W): every action once, before there are windows and their padding."""
        raise NotImplementedError

    def following(self, latent: Tensor, embedded: Tensor, num_missing: Tensor | None = None) -> Tensor:
        """Windows (M,h,P,D) and (M,h,W), h <= num_history, ``num_missing`` (M,) padded frames -> (M,P,D)."""
        raise NotImplementedError

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """(B,T,P,D), (B,T,A) -> (B,T,P,D); ``out[:, t]`` estimates ``latent[:, t + 1]``."""
        b, t = latent.shape[:2]
        past = min(self.num_history, t) - 1
        frames = F.pad(latent, (0, 0, 0, 0, past, 0)).unfold(1, past + 1, 1)
        actions = F.pad(self.embed(action), (0, 0, past, 0)).unfold(1, past + 1, 1)
        num_missing = (past - torch.arange(t, device=latent.device)).clamp_min(0).repeat(b)
        predicted = self.following(
            rearrange(frames, "b t p d h -> (b t) h p d"), rearrange(actions, "b t w h -> (b t) h w"), num_missing
        )
        return rearrange(predicted, "(b t) p d -> b t p d", b=b)

    def rollout(self, latent: Tensor, past_action: Tensor, action: Tensor) -> Tensor:
        """History (B,T,P,D) and (B,T-1,A), candidates (B,N,H,A) -> (B,N,H,P,D) predicted open loop."""
        b, n, horizon, _ = action.shape
        frames = repeat(latent[:, -self.num_history :], "b t p d -> (b n) t p d", n=n)
        past = past_action[:, past_action.shape[1] + 1 - frames.shape[1] :]
        candidates = self.embed(rearrange(action, "b n h a -> (b n) h a"))
        # A history of one frame has no past action, and BatchNorm takes no empty batch.
        known = self.embed(past) if past.numel() else candidates.new_zeros(b, 0, candidates.shape[-1])
        actions = repeat(known, "b t w -> (b n) t w", n=n)
        predicted = []
        for h in range(horizon):
            actions = torch.cat([actions, candidates[:, h : h + 1]], 1)[:, -self.num_history :]
            following = self.following(frames, actions)
            frames = torch.cat([frames, following[:, None]], 1)[:, -self.num_history :]
            if frames.shape[1] == self.num_history:
                actions = actions[:, -(self.num_history - 1) :] if self.num_history > 1 else actions[:, :0]
            predicted.append(following)
        return rearrange(torch.stack(predicted, 1), "(b n) h p d -> b n h p d", b=b)


def present_mask(num_missing: Tensor, length: int) -> Tensor:
    """bool (M,length): False for the ``num_missing`` (M,) first frames of a window, which lie before its clip."""
    return torch.arange(length, device=num_missing.device)[None] >= num_missing[:, None]
