import pytest
import torch

from worldjepa.evaluation.frozen import linear_probe_accuracy


def test_separable_classes_are_read_and_noise_is_not():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    noise = torch.randn(300, 4, generator=generator)
    features = noise + 6 * torch.nn.functional.one_hot(labels, 4)
    assert linear_probe_accuracy(features[:200], labels[:200], features[200:], labels[200:]) > 0.98
    assert linear_probe_accuracy(noise[:200], labels[:200], noise[200:], labels[200:]) < 0.5


def test_a_diverged_encoder_is_named():
    features = torch.full((4, 2), float("nan"))
    with pytest.raises(ValueError, match="diverged"):
        linear_probe_accuracy(features, torch.tensor([0, 1, 0, 1]), features, torch.tensor([0, 1, 0, 1]))
