"""What a world model's latents know and how well it predicts them, on held-out clips; light enough to run in training.

All errors are ratios, so they compare across encoders whose latents have different scales.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldjepa.evaluation.probes import fit_linear, probe, score
from worldjepa.evaluation.rankme import rankme
from worldjepa.types import Segment

ProbeTargets = Callable[[np.ndarray], dict[str, np.ndarray]]
"""States (..., S) -> name -> (..., k); an environment's ``probe_targets``."""


@dataclass
class ImaginedClips:
    """Clips as encoded and as imagined from their first frame.

    Attributes:
        latent: float32 (B,T,P,D) encoded frames, on the CPU.
        imagined: float32 (B,T-1,P,D) roll-out from frame 0 with the recorded actions; ``imagined[:, h - 1]``
            estimates ``latent[:, h]``.
        misled: the same roll-out with another clip's actions, or None when not asked for.
    """

    latent: Tensor
    imagined: Tensor
    misled: Tensor | None


@torch.no_grad()
def imagine(model, clips: Segment, *, wrong_action: Tensor | None = None, batch_size: int = 128) -> ImaginedClips:
    """Encodes clips and rolls the model out from each first frame with the recorded actions.

    The model is run in evaluation mode on the device it lives on, and put back into the mode it was in.

    Args:
        model: a WorldModel (``encode``, ``rollout``, ``normalize_action``).
        clips: B clips of T >= 2 steps, on any device.
        wrong_action: (B,T-1,A) in the environment's units, to be tried beside the true ones.
        batch_size: clips per forward pass.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    latents, imagined, misled = [], [], []
    try:
        for start in range(0, len(clips.action), batch_size):
            rows = slice(start, start + batch_size)
            observation = {name: value[rows].to(device) for name, value in clips.observation.items()}
            latent = model.encode(observation)
            choices = [clips.action[rows]] + ([] if wrong_action is None else [wrong_action[rows]])
            # (B,N,H,A): true and wrong actions are two candidate plans of one roll-out
            plans = torch.stack([model.normalize_action(action.to(device)) for action in choices], dim=1)
            no_past = plans[:, 0, :0]
            outcome = model.rollout(latent[:, :1], no_past, plans)
            latents.append(latent.float().cpu())
            imagined.append(outcome[:, 0].float().cpu())
            if wrong_action is not None:
                misled.append(outcome[:, 1].float().cpu())
    finally:
        model.train(was_training)
    return ImaginedClips(torch.cat(latents), torch.cat(imagined), torch.cat(misled) if misled else None)


def measure_representation(
    model,
    train: Segment,
    held_out: Segment,
    probe_targets: ProbeTargets,
    *,
    seed: int = 0,
    batch_size: int = 128,
) -> dict[str, float]:
    """Measures latents and predictions on held-out clips; a few hundred clips on each side are enough.

    Args:
        model: a WorldModel.
        train: clips of training episodes; only the probes are trained on them.
        held_out: clips of held-out episodes, at least 2 of T >= 2 steps.
        probe_targets: states (..., S) -> named quantities, such as an environment's ``probe_targets``.
        seed: of the shuffled actions and of the MLP probe.

    Returns:
        - ``rollout_over_copy/<h>``, h = 1..T-1: squared error of the roll-out from the first frame with the recorded
          actions, h model steps ahead, over that of assuming that nothing changes. Below 1 is better than copying.
        - ``action_sensitivity``: squared error with another clip's actions over that with the true ones, all
          horizons together. 1 means that the model ignores actions.
        - ``rankme``: effective number of dimensions that the latents use, 1 to P*D.
        - ``linear/...`` and ``mlp/...``: see :func:`worldjepa.evaluation.probes.probe`.
        - ``imagined/<target>/...``: the linear probe read off the *imagined* latent at the last horizon.
    """
    num_clips, num_steps = held_out.state.shape[:2]
    if num_clips < 2 or num_steps < 2:
        raise ValueError(
            f"measuring a representation needs at least 2 held-out clips of at least 2 steps, got {num_clips} clips "
            f"of {num_steps}; sample more or longer windows"
        )
    wrong_action = held_out.action[_derangement(num_clips, seed)]
    clips = imagine(model, held_out, wrong_action=wrong_action, batch_size=batch_size)
    assert clips.misled is not None
    truth, first = clips.latent[:, 1:], clips.latent[:, :1]
    error = (clips.imagined - truth).square().mean(dim=(0, 2, 3))
    copy_error = (first - truth).square().mean(dim=(0, 2, 3)).clamp_min(1e-12)
    misled_error = (clips.misled - truth).square().mean()
    results = {f"rollout_over_copy/{h + 1}": float(ratio) for h, ratio in enumerate(error / copy_error)}
    results["action_sensitivity"] = float(misled_error / error.mean().clamp_min(1e-12))

    test_latent = _flat(clips.latent)
    results["rankme"] = float(rankme(torch.from_numpy(test_latent)))
    train_latent = _flat(encode_clips(model, train, batch_size=batch_size))
    train_targets, test_targets = (
        named_targets(probe_targets, train.state),
        named_targets(probe_targets, held_out.state),
    )
    results.update(probe(train_latent, train_targets, test_latent, test_targets, seed=seed))

    last_imagined = _flat(clips.imagined[:, -1:])
    last_targets = named_targets(probe_targets, held_out.state[:, -1:])
    for name, target in last_targets.items():
        fitted = fit_linear(train_latent, train_targets[name])
        for key, value in score(name, fitted.predict(last_imagined), target).items():
            results[f"imagined/{name}/{key}"] = value
    return results


@torch.no_grad()
def encode_clips(model, clips: Segment, *, batch_size: int = 128) -> Tensor:
    """Latents float32 (B,T,P,D) of clips, on the CPU, encoded in evaluation mode."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        batches = [
            model.encode({name: value[i : i + batch_size].to(device) for name, value in clips.observation.items()})
            for i in range(0, len(clips.action), batch_size)
        ]
    finally:
        model.train(was_training)
    return torch.cat([latent.float().cpu() for latent in batches])


def named_targets(probe_targets: ProbeTargets, state: Tensor) -> dict[str, np.ndarray]:
    """Probe targets of states (B,T,S), flattened over clips and time: name -> (B*T,k)."""
    flat_state = state.reshape(-1, state.shape[-1]).cpu().double().numpy()
    return {name: np.asarray(value, np.float64) for name, value in probe_targets(flat_state).items()}


def _flat(latent: Tensor) -> np.ndarray:
    """(B,T,P,D) -> float32 (B*T, P*D)."""
    return latent.flatten(2).flatten(0, 1).numpy()


def _derangement(count: int, seed: int) -> Tensor:
    """A permutation of ``range(count)`` without fixed points: each clip gets some other clip's actions."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    permutation = torch.empty_like(order)
    permutation[order] = order.roll(1)
    return permutation
