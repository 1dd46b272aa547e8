"""What latents of a table's rows are worth beside its columns: readers that are not linear, and trees."""

from __future__ import annotations

import numpy as np
import torch

from worldjepa.datasets.samples import Samples
from worldjepa.evaluation.frozen import encode_samples
from worldjepa.systems.masked import TokenModel
from worldjepa.types import Observation

WEIGHT_DECAYS = (0.01, 1.0, 10.0)
"""Of the MLP (scikit-learn's ``alpha``), the best of which is found by cross-validation among the rows to learn from:
without much of it, one that reads diabetes' 10 columns fits noise, and with much of it none knows a product."""


def measure_readers(
    model: TokenModel, untrained: TokenModel, train: Samples, held_out: Samples, seed: int, hidden: int = 64
) -> dict[str, float]:
    """Held-out accuracy of classes, or R2 of a quantity, of readers that learn from labels.

    Args:
        model, untrained: after and before its training, with a :class:`worldjepa.tokenizers.table.TableTokenizer`; they
            stay as they are.
        train, held_out: rows with labels to learn from, and to be scored on.
        seed: of the readers.
        hidden: width of the hidden layer of the MLP, which is scikit-learn's but for ``WEIGHT_DECAYS``.

    Returns:
        - ``mlp_features`` of the model's features and ``random_mlp_features`` of the untrained model's; with
          ``pool: flat`` the latents of all columns side by side, as the paper's readers get them (arXiv:2410.05016),
        - ``mlp_raw`` of the columns themselves, standardised or one-hot,
        - ``boosted_raw`` of gradient-boosted trees on the columns as they are.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    parts = train.observation, held_out.observation
    inputs = {
        "mlp_features": [encode_samples(model, part).numpy() for part in parts],
        "random_mlp_features": [encode_samples(untrained, part).numpy() for part in parts],
        "mlp_raw": [_columns(model, part) for part in parts],
    }
    labels, held_out_labels = train.labels.numpy(), held_out.labels.numpy()
    quantity = train.labels.is_floating_point()
    found = {}
    for name, (features, held_out_features) in inputs.items():
        reader = _mlp(quantity, hidden, seed).fit(features, labels)
        found[name] = float(reader.score(held_out_features, held_out_labels))
    boosted = HistGradientBoostingRegressor if quantity else HistGradientBoostingClassifier
    categories = ~model.tokenizer.is_number.cpu().numpy()
    reader = boosted(categorical_features=categories if categories.any() else None, random_state=seed)
    reader.fit(parts[0]["table"].numpy(), labels)
    return {**found, "boosted_raw": float(reader.score(parts[1]["table"].numpy(), held_out_labels))}


def _mlp(quantity: bool, hidden: int, seed: int):
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    kind = MLPRegressor if quantity else MLPClassifier
    mlp = kind(hidden_layer_sizes=(hidden,), max_iter=2000, random_state=seed)
    scaled = Pipeline([("scaler", StandardScaler()), ("mlp", mlp)])
    reader = GridSearchCV(scaled, {"mlp__alpha": WEIGHT_DECAYS}, cv=3)
    # A quantity is standardised too: the settings are made for outputs around 1.
    return TransformedTargetRegressor(reader, transformer=StandardScaler()) if quantity else reader


@torch.no_grad()
def _columns(model: TokenModel, observation: Observation) -> np.ndarray:
    """(N, token_dim): every column has places of its own in the contents, so their sum holds them all."""
    device = next(model.parameters()).device
    tokens = model.tokenizer({"table": observation["table"].to(device)})
    return tokens.values.sum(1).cpu().numpy()
