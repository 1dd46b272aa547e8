"""ACT-JEPA (arXiv:2501.14622): one encoder learns to imitate chunks of actions and to predict latents of what follows.

Context x: pictures and proprioception now, and which task it is where there are several. Targets: the actions of the
next H steps, and the latents that a slow copy of the encoder gives the observations of these steps; neither prediction
is told the other. Without the second target it is ACT (arXiv:2304.13705) without its CVAE; with an MLP in place of
attention, chunked behaviour cloning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from worldjepa.layers import Transformer, padding_mask, sincos_embedding
from worldjepa.normalizer import ActionNormalizer
from worldjepa.targets import Target
from worldjepa.types import Chunk, EnvSpec, Observation

FROZEN = ("nothing", "encoder", "context")
FELT = ("proprioception", "route")
"""Observations of numbers that a policy which feels is given, those of them that there are."""


class ContextEncoder(nn.Module):
    """A transformer over proprioception, picture tokens and a task's token together.

    Args:
        state_dim: S', numbers that are felt at one moment; 0 for none.
        token_dim, num_tokens: D and P of the picture encoder.
        coords: (P,2) of the picture tokens' places; learned where they have none.
        num_cameras: pictures that are looked at together.
        num_tasks: a learned token for each; 0 for one task alone, which needs none.
        width, depth, heads, mlp_ratio, dropout: of the transformer.
    """

    def __init__(
        self,
        state_dim: int,
        token_dim: int,
        num_tokens: int,
        coords: Tensor | None = None,
        num_cameras: int = 1,
        num_tasks: int = 0,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.latent_dim, self.state_dim, self.num_tasks = width, state_dim, num_tasks
        self.feel = nn.Linear(state_dim, width) if state_dim else None
        self.look = nn.Linear(token_dim, width)
        if coords is None:
            self.places = nn.Parameter(0.02 * torch.randn(num_tokens, width))
        else:
            self.register_buffer("places", sincos_embedding(coords, width), persistent=False)
        self.cameras = nn.Parameter(0.02 * torch.randn(num_cameras, 1, width)) if num_cameras > 1 else None
        self.tasks = nn.Embedding(num_tasks, width) if num_tasks else None
        self.transformer = Transformer(width, depth, heads, mlp_ratio, dropout)

    def forward(
        self, state: Tensor | None, token: Tensor | None, task: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Normalised readings of n steps in a row (B,n,S') and C cameras' tokens (B,C,P,D) -> (B,n+C*P,width).

        Args:
            task: (B,) which one, in 0..num_tasks-1; its latent comes last, one more. None leaves it out.
            mask: as in :class:`worldjepa.layers.Attention`.
        """
        parts = []
        if state is not None and self.feel is not None:
            step = torch.arange(state.shape[1], device=state.device)[:, None]
            parts.append(self.feel(state) + sincos_embedding(step, self.latent_dim))
        if token is not None:
            seen = self.look(token) + self.places
            parts.append((seen if self.cameras is None else seen + self.cameras).flatten(1, 2))
        if task is not None and self.tasks is not None:
            parts.append(self.tasks(task.long())[:, None])
        return self.transformer(torch.cat(parts, 1), mask=mask)


