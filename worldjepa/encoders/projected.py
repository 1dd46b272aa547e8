"""An encoder whose loss is taken behind a projector, as joint-embedding methods do (VICReg, SIE, LeJEPA)."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from worldjepa.layers import batchnorm_mlp
from worldjepa.types import Observation


class ProjectedEncoder(nn.Module):
    """Latents for the loss come out of an MLP behind the encoder; what the encoder says itself is to be used.

    Args:
        encoder: ``forward(obs) -> (B,T,1,D)``.
        latent_dim: of the projection.
        hidden: width of the projector's hidden layers.

    Attributes:
        representation_dim: of :meth:`represent`.
    """

    num_tokens = 1

    def __init__(self, encoder: nn.Module, latent_dim: int = 256, hidden: int = 256):
        super().__init__()
        if encoder.num_tokens != 1:
            raise ValueError(f"a projector takes one token per frame, got num_tokens = {encoder.num_tokens}")
        self.encoder = encoder
        self.latent_dim, self.representation_dim = latent_dim, encoder.latent_dim
        self.projector = batchnorm_mlp(encoder.latent_dim, (hidden, hidden, latent_dim))

    @property
    def normalizer(self) -> nn.Module:
        """The encoder's statistics of pictures."""
        return self.encoder.normalizer

    def represent(self, obs: Observation) -> Tensor:
        """Observations -> (B,T,1,representation_dim), before the projector."""
        return self.encoder(obs)

    def forward(self, obs: Observation) -> Tensor:
        """Observations -> (B,T,1,latent_dim), behind it."""
        latent = self.encoder(obs)
        return rearrange(self.projector(rearrange(latent, "b t 1 d -> (b t) d")), "(b t) d -> b t 1 d", b=len(latent))
