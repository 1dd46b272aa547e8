import pytest
import torch

from worldjepa.evaluation.rankme import rankme


def gaussian(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


def test_a_gaussian_uses_all_its_dimensions():
    assert rankme(gaussian(2048, 64)) == pytest.approx(63.75, abs=0.05)


def test_rank_eight_gives_eight():
    basis = torch.linalg.qr(gaussian(64, 8))[0]
    rows = torch.linalg.qr(gaussian(2048, 8))[0]
    assert rankme(rows @ basis.T) == pytest.approx(8.0, abs=0.01)


def test_collapse_gives_one_and_scale_does_not_matter():
    assert rankme(torch.ones(50, 7)) == pytest.approx(1.0, abs=0.01)
    assert rankme(torch.zeros(50, 7)) == 1.0
    x = gaussian(50, 7)
    assert rankme(1000 * x) == pytest.approx(rankme(x), rel=1e-4)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(N,D\)"):
        rankme(torch.zeros(2, 3, 4))
