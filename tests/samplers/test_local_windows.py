import pytest
import torch

from worldjepa.samplers.local_windows import LocalWindows
from worldjepa.types import TokenSet

B, ROWS, COLUMNS, W = 11, 9, 14, 4


def grid(num_pinned: int = 0) -> TokenSet:
    place = torch.cartesian_prod(torch.arange(float(ROWS)), torch.arange(float(COLUMNS)))
    coords = torch.cat([torch.full((num_pinned, 2), -1.0), place])
    valid = torch.ones(B, len(coords), dtype=torch.bool)
    return TokenSet(torch.zeros(*valid.shape, 1), coords, valid, torch.arange(len(coords)) < num_pinned)


def draw(sampler: LocalWindows, tokens: TokenSet, seed: int = 0):
    return sampler(tokens, torch.Generator().manual_seed(seed), 0.0, None)


def test_rows_are_windows_of_49_tokens_of_which_39_are_hidden():
    masks = draw(LocalWindows(), grid())
    assert masks.context.shape == (W * B, ROWS * COLUMNS) and masks.targets.shape == (W * B, 1, ROWS * COLUMNS)
    assert (masks.targets.sum(-1) == 39).all() and (masks.context.sum(-1) == 10).all()
    assert not (masks.context & masks.targets[:, 0]).any()
    window = (masks.context | masks.targets[:, 0]).view(-1, ROWS, COLUMNS)
    for axis, size in ((2, ROWS), (1, COLUMNS)):
        along = window.any(axis)
        first, last = along.int().argmax(1), size - 1 - along.flip(1).int().argmax(1)
        assert (last - first == 6).all() and (along.sum(1) == 7).all()
        assert first.min() == 0 and last.max() == size - 1, "every place of the picture is reached"


def test_windows_and_hidden_tokens_differ_and_seeds_reproduce():
    first, again, other = draw(LocalWindows(), grid()), draw(LocalWindows(), grid()), draw(LocalWindows(), grid(), 1)
    assert torch.equal(first.targets, again.targets) and not torch.equal(first.targets, other.targets)
    assert len(first.targets.unique(dim=0)) == W * B


def test_pinned_tokens_are_context_of_every_window():
    masks = draw(LocalWindows(num_windows=2, size=5, hidden_share=0.6), grid(num_pinned=3))
    assert masks.context[:, :3].all() and not masks.targets[..., :3].any()
    assert (masks.context.sum(-1) == 3 + 10).all() and (masks.targets.sum(-1) == 15).all()


def test_refusals_name_the_setting():
    with pytest.raises(ValueError, match=r"hidden_share=1\.0 of size=7"):
        LocalWindows(hidden_share=1.0)
    with pytest.raises(ValueError, match="num_windows=0"):
        LocalWindows(num_windows=0)
    with pytest.raises(ValueError, match="windows of size 10 do not fit 9 x 14 tokens; lower size"):
        draw(LocalWindows(size=10), grid())
    short = grid()
    short.valid[3, 5] = False
    with pytest.raises(ValueError, match="no padding"):
        draw(LocalWindows(), short)
