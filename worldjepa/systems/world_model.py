"""The action-conditioned world model: encode pictures, predict latents under actions, roll out candidate plans.

The published member of the family nearest to the default is LeWM (arXiv:2603.19312): next-latent loss plus SIGReg,
end to end from pixels, no teacher. Other choices of target and regulariser are configurations of the same class.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from worldjepa.normalizer import ActionNormalizer
from worldjepa.objectives import WeightedSum
from worldjepa.targets import Live, Target
from worldjepa.types import EnvSpec, Observation, Prediction, Segment


class RewardHead(nn.Module):
    """A task's reward per raw step, guessed from the latents before and after a model step (both: speeds count).

    Args:
        latent_dim, num_tokens: D and P.
        width: of the hidden layers.
    """

    def __init__(self, latent_dim: int, num_tokens: int, width: int = 128):
        super().__init__()
        size = 2 * latent_dim * num_tokens
        self.net = nn.Sequential(
            nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """(...,P,D), (...,P,D) -> (...)."""
        return self.net(torch.cat([before.flatten(-2), (after - before).flatten(-2)], -1)).squeeze(-1)


class WorldModel(nn.Module):
    """An encoder, an action-conditioned predictor and the action statistics: all that planning needs.

    Args:
        encoder: ``forward(obs) -> (B,T,P,D)`` with attributes ``num_tokens`` (P) and ``latent_dim`` (D).
        predictor: any module with ``forward(latent, action)``, ``rollout(latent, past_action, action)`` and
            ``num_history``; see :func:`build_world_model`.
        action_normalizer: between raw action blocks and model actions.
        reward: where the data have rewards.
    """

    def __init__(
        self,
        encoder: nn.Module,
        predictor: nn.Module,
        action_normalizer: ActionNormalizer,
        reward: RewardHead | None = None,
    ):
        super().__init__()
        self.encoder = encoder
        self.predictor = predictor
        self.action_normalizer = action_normalizer
        self.reward = reward
        self.num_tokens: int = encoder.num_tokens
        self.latent_dim: int = encoder.latent_dim
        self.num_history: int = predictor.num_history
        self.frameskip = action_normalizer.frameskip
        self.raw_action_dim = action_normalizer.raw_action_dim
        self.action_dim = self.frameskip * self.raw_action_dim

    @property
    def action_low(self) -> Tensor:
        """(A,) lower bounds of a model action."""
        return self.action_normalizer.low

    @property
    def action_high(self) -> Tensor:
        """(A,) upper bounds of a model action."""
        return self.action_normalizer.high

    def normalize_action(self, raw: Tensor) -> Tensor:
        """(...,A) blocks of raw actions -> (...,A) model actions."""
        return self.action_normalizer(raw)

    def denormalize_action(self, action: Tensor) -> Tensor:
        """(...,A) model actions -> (...,A) blocks of raw actions."""
        return self.action_normalizer.inverse(action)

    def encode(self, obs: Observation) -> Tensor:
        """Observations (B,T,...) -> latents (B,T,P,D)."""
        return self.encoder(obs)

    def predict(self, latent: Tensor, action: Tensor) -> Tensor:
        """(B,T,P,D), (B,T,A) -> (B,T,P,D); ``out[:, t]`` estimates ``latent[:, t + 1]`` from frames up to t."""
        return self.predictor(latent, action)

    def rollout(self, latent: Tensor, past_action: Tensor, action: Tensor) -> Tensor:
        """Open-loop predictions for candidate plans that share their past.

        Args:
            latent: (B,T,P,D) observed history, T >= 1; the last ``num_history`` frames count.
            past_action: (B,T-1,A) between them.
            action: (B,N,H,A) candidates.

        Returns:
            (B,N,H,P,D).
        """
        return self.predictor.rollout(latent, past_action, action)


class WorldModelSystem(nn.Module):
    """A world model with what only training needs: the target and the objective.

    Args:
        model: the world model.
        target: what predictions are compared with, see ``worldjepa.targets``.
        objective: the weighted training terms.
    """

    def __init__(self, model: WorldModel, target: Target, objective: WeightedSum):
        super().__init__()
        self.model = model
        self.target = target
        self.objective = objective

    def predict_clip(self, segment: Segment) -> Prediction:
        """Latents, targets, one-step and roll-out predictions of a batch of clips, T >= 2."""
        if segment.action.shape[1] < 1:
            raise ValueError("clips must have at least 2 frames to predict anything, got 1; set train.clip_frames >= 2")
        latent = self.model.encode(segment.observation)
        target = self.target.given(latent, segment.observation)
        action = self.model.normalize_action(segment.action)
        one_step = self.model.predict(latent[:, :-1], action)
        # Nobody waits for a roll-out that no term looks at: it would be a third of seq-JEPA's predictor.
        asked = self.model.reward is not None or self.objective.needs("rollout")
        rollout = self.model.rollout(latent[:, :1], action[:, :0], action[:, None])[:, 0] if asked else None
        if self.model.reward is None:
            return Prediction(latent, target, one_step, rollout, action)
        # The latents stay what prediction makes of them: the head only reads.
        known, imagined = latent.detach(), torch.cat([latent[:, :1], rollout], 1).detach()
        guesses = [self.model.reward(z[:, :-1], z[:, 1:]) for z in (known, imagined)]
        return Prediction(latent, target, one_step, rollout, action, segment.reward, *guesses)

    def forward(self, segment: Segment, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Name -> scalar of every training term, and their weighted ``total``."""
        prediction = self.predict_clip(segment)
        # Losses are differences of nearly equal numbers and covariances: float32, whatever the autocast type.
        with torch.autocast(segment.action.device.type, enabled=False):
            values = (getattr(prediction, name) for name in prediction.__dataclass_fields__)
            floats = Prediction(*(value if value is None else value.float() for value in values))
            return self.objective(floats, generator)

    def update_target(self, progress: float) -> None:
        """To be called after every optimiser step; ``progress`` in [0, 1]."""
        self.target.update(self.model.encoder, progress)


