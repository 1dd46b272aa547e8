"""How well a linear classifier reads classes off frozen features."""

from __future__ import annotations

import torch
from torch import Tensor


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
