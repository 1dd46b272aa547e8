import pytest
import torch

from worldjepa.objectives.distances import make_distance

PREDICTION, TARGET = torch.tensor([[0.0, 3.0], [1.0, 0.0]]), torch.tensor([[0.5, 0.0], [2.0, 0.0]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("l1", (0.5 + 3 + 1 + 0) / 4),
        ("mse", (0.25 + 9 + 1 + 0) / 4),
        ("smooth_l1", (0.125 + 2.5 + 0.5 + 0) / 4),
        ("cosine", (1.0 + 0.0) / 2),
    ],
)
def test_formulas(name, expected):
    assert make_distance(name)(PREDICTION, TARGET).item() == pytest.approx(expected, abs=1e-6)


def test_smooth_l1_with_beta():
    # |x| >= beta: |x| - beta / 2; below: x^2 / (2 beta)
    expected = (0.25 / 4 + (3 - 1) + 1 / 4 + 0) / 4
    assert make_distance("smooth_l1", beta=2.0)(PREDICTION, TARGET).item() == pytest.approx(expected)


def test_refusals_name_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'cosine'"):
        make_distance("cosin")
    with pytest.raises(ValueError, match="beta belongs to smooth_l1"):
        make_distance("l1", beta=2.0)
