"""What frozen features of samples are good for: probes of classes and quantities, and dimensions in use."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from worldjepa.datasets.samples import Samples
from worldjepa.evaluation.fitting import fit
from worldjepa.evaluation.rankme import rankme
from worldjepa.systems.masked import TokenModel
from worldjepa.types import Observation

SAMPLES_FILE, SAMPLES_FIGURES = "samples.json", "sample_figures.npz"
PROBES = ("linear", "svm", "knn")
BATCH = 256
"""Samples that are encoded at once."""
MOST_RAW = 512
"""Of more raw numbers than this a probe gets the principal components."""
COLLAPSED = 1.5
"""A RankMe below this means that all samples have nearly the same features."""


def linear_probe_accuracy(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor
) -> float:
    """Held-out accuracy in [0, 1] of logistic regression (L2, C = 1) on standardised features.

    Args:
        train_features, test_features: (N,D); scaled by the training part's mean and standard deviation.
        train_labels, test_labels: int (N,).
    """
    return probe_score("linear", train_features, train_labels, test_features, test_labels)


def probe_score(
    kind: str, train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor
) -> float:
    """Held-out accuracy in [0, 1] for classes (int labels), R2 for a quantity (float labels), of standardised features.

    Args:
        kind: ``linear`` (logistic or ridge regression), ``svm`` (a linear one, C by cross-validation, as point-cloud
            work has it) or ``knn`` (20 nearest by the cosine, all where there are fewer).
        train_features, test_features: (N,D); scaled by the training part's mean and standard deviation.
        train_labels, test_labels: (N,).

    Returns:
        NaN where all samples to learn from are of one class: there is nothing to tell apart.

    Raises:
        ValueError: an unknown kind, or features that are no numbers.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if kind not in PROBES:
        raise ValueError(f"probe must be one of {', '.join(PROBES)}, got {kind!r}")
    if not torch.isfinite(train_features).all() or not torch.isfinite(test_features).all():
        raise ValueError("features must be finite, got NaN or infinity; the encoder has diverged")
    if not train_labels.is_floating_point() and len(train_labels.unique()) < 2:
        return float("nan")
    probe = make_pipeline(StandardScaler(), _reader(kind, train_labels))
    probe.fit(train_features.double().numpy(), train_labels.numpy())
    return float(probe.score(test_features.double().numpy(), test_labels.numpy()))


def _reader(kind: str, labels: Tensor):
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.svm import SVC, SVR

    quantity, count = labels.is_floating_point(), len(labels)
    if kind == "linear":
        return RidgeCV(np.logspace(-2, 4, 13)) if quantity else LogisticRegression(max_iter=2000)
    if kind == "svm":
        machine = (SVR if quantity else SVC)(kernel="linear")
        folds = min(3, count if quantity else int(labels.unique(return_counts=True)[1].min()))
        # With one sample of a class there is nothing to choose C by.
        return GridSearchCV(machine, {"C": [0.001, 0.01, 0.1, 1.0]}, cv=folds) if folds > 1 else machine
    # Of features of length 1 the Euclidean order is the cosine's; the scaler stands before, which the order survives.
    return (KNeighborsRegressor if quantity else KNeighborsClassifier)(min(20, count), metric="cosine")


def alpha_req(features: Tensor) -> float:
    """Exponent a of the power law that the covariance's eigenvalues (N,D) follow, lambda_i ~ i^-a (arXiv:2202.05808).

    Fitted by least squares to logarithms, over the eigenvalues that are above a millionth of the first. Near 1 has been
    found best in natural vision; much more means few directions in use.
    """
    values = eigenvalues(features)
    values = values[values > 1e-6 * values[0]]
    if len(values) < 2:
        return float("inf")
    return float(-np.polyfit(np.log(np.arange(1, len(values) + 1)), np.log(values), 1)[0])


def eigenvalues(features: Tensor) -> np.ndarray:
    """Of the covariance of (N,D), descending."""
    centred = features.double() - features.double().mean(0)
    return (torch.linalg.svdvals(centred) ** 2 / len(features)).numpy()


@torch.no_grad()
def encode_samples(model: TokenModel, observation: Observation, part: str | None = None) -> Tensor:
    """Features (N,F) of samples, or of a slice of their latents, on the CPU, in evaluation mode."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    count = len(next(iter(observation.values())))
    found = [
        model.features({name: x[start : start + BATCH].to(device) for name, x in observation.items()}, part).cpu()
        for start in range(0, count, BATCH)
    ]
    model.train(was_training)
    return torch.cat(found)


def measure_features(
    model: TokenModel, train: Samples, held_out: Samples, probes: tuple[str, ...] = ("linear",)
) -> dict[str, float]:
    """Light enough to be measured while training.

    Returns:
        ``<probe>`` of every kind asked for, see :func:`probe_score`, and ``rankme`` and ``alpha_req`` of the training
        features. RankMe compares runs of one method only.
    """
    features = encode_samples(model, train.observation), encode_samples(model, held_out.observation)
    scores = {kind: probe_score(kind, features[0], train.labels, features[1], held_out.labels) for kind in probes}
    return {**scores, "rankme": rankme(features[0]), "alpha_req": alpha_req(features[0])}


def raw_score(kind: str, model: TokenModel, train: Samples, held_out: Samples) -> float:
    """Of a probe that is given the tokens' contents themselves, or their principal components where they are many."""
    parts = [_contents(model, part.observation) for part in (train, held_out)]
    used = parts[0].std(0) > 0
    parts = [part[:, used] for part in parts]
    if parts[0].shape[1] > MOST_RAW:
        from sklearn.decomposition import PCA

        components = PCA(min(MOST_RAW, len(parts[0])), svd_solver="randomized", random_state=0)
        components.fit(parts[0].numpy())
        # A probe scales all its numbers alike, so that directions of rounding errors would count as much as any.
        kept = components.explained_variance_ > 1e-6 * components.explained_variance_[0]
        parts = [torch.from_numpy(components.transform(part.numpy())[:, kept]) for part in parts]
    return probe_score(kind, parts[0], train.labels, parts[1], held_out.labels)


