"""How well a linear classifier reads classes off frozen features."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from worldjepa.datasets.images import LabelledImages
from worldjepa.evaluation.rankme import rankme


def linear_probe_accuracy(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor
) -> float:
    """Held-out accuracy in [0, 1] of logistic regression (L2, C = 1) on standardised features.

    Args:
        train_features, test_features: (N,D); scaled by the training part's mean and standard deviation.
        train_labels, test_labels: int (N,).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not torch.isfinite(train_features).all() or not torch.isfinite(test_features).all():
        raise ValueError("features must be finite, got NaN or infinity; the encoder has diverged")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    probe.fit(train_features.double().numpy(), train_labels.numpy())
    return float(probe.score(test_features.double().numpy(), test_labels.numpy()))


@torch.no_grad()
def probe_encoder(
    features: Callable[[Tensor], Tensor], train: LabelledImages, held_out: LabelledImages
) -> dict[str, float]:
    """``probe_accuracy`` of a linear classifier on frozen features, and ``rankme`` of the training features.

    Args:
        features: pixels uint8 (N,channels,height,width) -> (N,D).
    """
    train_features, held_out_features = features(train.pixels), features(held_out.pixels)
    return {
        "probe_accuracy": linear_probe_accuracy(train_features, train.labels, held_out_features, held_out.labels),
        "rankme": rankme(train_features),
    }