def build_world_model(
    encoder: nn.Module, predictor: Callable[..., nn.Module], spec: EnvSpec, frameskip: int
) -> WorldModel:
    """Puts a world model together for an environment; ``predictor`` takes latent_dim, num_tokens and action_dim.

    It gets a head for rewards where the environment's episodes have some.
    """
    normalizer = ActionNormalizer(spec.action_low, spec.action_high, frameskip)
    built = predictor(
        latent_dim=encoder.latent_dim, num_tokens=encoder.num_tokens, action_dim=frameskip * spec.raw_action_dim
    )
    reward = RewardHead(encoder.latent_dim, encoder.num_tokens) if "reward" in spec.fields else None
    return WorldModel(encoder, built, normalizer, reward)


def build_system(
    model: WorldModel,
    terms: dict[str, Callable[..., nn.Module]],
    weights: dict[str, float],
    target: Callable[[nn.Module], Target] = Live,
) -> WorldModelSystem:
    """Adds target and objective; terms are modules, or factories that take latent_dim, num_tokens and action_dim.

    The term ``reward`` is left out where the model has no head for it.
    """
    if model.reward is None:
        weights = {name: weight for name, weight in weights.items() if name != "reward"}
    sizes = {"latent_dim": model.latent_dim, "num_tokens": model.num_tokens, "action_dim": model.action_dim}
    modules = {
        name: term if isinstance(term, nn.Module) else term(**sizes)
        for name, term in terms.items()
        if weights.get(name)
    }
    if set(weights) - set(terms):
        raise ValueError(
            f"objective weights {sorted(set(weights) - set(terms))} name no term; terms are {sorted(terms)}"
        )
    used = {name: weight for name, weight in weights.items() if weight}
    return WorldModelSystem(model, target(model.encoder), WeightedSum(modules, used))