@torch.no_grad()
def _contents(model: TokenModel, observation: Observation) -> Tensor:
    """(N,P * token_dim), zeros where there is no token."""
    device, found = next(model.parameters()).device, []
    for start in range(0, len(next(iter(observation.values()))), BATCH):
        tokens = model.tokenizer({name: x[start : start + BATCH].to(device) for name, x in observation.items()})
        kept = (tokens.valid & ~tokens.pinned)[..., None]
        found.append((tokens.values * kept).flatten(1).float().cpu())
    return torch.cat(found)


def finetuned_score(
    model: TokenModel, train: Samples, held_out: Samples, settings: Mapping[str, float], seed: int = 0
) -> float:
    """As :func:`probe_score`, of a copy of the encoder and a linear head that learn from labels together.

    Args:
        model: pre-trained, or new: trained from scratch with the same budget. It stays as it is.
        settings: ``steps``, ``batch_size`` and ``learning_rate`` (AdamW, falling to 0 by a cosine).
        seed: of the head's weights and the batches.
    """
    device = next(model.parameters()).device
    model = copy.deepcopy(model).train()
    quantity = train.labels.is_floating_point()
    labels = train.labels
    if quantity:
        mean, std = labels.mean(), labels.std().clamp_min(1e-6)
        labels = (labels - mean) / std
    width = encode_samples(model, train[:2].observation).shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Linear(width, 1 if quantity else int(labels.max()) + 1).to(device)

    def loss(index: Tensor) -> Tensor:
        found = head(model.features({name: x[index].to(device) for name, x in train.observation.items()}))
        asked = labels[index].to(device)
        if quantity:
            return nn.functional.mse_loss(found[:, 0], asked)
        return nn.functional.cross_entropy(found, asked)

    fit(
        [*model.tokenizer.parameters(), *model.encoder.parameters(), *head.parameters()],
        loss,
        len(train),
        steps=int(settings["steps"]),
        batch_size=int(settings["batch_size"]),
        learning_rate=settings["learning_rate"],
        seed=seed,
        weight_decay=0.05,
    )
    with torch.no_grad():
        found = head(encode_samples(model, held_out.observation).to(device)).cpu()
    if quantity:
        error = (found[:, 0] * std + mean - held_out.labels).square().mean()
        return float(1 - error / held_out.labels.var(correction=0))
    return float((found.argmax(1) == held_out.labels).float().mean())


def measure_samples(
    model: TokenModel, untrained: TokenModel, train: Samples, held_out: Samples, settings: Mapping
) -> dict[str, float]:
    """The judgement of a run that learned from samples.

    Args:
        model: trained, and ``untrained``: with the weights that it started from.
        train, held_out: whose labels probes are fitted on, and scored on.
        settings: ``probe``, the kind that counts, ``also``, others that are wanted, and ``finetuning``, see
            :func:`finetuned_score`, left out by 0 steps.

    Returns:
        ``probe`` and ``random_probe`` of the two, ``raw_probe`` of the tokens' contents, ``knn`` and ``random_knn``,
        and as much of all that is ``also`` wanted, ``rankme``, ``alpha_req`` of both, and where it was asked for
        ``finetuned`` and ``scratch``. Where the model has slices, ``<slice>_probe`` of each alone.
    """
    kind, also = str(settings["probe"]), tuple(dict.fromkeys(("knn", *settings.get("also", ()))))
    found: dict[str, float] = {}
    for prefix, one in (("", model), ("random_", untrained)):
        measured = measure_features(one, train, held_out, tuple(dict.fromkeys((kind, *also))))
        found[f"{prefix}probe"] = measured[kind]
        found |= {f"{prefix}{name}": measured[name] for name in (*also, "rankme", "alpha_req")}
    for part in model.slices:
        features = [encode_samples(model, some.observation, part) for some in (train, held_out)]
        found[f"{part}_probe"] = probe_score(kind, features[0], train.labels, features[1], held_out.labels)
    found["raw_probe"] = raw_score(kind, model, train, held_out)
    if settings["finetuning"]["steps"]:
        found["finetuned"] = finetuned_score(model, train, held_out, settings["finetuning"])
        found["scratch"] = finetuned_score(untrained, train, held_out, settings["finetuning"])
    return found
