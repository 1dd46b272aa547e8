"""A world model of a street in latents of its bird's-eye view (ours): what AD-L-JEPA's encoder will see next.

Others move, and so do we. Where we go follows from speed and steering angle, so what our motion does to the view is
geometry (:mod:`worldjepa.odometry`); learned is how an action changes speed and angle, and what the others do. A plan's
latents are those of the others' motion, rolled out once for all plans, as seen from where each plan would have us.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldjepa.encoders.bev import BevEncoder
from worldjepa.encoders.bev_view import BevView
from worldjepa.odometry import Area, Vehicle, chained
from worldjepa.predictors.scene import SceneMotion
from worldjepa.types import Observation, Segment

TERMS = ("prediction", "obstacles", "response")


class Response(nn.Module):
    """How speed, m/s, and steering angle, rad, answer to an action.

    Args:
        raw_action_dim: numbers of an action.
        width: of the two hidden layers.
    """

    SCALE = (1.0, 0.1)  # m/s and rad: changes of this size weigh alike
    RANGE = (5.0, 0.3)  # m/s and rad: about half of what there is

    def __init__(self, raw_action_dim: int, width: int = 64):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2 + raw_action_dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
        )
        self.register_buffer("scale", torch.tensor(self.SCALE), persistent=False)
        self.register_buffer("range", torch.tensor(self.RANGE), persistent=False)

    def forward(self, felt: Tensor, action: Tensor) -> Tensor:
        """(...,2), raw actions (...,A), of order 1 -> (...,2) a step later; no car goes back."""
        speed, steer = (felt + self.scale * self.net(torch.cat([felt / self.range, action], -1))).unbind(-1)
        return torch.stack([speed.clamp_min(0), steer], -1)


class BevWorld(nn.Module):
    """All that planning needs.

    Args:
        view: frozen latents of an area.
        predictor: what the others do.
        vehicle: we.
        action_low, action_high: bounds of a raw action.
    """

    def __init__(
        self,
        view: BevView,
        predictor: SceneMotion,
        vehicle: Vehicle,
        action_low: Sequence[float],
        action_high: Sequence[float],
    ):
        super().__init__()
        self.view, self.predictor, self.vehicle = view, predictor, vehicle
        self.response = Response(len(action_low))
        self.register_buffer("action_low", torch.tensor(action_low, dtype=torch.float32), persistent=False)
        self.register_buffer("action_high", torch.tensor(action_high, dtype=torch.float32), persistent=False)
        width = view.encoder.latent_dim
        self.obstacle = nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, 1, 1))
        nn.init.constant_(self.obstacle[-1].bias, -3.0)  # about one cell in twenty has something in it

    @property
    def encoder(self) -> BevEncoder:
        """Of the view."""
        return self.view.encoder

    @property
    def area(self) -> Area:
        """Of the view."""
        return self.view.area

    def look(self, obs: Observation) -> Tensor:
        """What :class:`~worldjepa.encoders.bev_view.BevView` takes -> its latents (B,T,D,Y,X) with the length sqrt(D).

        Their directions are what was pre-trained, by cosines; lengths were left to themselves, and are hundreds of
        times the others' in a few cells. Where nothing was seen, a latent is zero.
        """
        latent = self.view(obs)
        return F.normalize(latent, dim=2) * latent.shape[2] ** 0.5

    def rollout(self, before: Tensor, now: Tensor, move: Tensor, steps: int) -> Tensor:
        """What the next steps will look like from where we are now.

        Args:
            before, now: (B,D,Y,X) of two frames in a row.
            move: (B,3) pose of the second in the first.

        Returns:
            (B,K,D,Y,X).
        """
        return self.predictor.rollout(self.area.carried(before, move), now, steps)

    def chance(self, latent: Tensor) -> Tensor:
        """Logits (...,Y,X) that something stands in a cell, from latents (...,D,Y,X)."""
        shape = latent.shape
        return self.obstacle(latent.flatten(0, -4)).view(*shape[:-3], *shape[-2:])

    def driven(self, felt: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Where plans lead.

        Args:
            felt: (...,2) speed and steering angle now.
            action: (...,K,A) raw.

        Returns:
            Poses (...,K,3) in the present frame, and speed and steering angle (...,K,2).
        """
        states = [felt]
        for step in range(action.shape[-2]):
            states.append(self.response(states[-1], action[..., step, :]))
        chain = torch.stack(states, -2)
        return chained(self.vehicle.moved(chain[..., :-1, :], chain[..., 1:, :])), chain[..., 1:, :]


