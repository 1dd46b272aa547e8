"""The arrays behind a run's figures: gathered once with the model at hand, drawn later without it.

``figures.npz`` holds, for M held-out frames, C roll-outs of H steps and every probe target ``<name>`` of width k:

- ``latent`` float32 (M, P*D): encoded held-out frames.
- ``state`` float32 (M,S): their simulator states.
- ``target/<name>`` float32 (M,k): the true quantities; ``probe/<name>`` the same as read by a linear probe that was
  trained on the training clips.
- ``rollout_real`` uint8 (C,H+1,height,width,3): recorded frames of held-out clips, frame 0 is where the model starts.
- ``rollout_retrieved`` uint8, same shape: for each imagined latent the training frame with the nearest latent; frame 0
  is retrieved for the encoded first frame, so it shows how exact retrieval itself is.
- ``rollout_target/<name>`` and ``rollout_retrieved_target/<name>`` float32 (C,H+1,k): their true quantities.

The ``rollout`` arrays are absent for models without pictures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldjepa.evaluation.probes import fit_linear
from worldjepa.evaluation.representation import ImaginedClips, ProbeTargets, encode_clips, imagine, named_targets
from worldjepa.files import written_whole
from worldjepa.types import Segment


def collect_figures(
    model,
    train: Segment,
    held_out: Segment,
    probe_targets: ProbeTargets,
    path: str | Path,
    *,
    num_rollouts: int = 6,
    max_points: int = 1500,
    batch_size: int = 128,
) -> Path:
    """Runs the model over the clips and writes the arrays listed above, whole or not at all.

    Args:
        model: a WorldModel.
        train: clips of training episodes, about 5,000 frames: the probes learn from them, retrieval chooses from them.
        held_out: clips of held-out episodes; roll-outs are shown for some of the quarter that changes most.
        probe_targets: states (..., S) -> name -> (..., k), such as an environment's ``probe_targets``.
        path: the ``.npz`` file to write.
        num_rollouts: how many clips to show.
        max_points: most frames to keep for scatter plots.
        batch_size: clips per forward pass.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"figures are stored as .npz, got {path.name!r}; name the file figures.npz")
    clips = imagine(model, held_out, batch_size=batch_size)
    pool = encode_clips(model, train, batch_size=batch_size).flatten(2).flatten(0, 1)
    pool_targets = named_targets(probe_targets, train.state)
    latent = clips.latent.flatten(2).flatten(0, 1).numpy()
    targets = named_targets(probe_targets, held_out.state)

    points = np.linspace(0, len(latent) - 1, min(max_points, len(latent))).round().astype(int)
    state = held_out.state.flatten(0, 1).cpu().numpy()
    arrays: dict[str, np.ndarray] = {"latent": latent[points], "state": state[points]}
    for name, target in targets.items():
        fitted = fit_linear(pool.numpy(), pool_targets[name])
        arrays[f"target/{name}"] = target[points]
        arrays[f"probe/{name}"] = fitted.predict(latent[points])
    if "pixels" in held_out.observation:
        shown = _choose_lively(clips.latent, num_rollouts)
        arrays.update(_rollouts(clips, shown, pool, train, held_out, targets, pool_targets))
    arrays = {name: x.astype(np.float32) if x.dtype.kind == "f" else x for name, x in arrays.items()}

    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as beside:
        np.savez_compressed(beside, **arrays)
    return path


def nearest(query: Tensor, pool: Tensor) -> Tensor:
    """Index (Q,) of the row of ``pool`` (N,D) nearest to each row of ``query`` (Q,D), by Euclidean distance."""
    return torch.cdist(query, pool).argmin(dim=1)


def _choose_lively(latent: Tensor, count: int) -> Tensor:
    """Indices of ``count`` clips out of the quarter that changes most: copying would do well on the others."""
    change = (latent[:, -1] - latent[:, 0]).square().flatten(1).sum(dim=1)
    lively = change.argsort(descending=True)[: max(count, len(latent) // 4)]
    return lively[torch.linspace(0, len(lively) - 1, min(count, len(lively))).round().long()]


def _rollouts(
    clips: ImaginedClips,
    shown: Tensor,
    pool: Tensor,
    train: Segment,
    held_out: Segment,
    targets: dict[str, np.ndarray],
    pool_targets: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    num_clips, num_steps = clips.latent.shape[:2]
    dreamt = torch.cat([clips.latent[shown, :1], clips.imagined[shown]], dim=1)
    found = nearest(dreamt.flatten(2).flatten(0, 1), pool).reshape(len(shown), num_steps)

    real_pixels = held_out.observation["pixels"][shown.to(held_out.state.device)]
    pool_pixels = train.observation["pixels"].flatten(0, 1)
    arrays = {
        "rollout_real": real_pixels.permute(0, 1, 3, 4, 2).cpu().numpy(),
        "rollout_retrieved": pool_pixels[found.to(pool_pixels.device)].permute(0, 1, 3, 4, 2).cpu().numpy(),
    }
    for name, target in targets.items():
        arrays[f"rollout_target/{name}"] = target.reshape(num_clips, num_steps, -1)[shown.numpy()]
        arrays[f"rollout_retrieved_target/{name}"] = pool_targets[name][found.numpy()]
    return arrays
