"""An encoder with another one beside it: what is seen, and what is felt or heard."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from worldjepa.types import Observation


class JoinedEncoder(nn.Module):
    """Appends the latent of an encoder ``beside`` to every token of the one that sees.

    Args:
        seen: ``forward(obs) -> (B,T,P,D)``, of pictures unless it ``takes`` something else.
        beside: ``forward(obs) -> (B,T,1,d)`` of another observation, such as :class:`FeltEncoder`, or
            :class:`~worldjepa.encoders.token_encoder.TokenEncoder` for sounds and biosignals.

    Attributes:
        latent_dim: D + d.
        takes: the observation that is seen, and ``also`` what is needed beside.

    Raises:
        ValueError: more than one token beside.
    """

    def __init__(self, seen: nn.Module, beside: nn.Module):
        super().__init__()
        if beside.num_tokens != 1:
            raise ValueError(f"beside what is seen stands one token, got {beside.num_tokens}; set beside.pool=mean")
        self.seen, self.beside = seen, beside
        self.num_tokens, self.latent_dim = seen.num_tokens, seen.latent_dim + beside.latent_dim
        self.takes = getattr(seen, "takes", "pixels")
        self.also = (*getattr(seen, "also", ()), beside.takes, *getattr(beside, "also", ()))

    @property
    def coords(self) -> Tensor | None:
        """Places of the tokens that are seen, where they have any."""
        return getattr(self.seen, "coords", None)

    @property
    def normalizer(self) -> nn.Module:
        """The statistics of the encoder that sees."""
        return self.seen.normalizer

    def forward(self, obs: Observation) -> Tensor:
        """Observations (B,T,...) -> (B,T,P,D+d).

        Raises:
            ValueError: an observation that is needed is missing.
        """
        missing = [name for name in (self.takes, *self.also) if name not in obs]
        if missing:
            raise ValueError(
                f"this encoder needs {', '.join(missing)}, got {', '.join(sorted(obs))}; train with "
                f"observations=[{','.join((self.takes, *self.also))}]"
            )
        seen, beside = self.seen(obs), self.beside({name: obs[name] for name in self.also})
        return torch.cat([seen, beside.to(seen.dtype).expand(-1, -1, self.num_tokens, -1)], -1)


class FeltEncoder(nn.Module):
    """A small network of the numbers that a robot feels.

    Args:
        num_inputs: how many there are.
        latent_dim: d.
        hidden: width of the hidden layer.
        takes: name of the observation.
    """

    num_tokens = 1

    def __init__(self, num_inputs: int, latent_dim: int = 4, hidden: int = 64, takes: str = "proprioception"):
        super().__init__()
        # Statistics of the running data instead of a bound: environments rarely say what their sensors can read.
        self.head = nn.Sequential(
            nn.BatchNorm1d(num_inputs, affine=False),
            nn.Linear(num_inputs, hidden),
            nn.SiLU(),
            nn.Linear(hidden, latent_dim),
        )
        self.num_inputs, self.latent_dim, self.takes = num_inputs, latent_dim, takes

    def forward(self, obs: Observation) -> Tensor:
        """(B,T,num_inputs) -> (B,T,1,d)."""
        felt = obs[self.takes]
        if felt.shape[-1] != self.num_inputs:
            raise ValueError(f"{self.takes}: expected {self.num_inputs} numbers, got {felt.shape[-1]}; set num_inputs")
        embedded = self.head(rearrange(felt, "b t n -> (b t) n").float())
        return rearrange(embedded, "(b t) d -> b t 1 d", b=felt.shape[0])