class Imagined(NamedTuple):
    """What was predicted of clips, beside what came; K = T - 2 frames are predicted from the first two.

    Attributes:
        latent: (B,K,D,Y,X) as seen from where we came to, and ``logits`` (B,K,Y,X) that something stands in a cell.
        seen: (B,T,D,Y,X) latents of all frames, and ``standing``: bool (B,T,Y,X) whether something stood in a cell.
        poses: (B,K,3) where we came to, in the second frame.
        known: bool (B,K,Y,X) cells that were in view before.
    """

    latent: Tensor
    logits: Tensor
    seen: Tensor
    standing: Tensor
    poses: Tensor
    known: Tensor

    @property
    def wanted(self) -> Tensor:
        """(B,K,D,Y,X): what was seen where ``latent`` was predicted."""
        return self.seen[:, 2:]

    @property
    def obstacles(self) -> Tensor:
        """bool (B,K,Y,X): whether something stood there."""
        return self.standing[:, 2:]


def imagine(model: BevWorld, segment: Segment) -> Imagined:
    """What a model makes of clips."""
    felt = segment.observation["proprioception"].float()
    seen, standing = model.look(segment.observation), model.view.obstacles(segment.observation)
    moves = model.vehicle.moved(felt[:, :-1], felt[:, 1:])
    poses = chained(moves[:, 1:])
    ahead = model.rollout(seen[:, 0], seen[:, 1], moves[:, 0], poses.shape[1])
    latent, logits = _seen_from(model, ahead, poses)
    known = _carried(model, torch.ones_like(ahead[:, :, :1]), poses)[:, :, 0] > 0.99
    return Imagined(latent, logits, seen, standing, poses, known)


def nobody_moves(model: BevWorld, found: Imagined) -> tuple[Tensor, Tensor]:
    """``latent`` and ``logits`` of :class:`Imagined` by the guess that all stays as in the second frame."""
    return _seen_from(model, found.seen[:, 1:2].expand_as(found.latent), found.poses)


def _seen_from(model: BevWorld, latent: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
    """Latents (B,K,D,Y,X) of one frame and their logits (B,K,Y,X), as seen from ``poses`` (B,K,3) in it."""
    # The head only reads: latents stay what prediction makes of them.
    logits = model.chance(latent.detach())[:, :, None]
    return _carried(model, latent, poses), _carried(model, logits, poses)[:, :, 0]


def _carried(model: BevWorld, bev: Tensor, poses: Tensor) -> Tensor:
    return model.area.carried(bev.flatten(0, 1), poses.flatten(0, 1)).unflatten(0, poses.shape[:2])


class BevWorldSystem(nn.Module):
    """The model with what only training needs.

    Args:
        model: to be trained.
        weights: of the terms ``prediction``: squared error of latents in units of their mean square, ``obstacles``:
            cross-entropy of the cells in which something stands, of true and of predicted latents, and ``response``:
            error of speed and steering angle.

    Raises:
        ValueError: an unknown term.
    """

    def __init__(self, model: BevWorld, weights: Mapping[str, float]):
        super().__init__()
        if set(weights) != set(TERMS):
            raise ValueError(f"objective.weights: expected {', '.join(TERMS)}, got {', '.join(weights)}")
        self.model, self.weights = model, dict(weights)

    def forward(self, segment: Segment, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Name -> scalar of every term, and their weighted ``total``.

        Raises:
            ValueError: clips of fewer than three frames.
        """
        if segment.action.shape[1] < 2:
            raise ValueError("two frames are needed to see motion and a third to predict; set train.clip_frames >= 3")
        found = imagine(self.model, segment)
        apart = (found.latent - found.wanted).square().mean(2)
        losses = {
            "prediction": apart[found.known].mean() / found.wanted.square().mean().clamp_min(1e-6),
            "obstacles": F.binary_cross_entropy_with_logits(
                found.logits[found.known], found.obstacles[found.known].float()
            )
            + F.binary_cross_entropy_with_logits(self.model.chance(found.seen), found.standing.float()),
        }
        felt = segment.observation["proprioception"].float()
        said = self.model.response(felt[:, :-1], segment.action)
        losses["response"] = ((said - felt[:, 1:]) / self.model.response.scale).abs().mean()
        return {**losses, "total": sum(self.weights[name] * loss for name, loss in losses.items())}

    def update_target(self, progress: float) -> None:
        """The encoder is frozen: there is nothing to follow."""
