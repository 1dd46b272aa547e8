"""Masked latent prediction within one sample: I-JEPA and its relatives are choices of the parts."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldjepa.objectives.distances import Distance
from worldjepa.samplers.masks import Masks, Sampler
from worldjepa.targets import Target
from worldjepa.tokens import batched_coords, positions, take
from worldjepa.types import Observation, TokenSet


class MaskedJepa(nn.Module):
    """Context tokens predict the latents of target tokens, given where these are.

    Args:
        tokenizer: observation -> TokenSet.
        encoder: (TokenSet, keep) -> TokenSet of latents, such as :class:`worldjepa.encoders.vit.Vit`.
        sampler: draws context and targets.
        predictor: (context, coords (B,M,Q,C), valid (B,M,Q)) -> (B,M,Q,D).
        target: TokenSet -> TokenSet of wanted latents; or a function that makes one from the encoder, such as
            ``functools.partial(Ema, start=0.996)``.
        distance: between prediction and target.
    """

    def __init__(
        self,
        tokenizer: nn.Module,
        encoder: nn.Module,
        sampler: Sampler,
        predictor: nn.Module,
        target: Target | Callable[[nn.Module], Target],
        distance: Distance,
    ):
        super().__init__()
        self.tokenizer = tokenizer
        self.encoder = encoder
        self.sampler = sampler
        self.predictor = predictor
        self.target = target if isinstance(target, Target) else target(encoder)
        self.distance = distance

    def predict(self, tokens: TokenSet, masks: Masks) -> tuple[Tensor, Tensor, Tensor]:
        """Predicts the target tokens from the context tokens alone.

        Returns:
            latents (B,M,Q,D), and as :func:`worldjepa.tokens.positions` of the targets, index (B,M,Q) and
            valid (B,M,Q).
        """
        context = self.encoder(tokens, masks.context)
        index, valid = positions(masks.targets)
        return self.predictor(context, take(batched_coords(tokens), index), valid), index, valid

    def loss(self, batch: Observation, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        """``loss`` to minimise, and beside it what predicting the batch's mean latent would cost (no gradient)."""
        tokens = self.tokenizer(batch)
        masks = self.sampler(tokens, generator, progress)
        prediction, index, valid = self.predict(tokens, masks)
        latent = self.target(tokens).values
        wanted = take(F.layer_norm(latent, latent.shape[-1:]), index)[valid].float()
        with torch.no_grad():
            mean_latent = self.distance(wanted.mean(0).expand_as(wanted), wanted)
        return {"loss": self.distance(prediction[valid].float(), wanted), "mean_latent": mean_latent}

    def update(self, progress: float) -> None:
        """Moves the target after an optimiser step; ``progress`` in [0, 1]."""
        self.target.update(self.encoder, progress)

    def encode(self, batch: Observation) -> Tensor:
        """Latents of all tokens (B,P,D)."""
        return self.encoder(self.tokenizer(batch)).values
