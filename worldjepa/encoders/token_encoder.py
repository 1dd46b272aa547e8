"""A static model's tokenizer and encoder as the eyes of a world model or a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from einops import rearrange
from torch import Tensor, nn

from worldjepa.tokens import mean_where
from worldjepa.types import Observation


class TokenEncoder(nn.Module):
    """Every moment is one sample of the static model; its tokens, or their mean, become latents.

    Args:
        tokenizer: one moment's observation, all that it ``takes``, -> TokenSet.
        encoder: TokenSet -> TokenSet of latents.
        latent_dim: D of what comes out, behind a linear map and BatchNorm, as a transformer's last LayerNorm forbids a
            Gaussian latent.
        pool: ``mean``: one latent of a moment; ``tokens``: one per token.
        reads: what the tokenizer asks for -> the observation that it gets, where names differ, such as
            ``{"table": "proprioception"}``.
        init: run of a static model to start from, with the statistics of its samples; None starts anew.

    Attributes:
        num_tokens: P.
        takes: the observation that it looks at, and ``also`` what it needs beside.

    Raises:
        ValueError: an unknown pool, or tokens one by one of a tokenizer whose number of them varies.
    """

    init_prefix = ""
    """Of the run's weights: both parts are taken, by their names."""

    def __init__(
        self,
        tokenizer: nn.Module,
        encoder: nn.Module,
        latent_dim: int,
        pool: Literal["mean", "tokens"] = "mean",
        reads: Mapping[str, str] | None = None,
        init: str | None = None,
    ):
        super().__init__()
        if pool not in ("mean", "tokens"):
            raise ValueError(f"pool must be 'mean' or 'tokens', got {pool!r}")
        self.tokenizer, self.encoder, self.init = tokenizer, encoder, init
        self.pool, self.reads, self.latent_dim = pool, dict(reads or {}), latent_dim
        if pool == "tokens" and not hasattr(tokenizer, "num_tokens"):
            raise ValueError("these samples have tokens in any number, which only pool=mean makes one latent of")
        self.num_tokens = 1 if pool == "mean" else tokenizer.num_tokens - tokenizer.num_pinned
        self.takes, *also = (self.reads.get(name, name) for name in tokenizer.takes)
        self.also = tuple(also)
        self.projection = nn.Linear(encoder.latent_dim, latent_dim)
        self.norm = nn.BatchNorm1d(latent_dim)

    @property
    def normalizer(self) -> TokenEncoder:
        """This module itself, see :meth:`fit`."""
        return self

    def fit(self, mean_picture: Tensor) -> None:
        """Takes nothing: its statistics are those of the samples that it has learned from."""

    def forward(self, obs: Observation) -> Tensor:
        """Observations (B,T,...) -> (B,T,P,D).

        Raises:
            ValueError: what the tokenizer raises about one moment.
        """
        times = obs[self.takes].shape[:2]
        names = zip(self.tokenizer.takes, (self.takes, *self.also), strict=True)
        tokens = self.tokenizer({inner: obs[outer].flatten(0, 1) for inner, outer in names})
        latent = self.encoder(tokens)
        values = latent.values[:, ~latent.pinned]
        if self.pool == "mean":
            values = mean_where(values, latent.valid[:, ~latent.pinned])[:, None]
        count = values.shape[1]
        latent = self.norm(self.projection(values.flatten(0, 1)))
        return rearrange(latent, "(b t p) d -> b t p d", b=times[0], t=times[1], p=count)
