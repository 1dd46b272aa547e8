"""Masked latent prediction within one sample: I-JEPA and its relatives are choices of the parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldjepa.objectives.distances import Distance
from worldjepa.samplers.masks import Masks, Sampler
from worldjepa.targets import FixedFeature, Target
from worldjepa.tokens import batched_coords, mean_where, positions, take
from worldjepa.types import Observation, SampleBatch, TokenSet

POOLS = ("mean", "mean_max", "over_last", "flat", "pinned")


class TokenModel(nn.Module):
    """All that is used after training.

    Args:
        tokenizer: observation -> TokenSet.
        encoder: (TokenSet, keep) -> TokenSet of latents, such as :class:`worldjepa.encoders.vit.Vit`.
        predictor: (context, coords (B,M,Q,C), valid (B,M,Q)) -> (B,M,Q,D); None where nothing is predicted from a part.
        pool: what stands for a whole sample: the ``mean`` of its tokens' latents, beside it their maximum
            (``mean_max``), means ``over_last``, the last coordinate, side by side for every combination of the others
            (where the last is time, for every band or channel, as for M2D, arXiv:2210.14648; of a video for every time
            and row), all tokens side by side (``flat``), zeros where one is missing, or the latents of the ``pinned``
            tokens.
        slices: name -> first number of a latent and the one after the last, such as ``{"what": (0, 48), "where": (48,
            64)}``, for regularizers and probes that look at a part; within the encoder's D.

    Raises:
        ValueError: an unknown pool, or a slice that the latents do not have.
    """

    def __init__(
        self,
        tokenizer: nn.Module,
        encoder: nn.Module,
        predictor: nn.Module | None = None,
        pool: Literal["mean", "mean_max", "over_last", "flat", "pinned"] = "mean",
        slices: Mapping[str, tuple[int, int]] | None = None,
    ):
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"pool must be one of {', '.join(POOLS)}, got {pool!r}")
        self.slices = {name: slice(*ends) for name, ends in (slices or {}).items()}
        for name, part in self.slices.items():
            if not 0 <= part.start < part.stop <= encoder.latent_dim:
                raise ValueError(
                    f"slice {name} must lie within the latent's {encoder.latent_dim} numbers, got {part.start} to "
                    f"{part.stop}; set slices.{name}"
                )
        self.tokenizer, self.encoder, self.predictor, self.pool = tokenizer, encoder, predictor, pool

    def predict(self, tokens: TokenSet, masks: Masks) -> tuple[Tensor, Tensor, Tensor]:
        """Predicts the target tokens from the context tokens alone.

        Returns:
            latents (R,M,Q,D), and as :func:`worldjepa.tokens.positions` of the targets, index (R,M,Q) and
            valid (R,M,Q).
        """
        tokens = repeated(tokens, len(masks.context) // len(tokens.values))
        context = self.encoder(tokens, masks.context)
        index, valid = positions(masks.targets)
        return self.predictor(context, take(batched_coords(tokens), index), valid), index, valid

    def features(self, observation: Observation, part: str | None = None) -> Tensor:
        """(B,...) -> float32 (B,F): what stands for whole samples; padding has no part in it.

        Args:
            part: name of the slice of every latent that is wanted; None takes all of it.

        Raises:
            ValueError: a mean over the time of tokens that have no other coordinate, and where a pool keeps tokens
                apart, those that have other coordinates in every sample.
        """
        latent = self.encoder(self.tokenizer(observation))
        if part is not None:
            latent = replace(latent, values=latent.values[..., self.slices[part]])
        if self.pool == "pinned":
            return latent.values[:, latent.pinned].flatten(1).float()
        counts = (latent.valid & ~latent.pinned)[..., None]
        values = latent.values.float()
        if self.pool == "over_last":
            return _over_last(latent, values * counts, counts)
        if self.pool == "flat":
            return _flat(latent, values * counts)
        mean = mean_where(values, counts[..., 0])
        if self.pool == "mean":
            return mean
        return torch.cat([mean, values.masked_fill(~counts, -torch.inf).amax(1)], -1)


def _over_last(latent: TokenSet, values: Tensor, counts: Tensor) -> Tensor:
    """(B,P,D), counts (B,P,1) -> means (B,places * D) of the tokens that differ in the last coordinate alone."""
    if latent.coords.dim() != 2 or latent.coords.shape[1] < 2:
        raise ValueError(
            "pool=over_last needs tokens with two coordinates or more that all samples share, these have coordinates "
            f"{tuple(latent.coords.shape)}; set pool=mean"
        )
    coords = latent.coords[~latent.pinned, :-1]
    number = latent.pinned.new_zeros(len(latent.pinned), dtype=torch.long)
    number[~latent.pinned] = torch.unique(coords, dim=0, return_inverse=True)[1]
    shape = len(values), int(number.max()) + 1
    total = values.new_zeros(*shape, values.shape[2]).index_add(1, number, values)
    return (total / values.new_zeros(*shape, 1).index_add(1, number, counts.float()).clamp_min(1)).flatten(1)


def _flat(latent: TokenSet, values: Tensor) -> Tensor:
    """(B,P,D) -> (B,P * D), without pinned tokens."""
    if latent.coords.dim() != 2:
        raise ValueError(
            "pool=flat needs tokens whose places all samples share, these have coordinates "
            f"{tuple(latent.coords.shape)}; set pool=mean"
        )
    return values[:, ~latent.pinned].flatten(1)


class MaskedJepa(nn.Module):
    """Context tokens predict the latents of target tokens, given where these are: the model with what training needs.

    Args:
        model: to be trained.
        sampler: draws context and targets.
        target: TokenSet -> TokenSet of wanted latents; or a function that makes one from the encoder, such as
            ``functools.partial(Ema, start=0.996)``. :class:`worldjepa.targets.FixedFeature` is given the observation
            and gives (B,P,F) of the tokens that are not pinned.
        distance: between prediction and target.
        normalize_target: bring every wanted latent to mean 0 and variance 1 (a LayerNorm without weights).
        regularizers: name -> module: latents (M,D) of all tokens of whole samples, and a generator that is the same on
            every data-parallel rank, -> scalar.
        weights: of the regularizers.
        parts: name of a regularizer -> the slice of ``model.slices`` that it looks at; the others look at all.

    Raises:
        ValueError: weights of other regularizers than there are.
    """

    def __init__(
        self,
        model: TokenModel,
        sampler: Sampler,
        target: Target | Callable[[nn.Module], Target],
        distance: Distance,
        normalize_target: bool = True,
        regularizers: Mapping[str, nn.Module] | None = None,
        weights: Mapping[str, float] | None = None,
        parts: Mapping[str, str] | None = None,
    ):
        super().__init__()
        self.model, self.sampler = model, sampler
        self.target = target if isinstance(target, Target) else target(model.encoder)
        self.distance, self.normalize_target = distance, normalize_target
        self.regularizers, self.weights = nn.ModuleDict(regularizers or {}), dict(weights or {})
        if set(self.regularizers) != set(self.weights):
            raise ValueError(
                f"regularizers are {', '.join(self.regularizers) or 'none'}, and weights those of "
                f"{', '.join(self.weights) or 'none'}: give every regularizer one weight"
            )
        self.parts = dict(parts or {})
        for name, part in self.parts.items():
            if name not in self.regularizers or part not in model.slices:
                raise ValueError(
                    f"parts say which slice a regularizer looks at, got {name}: {part}; regularizers are "
                    f"{', '.join(self.regularizers) or 'none'}, the model's slices {', '.join(model.slices) or 'none'}"
                )
        self.register_buffer("progress", torch.zeros(()))  # a buffer, so that a resumed run goes on with its curriculum

    def wanted(self, observation: Observation, tokens: TokenSet) -> Tensor:
        """What is to be predicted of every token, float32 (B,P,D), without gradient unless the target has one."""
        if isinstance(self.target, FixedFeature):
            features = self.target(observation)
            latent = features.new_zeros(*tokens.valid.shape, features.shape[2])
            latent[:, ~tokens.pinned] = features
        else:
            latent = self.target(tokens).values
        return F.layer_norm(latent, latent.shape[-1:]).float() if self.normalize_target else latent.float()

    def forward(self, batch: SampleBatch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Name -> scalar: ``prediction`` and every regularizer, the weighted ``total``, and ``mean_latent``, what
        predicting the batch's mean latent would cost (no gradient, no part of the total)."""
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        if self.regularizers:
            shared = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
        tokens = self.model.tokenizer(batch.observation)
        masks = self.sampler(tokens, generator, float(self.progress), self.target)
        prediction, index, valid = self.model.predict(tokens, masks)
        latent = self.wanted(batch.observation, tokens)
        wanted = take(latent.repeat_interleave(len(index) // len(latent), 0), index)[valid]
        losses = {"prediction": self.distance(prediction[valid].float(), wanted)}
        if self.regularizers:
            # Of whole samples, as they are used afterwards; a context is now this part and now that.
            whole = self.model.encoder(tokens)
            latents = whole.values[whole.valid & ~whole.pinned].float()
            # Every rank must take the same directions, however many numbers its masks have drawn.
            losses |= {
                name: module(latents[:, self.model.slices.get(self.parts.get(name), slice(None))], shared)
                for name, module in self.regularizers.items()
            }
        total = losses["prediction"] + sum(self.weights[name] * losses[name] for name in self.weights)
        with torch.no_grad():
            mean_latent = self.distance(wanted.mean(0).expand_as(wanted), wanted)
        return {**losses, "mean_latent": mean_latent, "total": total}

    def update_target(self, progress: float) -> None:
        """Moves the target after an optimiser step; ``progress`` in [0, 1]."""
        self.progress.fill_(progress)
        self.target.update(self.model.encoder, progress)


def repeated(tokens: TokenSet, times: int) -> TokenSet:
    """Every sample ``times`` in a row."""
    if times == 1:
        return tokens
    coords = tokens.coords if tokens.coords.dim() == 2 else tokens.coords.repeat_interleave(times, 0)
    return replace(
        tokens,
        values=tokens.values.repeat_interleave(times, 0),
        coords=coords,
        valid=tokens.valid.repeat_interleave(times, 0),
    )
