"""What is known after learning from views of things: what they are, and how one view relates to another.

Two properties are measured apart (seq-JEPA, arXiv:2505.03176; SIE, arXiv:2302.10283): *invariance*, the class of a
thing read off a latent by a linear classifier, and *equivariance*, the relation of two views (a rotation, a change of
hue, a saccade) read off the pair of their latents by a small network. Probes are fitted on views of training things and
scored on held-out ones; the model is frozen and in eval mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from worldjepa.datasets.splits import split_episodes
from worldjepa.datasets.store import EpisodeStore
from worldjepa.evaluation.frozen import linear_probe_accuracy
from worldjepa.evaluation.probes import r2

VIEWS_FILE = "views.json"
WINDOWS_PER_THING = 3
"""Sequences of each thing on which class probes are fitted, where there are as many."""
PATH_LENGTH = 3
"""Views of a path that is integrated: two actions (METHODS of the paper: two steps)."""
NUM_PATHS = 6
"""Paths per thing."""


class ViewWorld(Protocol):
    """What the measures ask of an environment of views, beside :class:`worldjepa.types.GoalEnv`.

    ``state_names`` holds ``label_name``, a whole number that says what class the thing is of.
    """

    state_names: tuple[str, ...]
    label_name: str

    def relations(self, state: np.ndarray, other: np.ndarray) -> dict[str, np.ndarray]:
        """States (..., S), (..., S) -> name -> (..., k): how the second view differs from the first."""


@dataclass(frozen=True)
class Views:
    """L views each of E things, as a frozen model sees them.

    Attributes:
        latent: float32 (E,L,D), what the encoder is used for (before the projector where there is one).
        action: float32 (E,L-1,A) normalised, between them.
        state: float64 (E,L,S).
        episodes: int64 (E,), of the store.
        groups: name of each thing; several episodes may show one.
    """

    latent: Tensor
    action: Tensor
    state: np.ndarray
    episodes: np.ndarray
    groups: list[str]

    def __len__(self) -> int:
        return len(self.latent)


@torch.no_grad()
def encode_views(model: nn.Module, store: EpisodeStore, split: str, policy: str, num_views: int) -> Views:
    """Encodes the first whole episodes of a split, each of them views of one thing, a step apart.

    Args:
        model: a WorldModel; put into eval mode and back.
        split: ``train``, ``held_out`` or ``all``.
        policy: of the episodes.
        num_views: about as many, in all; whole episodes, two at least.

    Raises:
        ValueError: fewer than two such episodes, or an encoder with several tokens per view.
    """
    chosen = split_episodes(store, split, [policy])
    length = int(store.lengths[chosen].min(initial=10**9))
    chosen = chosen[: max(2, num_views // max(length, 1))]
    if len(chosen) < 2:
        raise ValueError(f"{store.path} has {len(chosen)} episodes of {policy!r} in split {split}; collect more")
    if model.num_tokens != 1:
        raise ValueError(f"views are measured by one latent each, and this encoder gives {model.num_tokens} tokens")
    device = next(model.parameters()).device
    represent = getattr(model.encoder, "represent", model.encode)
    was_training, parts = model.training, []
    model.eval()
    try:
        for some in np.array_split(chosen, -(-len(chosen) // 64)):
            arrays = [store.episode(int(index)).arrays for index in some]
            pixels = torch.from_numpy(np.stack([a["pixels"][:length] for a in arrays])).movedim(-1, 2)
            parts.append(represent({"pixels": pixels.to(device)})[:, :, 0].float().cpu())
    finally:
        model.train(was_training)
    actions = np.stack([store.episode(int(index)).arrays["action"][: length - 1] for index in chosen])
    state = np.stack([store.episode(int(index)).arrays["state"][:length] for index in chosen])
    action = model.normalize_action(torch.from_numpy(actions).to(device)).cpu()
    groups = [store.groups[index] for index in chosen]
    return Views(torch.cat(parts), action, state.astype(np.float64), chosen, groups)


def measure_views(
    model: nn.Module,
    world: ViewWorld,
    train: Views,
    held_out: Views,
    beyond: Views | None = None,
    *,
    lengths: Sequence[int] = (1, 2, 3, 5),
    seed: int = 0,
) -> dict[str, float]:
    """Probes a frozen model on views of things it has never seen.

    Args:
        model: a WorldModel; where its predictor has ``aggregate``, that latent is measured too.
        train, held_out: of :func:`encode_views`.
        beyond: views outside of the range of those trained on, such as rotations past a quarter turn.
        lengths: numbers of views that the aggregate sees.
        seed: of the probes' weights and batches.

    Returns:
        - ``accuracy/encoder`` of one view, ``accuracy/aggregate/<n>`` of n views, in [0, 1]; beside it, as a control,
          ``accuracy/mean/<n>`` of the mean of n views' latents, which needs no aggregator.
        - ``r2/encoder/<relation>`` of pairs of views, ``r2/aggregate/<relation>`` of the aggregates of each view alone,
          ``r2/beyond/<relation>`` of the encoder's pairs among ``beyond``, by the same probe.
        - ``path/<given>/<relation>``: R2 of the relation of the last of three views to the first, read off their
          aggregate, with ``vision_and_action``; ``action_only``, where every view is one of another thing, so that
          looking says nothing; ``no_action``, where every action is the mean one; and ``action_alone``, where every
          view's latent is the mean one: nothing hides the actions from the probe.
    """
    results: dict[str, float] = {}
    column = world.state_names.index(world.label_name)
    labels, test_labels = (torch.from_numpy(v.state[:, 0, column]).round().long() for v in (train, held_out))

    def accuracy(features: Tensor, test_features: Tensor) -> float:
        per_thing, test_per_thing = features.shape[1], test_features.shape[1]
        return linear_probe_accuracy(
            features.flatten(0, 1),
            labels.repeat_interleave(per_thing),
            test_features.flatten(0, 1),
            test_labels.repeat_interleave(test_per_thing),
        )

    pairs, test_pairs = _pairs(train), _pairs(held_out)
    targets = world.relations(*_states_of(train, pairs))
    test_targets = world.relations(*_states_of(held_out, test_pairs))
    probe = fit_relations(_features_of(train.latent, pairs), targets, seed)
    results |= _scores("r2/encoder", probe, _features_of(held_out.latent, test_pairs), test_targets)
    if beyond is not None:
        far = _pairs(beyond)
        far_targets = world.relations(*_states_of(beyond, far))
        results |= _scores("r2/beyond", probe, _features_of(beyond.latent, far), far_targets)
    means = {
        length: accuracy(*(_windows(views, length, _mean_latent) for views in (train, held_out)))
        for length in {1, *lengths}
    }
    results["accuracy/encoder"] = means[1]
    results |= {f"accuracy/mean/{length}": means[length] for length in lengths}
    if not hasattr(model.predictor, "aggregate"):
        return results
    if hasattr(model.encoder, "represent"):
        raise ValueError("an aggregate is of the latents that the loss sees; use an encoder without a projector")
    for length in lengths:
        seen = (_windows(views, length, partial(aggregates, model)) for views in (train, held_out))
        results[f"accuracy/aggregate/{length}"] = accuracy(*seen)
    alone, test_alone = (
        torch.stack([aggregates(model, view[:, None], views.action[:, :0]) for view in views.latent.unbind(1)], 1)
        for views in (train, held_out)
    )
    probe = fit_relations(_features_of(alone, pairs), targets, seed)
    results |= _scores("r2/aggregate", probe, _features_of(test_alone, test_pairs), test_targets)
    return results | _integrate_paths(model, world, train, held_out, seed)


@torch.no_grad()
def aggregates(model: nn.Module, latent: Tensor, action: Tensor) -> Tensor:
    """(M,n,D), (M,n-1,A) -> (M, aggregate_dim) on the CPU, in eval mode."""
    device = next(model.parameters()).device
    was_training, parts = model.training, []
    model.eval()
    try:
        for views, between in zip(latent.split(4096), action.split(4096), strict=True):
            parts.append(model.predictor.aggregate(views[:, :, None].to(device), between.to(device)).float().cpu())
    finally:
        model.train(was_training)
    return torch.cat(parts)


class RelationProbe:
    """A small network from features (N,F) to all relations at once; see :func:`fit_relations`."""

    def __init__(self, net: nn.Module, moments: tuple[Tensor, ...], sizes: dict[str, int]):
        self._net, self._moments, self._sizes = net, moments, sizes

    @torch.no_grad()
    def predict(self, features: Tensor) -> dict[str, np.ndarray]:
        """(N,F) -> name -> (N,k), in the relation's unit."""
        mean, std, target_mean, target_std = self._moments
        said = self._net((features - mean) / std) * target_std + target_mean
        parts = said.split(list(self._sizes.values()), -1)
        return {name: part.numpy() for name, part in zip(self._sizes, parts, strict=True)}