class ChunkModel(nn.Module):
    """Observation -> the next H raw actions: all that acting needs.

    Args:
        encoder: one camera's pictures, or what else it ``takes`` -> (B,T,P,D), see ``worldjepa.encoders``.
        context: pictures' tokens and what is felt -> latents.
        decoder: latents (B,K,width) -> (B,H,raw_action_dim), normalised.
        action_normalizer: between raw and normalised actions, of one raw step each.
        horizon: H.
        cameras: names of the pictures in an observation; one encoder looks at all.
        felt: names of the numbers in an observation that are felt, see :data:`FELT`.
    """

    num_history = 1

    def __init__(
        self,
        encoder: nn.Module,
        context: ContextEncoder,
        decoder: nn.Module,
        action_normalizer: ActionNormalizer,
        horizon: int,
        cameras: Sequence[str] = ("pixels",),
        felt: Sequence[str] = ("proprioception",),
    ):
        super().__init__()
        self.cameras, self.felt = tuple(cameras), tuple(felt) if context.state_dim else ()
        self.takes = what_it_takes(encoder)
        self.encoder, self.context, self.decoder, self.horizon = encoder, context, decoder, horizon
        self.action_normalizer = action_normalizer
        self.register_buffer("state_center", torch.zeros(context.state_dim))
        self.register_buffer("state_scale", torch.ones(context.state_dim))

    @property
    def observes(self) -> tuple[str, ...]:
        """Names of the observations it takes."""
        also = getattr(self.encoder, "also", ())
        return tuple(dict.fromkeys((*self.cameras, *self.felt, *also, *(("task",) if self.context.num_tasks else ()))))

    def fit(self, felt: Sequence[tuple[Tensor, Tensor]], action: tuple[Tensor, Tensor]) -> None:
        """Takes mean and standard deviation of the training data: of each observation that is felt, of raw actions."""
        self.action_normalizer.fit(*action)
        if felt:
            mean, deviation = (torch.cat([part.flatten() for part in parts]) for parts in zip(*felt, strict=True))
            self.state_center.copy_(mean)
            self.state_scale.copy_(deviation.clamp_min(1e-6))

    def normalized_state(self, obs: Observation) -> Tensor | None:
        """(B,n,S') all that is felt, side by side; None where nothing is."""
        if not self.felt:
            return None
        return (torch.cat([obs[name].flatten(2) for name in self.felt], -1) - self.state_center) / self.state_scale

    def task(self, obs: Observation) -> Tensor | None:
        """(B,) which task it is, None where there is but one."""
        return obs["task"][:, 0] if self.context.num_tasks else None

    def look(self, obs: Observation) -> Tensor:
        """All cameras' pictures, each (B,T,3,height,width), or sweeps -> tokens (B,T,C,P,D).

        What was made of sweeps and stored is taken in their place; what the encoder ``also`` needs goes with each.
        """
        if "bev" in obs:
            return self.encoder(obs)[:, :, None]
        also = {name: obs[name] for name in getattr(self.encoder, "also", ())}
        return torch.stack([self.encoder({self.takes: obs[name], **also}) for name in self.cameras], 2)

    def encode(self, obs: Observation) -> Tensor:
        """One moment's observation (B,1,...) -> context latents (B,K,width)."""
        return self.context(self.normalized_state(obs), self.look(obs)[:, 0], self.task(obs))

    def forward(self, obs: Observation, generator: torch.Generator | None = None) -> Tensor:
        """One moment's observation (B,1,...) -> raw actions (B,H,raw_action_dim), within their bounds."""
        return self.act(self.encode(obs))

    def act(self, context: Tensor) -> Tensor:
        """Context latents (B,K,width) -> raw actions (B,H,raw_action_dim), within their bounds."""
        raw = self.action_normalizer.inverse(self.decoder(context).float())
        return raw.clamp(self.action_normalizer.raw_low, self.action_normalizer.raw_high)


class FollowingStates(nn.Module):
    """What ACT-JEPA's target encoder sees: the task and the next steps' proprioception, no pictures and no actions."""

    def __init__(self, model: ChunkModel):
        super().__init__()
        self.context = model.context

    def forward(self, state: Tensor, future: Observation, valid: Tensor, task: Tensor | None = None) -> Tensor:
        """Normalised readings (B,F,S'), those that are ``valid`` (B,F), which task (B,) -> (B,F,width)."""
        seen = F.pad(valid, (0, int(task is not None)), value=True)
        seen[:, 0] = True  # where none is, attention would have nothing to look at
        return self.context(state, None, task, padding_mask(seen))[:, : valid.shape[1]]


