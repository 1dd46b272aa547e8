import torch

from worldjepa.tokens import positions, select, take
from worldjepa.types import TokenSet

B, P, D = 2, 11, 13


def test_positions_are_in_order_and_padded():
    keep = torch.tensor([[False, True, False, True], [True, False, False, False]])
    index, valid = positions(keep)
    assert valid.tolist() == [[True, True], [True, False]]
    assert index[0].tolist() == [1, 3] and index[1, 0] == 0


def test_positions_work_for_several_sets_per_sample():
    keep = torch.rand(B, 3, P, generator=torch.Generator().manual_seed(0)) < 0.4
    index, valid = positions(keep)
    rebuilt = torch.zeros(B, 3, P, dtype=torch.bool).scatter(-1, index, valid)
    # padding points at tokens that are not kept, so scattering its False over them changes nothing
    assert torch.equal(rebuilt, keep)


def test_take_picks_rows_per_sample():
    x, index = torch.randn(B, P, D), torch.tensor([[[3, 1]], [[0, 10]]])
    assert torch.equal(take(x, index), torch.stack([x[0, [3, 1]], x[1, [0, 10]]])[:, None])


def test_select_leaves_nothing_of_the_other_tokens():
    coords = torch.arange(2.0 * P).view(P, 2)
    pinned = torch.arange(P) < 1
    tokens = TokenSet(torch.full((B, P, D), 7.0), coords, torch.ones(B, P, dtype=torch.bool), pinned)
    tokens.values[0, [0, 2, 5]] = 1.0
    tokens.values[1, [0, 4]] = 1.0
    tokens.valid[0, 9] = False
    keep = torch.zeros(B, P, dtype=torch.bool)
    keep[0, [0, 2, 5, 9]] = True
    keep[1, [0, 4]] = True
    kept = select(tokens, keep)
    assert kept.valid.tolist() == [[True, True, True], [True, True, False]]
    assert (kept.values[kept.valid] == 1).all() and (kept.values[~kept.valid] == 0).all()
    assert torch.equal(kept.coords[0], coords[[0, 2, 5]]) and torch.equal(kept.coords[1, :2], coords[[0, 4]])
    assert kept.pinned.tolist() == [True, False, False]