def fit_relations(
    features: Tensor,
    targets: dict[str, np.ndarray],
    seed: int,
    *,
    width: int = 256,
    steps: int = 800,
    epochs: int = 20,
    batch_size: int = 512,
    noise: float = 0.2,
) -> RelationProbe:
    """Fits an MLP with two hidden layers by AdamW (rate 1e-3, cosine), on standardised features with noise on them.

    Args:
        features: (N,F).
        targets: name -> (N,k).
        seed: of weights, batches and noise.
        steps: at most, and no more than ``epochs`` passes over the samples.
        noise: standard deviation; without it a probe learns the training things by heart.
    """
    steps = max(1, min(steps, epochs * len(features) // batch_size))
    generator = torch.Generator().manual_seed(seed)
    sizes = {name: value.shape[-1] for name, value in targets.items()}
    wanted = torch.from_numpy(np.concatenate(list(targets.values()), -1)).float()
    moments = (*_mean_and_std(features), *_mean_and_std(wanted))
    mean, std, target_mean, target_std = moments
    wanted = (wanted - target_mean) / target_std
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(features.shape[-1], width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, wanted.shape[-1]),
        )
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with torch.enable_grad():
        for _ in range(steps):
            rows = torch.randint(len(features), (batch_size,), generator=generator)
            x = (features[rows] - mean) / std
            x = x + noise * torch.randn(x.shape, generator=generator)
            loss = nn.functional.mse_loss(net(x), wanted[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return RelationProbe(net, moments, sizes)


def nearest_views(model: nn.Module, views: Views, num_queries: int = 6, num_nearest: int = 5) -> dict[str, np.ndarray]:
    """The views of *other* things whose latents are nearest (by cosine) to those of a few.

    Returns:
        name -> int64 (num_queries, 1 + num_nearest, 2): (thing, view) of the query and of its neighbours, for
        ``encoder`` and, where there is one, ``aggregate`` (of two views; the first is shown).
    """
    found = {"encoder": _neighbours(views.latent, views.groups, num_queries, num_nearest)}
    if hasattr(model.predictor, "aggregate"):
        length = min(2, views.latent.shape[1])
        starts = views.latent.shape[1] - length + 1
        windows = [
            aggregates(model, views.latent[:, s : s + length], views.action[:, s : s + length - 1])
            for s in range(starts)
        ]
        found["aggregate"] = _neighbours(torch.stack(windows, 1), views.groups, num_queries, num_nearest)
    return found


def _neighbours(latent: Tensor, groups: list[str], num_queries: int, num_nearest: int) -> np.ndarray:
    """(E,L,D) -> int64 (num_queries, 1 + num_nearest, 2)."""
    things, length = latent.shape[:2]
    flat = latent.flatten(0, 1)
    flat = nn.functional.normalize(flat - flat.mean(0), dim=-1)
    queries = torch.arange(min(num_queries, things)) * (things // min(num_queries, things)) * length
    likeness = flat[queries] @ flat.T
    own = torch.from_numpy(np.unique(groups, return_inverse=True)[1]).repeat_interleave(length)
    likeness[own[queries][:, None] == own[None]] = -np.inf
    nearest = torch.cat([queries[:, None], likeness.topk(num_nearest, -1).indices], 1)
    return torch.stack([nearest // length, nearest % length], -1).numpy()


def _integrate_paths(model, world: ViewWorld, train: Views, held_out: Views, seed: int) -> dict[str, float]:
    mean_latent, mean_action = train.latent.mean((0, 1)), train.action.mean((0, 1))
    generator = torch.Generator().manual_seed(seed)

    def shuffled(z: Tensor) -> Tensor:
        return torch.stack([view[torch.randperm(len(z), generator=generator)] for view in z.unbind(1)], 1)

    given = {
        "vision_and_action": lambda z, a: (z, a),
        "action_only": lambda z, a: (shuffled(z), a),
        "no_action": lambda z, a: (z, mean_action.expand_as(a)),
        "action_alone": lambda z, a: (mean_latent.expand_as(z), a),
    }
    paths = []  # (latents and actions from every start, relations): these are the same whatever is given
    for views in (train, held_out):
        starts = _starts(views, PATH_LENGTH, NUM_PATHS)
        pieces = [(views.latent[:, s : s + PATH_LENGTH], views.action[:, s : s + PATH_LENGTH - 1]) for s in starts]
        first, last = (np.concatenate(views.state[:, np.add(starts, k)]) for k in (0, PATH_LENGTH - 1))
        paths.append((pieces, world.relations(first, last)))
    (_, targets), (_, test_targets) = paths
    results = {}
    for name, change in given.items():
        features, test_features = (
            torch.stack([aggregates(model, *change(*piece)) for piece in pieces], 1).flatten(0, 1)
            for pieces, _ in paths
        )
        results |= _scores(f"path/{name}", fit_relations(features, targets, seed), test_features, test_targets)
    return results


def _scores(name: str, probe: RelationProbe, features: Tensor, targets: dict[str, np.ndarray]) -> dict[str, float]:
    said = probe.predict(features)
    return {f"{name}/{key}": float(r2(said[key], target).mean()) for key, target in targets.items()}


def _starts(views: Views, length: int, count: int) -> list[int]:
    """Where ``count`` sequences of ``length`` views begin, spread evenly; fewer where there are not so many."""
    last = views.latent.shape[1] - length
    if last < 0:
        raise ValueError(
            f"sequences of {length} views were asked for, but there are {last + length} of each thing; "
            "set views.lengths, or collect longer episodes (env.collect.num_frames)"
        )
    return sorted({round(x) for x in np.linspace(0, last, count)})


def _windows(views: Views, length: int, latent_of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(E,W,F): what ``latent_of`` (E,length,D), (E,length-1,A) says of W sequences of views per thing."""
    starts = _starts(views, length, WINDOWS_PER_THING)
    return torch.stack(
        [latent_of(views.latent[:, s : s + length], views.action[:, s : s + length - 1]) for s in starts], 1
    )


def _mean_latent(latent: Tensor, action: Tensor) -> Tensor:
    return latent.mean(1)


def _pairs(views: Views) -> tuple[Tensor, Tensor, Tensor]:
    """Thing, first and second view of every ordered pair, each (N,)."""
    things, length = views.latent.shape[:2]
    first, second = (~torch.eye(length, dtype=torch.bool)).nonzero().T
    thing = torch.arange(things).repeat_interleave(len(first))
    return thing, first.repeat(things), second.repeat(things)


def _features_of(latent: Tensor, pairs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """(E,L,F) -> (N,2F)."""
    thing, first, second = pairs
    return torch.cat([latent[thing, first], latent[thing, second]], -1)


def _states_of(views: Views, pairs: tuple[Tensor, Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    thing, first, second = (index.numpy() for index in pairs)
    return views.state[thing, first], views.state[thing, second]


def _mean_and_std(x: Tensor) -> tuple[Tensor, Tensor]:
    std = x.std(0)
    return x.mean(0), torch.where(std > 1e-6, std, torch.ones_like(std))


def summary_of(results: dict[str, Any], lengths: Sequence[int]) -> str:
    """A few plain lines."""
    lines = [f"encoder: class accuracy {results['accuracy/encoder']:.3f}; " + _relations(results, "r2/encoder")]
    if f"accuracy/aggregate/{lengths[0]}" in results:
        accuracies = ", ".join(f"{results[f'accuracy/aggregate/{n}']:.3f} of {n}" for n in lengths)
        lines.append(f"aggregate: class accuracy by views {accuracies}; " + _relations(results, "r2/aggregate"))
        for given in ("vision_and_action", "action_only", "no_action"):
            lines.append(f"path of two actions, {given.replace('_', ' ')}: " + _relations(results, f"path/{given}"))
    return "\n".join(lines)


def _relations(results: dict[str, Any], prefix: str) -> str:
    found = {key.removeprefix(f"{prefix}/"): value for key, value in results.items() if key.startswith(f"{prefix}/")}
    return ", ".join(f"R2 of {name.replace('_', ' ')} {value:.3f}" for name, value in found.items())