class FollowingPictures(nn.Module):
    """Our variation: the pictures of the next steps, one by one, each one latent (the mean of its tokens')."""

    def __init__(self, model: ChunkModel):
        super().__init__()
        self.model = model

    def forward(self, state: Tensor | None, future: Observation, valid: Tensor, task: Tensor | None = None) -> Tensor:
        """Pictures (B,F,3,height,width) -> (B,F,width); nothing else is looked at."""
        token = self.model.look(future)
        latent = self.model.context(None, token.flatten(0, 1)).mean(1)
        return rearrange(latent, "(b f) d -> b f d", b=len(token))


LOSSES = {"l1": F.l1_loss, "mse": F.mse_loss}
FUTURES: dict[str, type[nn.Module]] = {"proprioception": FollowingStates, "pixels": FollowingPictures}


class ActJepa(nn.Module):
    """A chunk model with what only training needs; follows what :func:`worldjepa.training.train` asks of a system.

    Args:
        model: what is trained.
        predicts: ``proprioception`` (the paper's) or ``pixels`` (ours): the observations whose latents are predicted.
        predictor: context latents (B,K,width) -> (B,F,width); None for imitation alone.
        target: makes the slow copy, such as ``functools.partial(Ema, start=0.996)``.
        imitation, prediction: weights of the two terms; 0 leaves a term and what only it trains out.
        frozen: ``nothing``, ``encoder`` (of pictures), or ``context``, all but the decoder.
        shift: pictures are moved by up to so many px in each direction while training, their edges repeated.
        loss: of the imitation: ``l1`` (ACT's) leads to the median of what demonstrators do, ``mse`` to their mean.
        overshoot: what an error weighs for each number of an action that comes out above the demonstrated one, where
            one below weighs 1; None lets both weigh alike. It moves medians and means to other quantiles and
            expectiles (Newey and Powell 1987): where too much is dangerous and too little is not.

    Raises:
        ValueError: a setting that is not known, or parts that do not fit each other.
    """

    def __init__(
        self,
        model: ChunkModel,
        predicts: str = "proprioception",
        predictor: nn.Module | None = None,
        target: Callable[[nn.Module], Target] | None = None,
        imitation: float = 1.0,
        prediction: float = 1.0,
        frozen: str = "nothing",
        shift: int = 0,
        loss: str = "l1",
        overshoot: Sequence[float] | None = None,
    ):
        super().__init__()
        numbers = len(model.action_normalizer.raw_low)
        if overshoot is not None and (len(overshoot) != numbers or min(overshoot) <= 0):
            raise ValueError(f"overshoot must be {numbers} numbers > 0, one per number of an action, got {overshoot}")
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
        if predicts not in FUTURES:
            raise ValueError(f"predicts must be one of {', '.join(FUTURES)}, got {predicts!r}")
        if frozen not in FROZEN:
            raise ValueError(f"frozen must be one of {', '.join(FROZEN)}, got {frozen!r}")
        if predictor is not None and predicts == "proprioception" and not model.felt:
            raise ValueError("a policy that does not feel cannot predict proprioception: predict pixels, or nothing")
        if not imitation and not (prediction and predictor is not None):
            raise ValueError("nothing to learn: imitation has weight 0 and nothing is predicted")
        self.model, self.predicts, self.imitation, self.shift = model, predicts, imitation, shift
        self.loss = loss
        weights = None if overshoot is None else torch.tensor(list(overshoot), dtype=torch.float32)
        self.register_buffer("overshoot", weights, persistent=False)
        self.prediction = prediction if predictor is not None else 0.0
        self.predictor = predictor if self.prediction else None
        self.online = (FUTURES[predicts](model),)  # a tuple: its weights are the model's
        self.target = target(self.online[0]) if self.prediction else None
        self.still = {"nothing": [], "encoder": [model.encoder], "context": [model.encoder, model.context]}[frozen]
        for module in (*self.still, *([] if imitation else [model.decoder])):
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> ActJepa:
        """What is frozen stays in eval mode."""
        super().train(mode)
        for module in self.still:
            module.eval()
        return self

    def forward(self, chunk: Chunk, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """``imitation``, and ``prediction`` (L1), means over what is valid, and their ``total``."""
        obs = chunk.observation
        if self.training and self.shift and self.model.takes == "pixels":
            obs = {**obs, **{name: shifted(obs[name], self.shift) for name in self.model.cameras}}
        context = self.model.encode(obs)
        losses = {}
        if self.imitation:
            wanted = self.model.action_normalizer(chunk.action)
            losses["imitation"] = masked(
                LOSSES[self.loss], self.model.decoder(context), wanted, chunk.valid, self.overshoot
            )
        if self.prediction:
            state = self.model.normalized_state(chunk.future) if self.predicts == "proprioception" else None
            wanted = self.target(state, chunk.future, chunk.future_valid, self.model.task(obs))
            losses["prediction"] = masked(F.l1_loss, self.predictor(context), wanted, chunk.future_valid)
        total = sum(getattr(self, name) * loss for name, loss in losses.items())
        return {**losses, "total": total}

    def update_target(self, progress: float) -> None:
        """To be called after every optimiser step; ``progress`` in [0, 1]."""
        if self.target is not None:
            self.target.update(self.online[0], progress)


def masked(
    loss: Callable[..., Tensor], guess: Tensor, wanted: Tensor, valid: Tensor, overshoot: Tensor | None = None
) -> Tensor:
    """Mean ``loss`` between (B,H,A) over the steps that are ``valid`` (B,H); 0 where none is.

    Args:
        overshoot: (A,) weights of errors with the guess above what is wanted; others, and all where None, weigh 1.
    """
    guess, wanted = guess[valid].float(), wanted[valid].float()
    apart = loss(guess, wanted, reduction="none")
    if overshoot is not None:
        apart = torch.where(guess > wanted, overshoot * apart, apart)
    return apart.sum() / max(guess.numel(), 1)


def shifted(pixels: Tensor, reach: int) -> Tensor:
    """Pictures (B,T,3,height,width), each B moved by up to ``reach`` px each way, edges repeated (arXiv:2004.13649).

    Drawn from the global stream, like dropout: it differs between data-parallel processes.
    """
    batch, _, _, height, width = pixels.shape
    move = torch.randint(-reach, reach + 1, (2, batch, 1), device=pixels.device)
    rows = (torch.arange(height, device=pixels.device) + move[0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=pixels.device) + move[1]).clamp(0, width - 1)
    which = torch.arange(batch, device=pixels.device)[:, None, None]
    picked = pixels.permute(0, 3, 4, 1, 2)[which, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 4, 1, 2)


def build_chunk_model(
    encoder: nn.Module,
    context: Callable[..., ContextEncoder],
    decoder: Callable[..., nn.Module],
    spec: EnvSpec,
    horizon: int,
    feels: bool = True,
    cameras: Sequence[str] = ("pixels",),
) -> ChunkModel:
    """Puts a chunk model together for an environment.

    Args:
        encoder: of pictures, or of what it ``takes``.
        context: takes state_dim, token_dim, num_tokens, coords, num_cameras and num_tasks.
        decoder: takes context_dim, num_queries and out_dim.
        horizon: H.
        feels: whether the policy gets the proprioception, and the route where there is one.
        cameras: names of the pictures it gets.
    """
    felt = [name for name in FELT if feels and name in spec.fields]
    state_dim = sum(math.prod(spec.fields[name].shape) for name in felt)
    built = context(
        state_dim=state_dim,
        token_dim=encoder.latent_dim,
        num_tokens=encoder.num_tokens,
        coords=getattr(encoder, "coords", None),
        num_cameras=len(cameras),
        num_tasks=len(spec.tasks) if len(spec.tasks) > 1 else 0,
    )
    made = decoder(context_dim=built.latent_dim, num_queries=horizon, out_dim=spec.raw_action_dim)
    normalizer = ActionNormalizer(spec.action_low, spec.action_high, 1)
    return ChunkModel(encoder, built, made, normalizer, horizon, cameras, felt)


def what_it_takes(encoder: nn.Module) -> str:
    """Name of the observation that an encoder looks at: ``pixels`` unless it says otherwise."""
    return getattr(encoder, "takes", "pixels")
