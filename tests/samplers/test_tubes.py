import pytest
import torch

from worldjepa.samplers.tubes import Tubes
from worldjepa.tokenizers.video import EegVideoTokenizer
from worldjepa.types import TokenSet

B, TIMES, ROWS, COLUMNS = 50, 3, 10, 12


def grid(batch: int = B, num_pinned: int = 0) -> TokenSet:
    place = torch.cartesian_prod(*(torch.arange(float(size)) for size in (TIMES, ROWS, COLUMNS)))
    coords = torch.cat([torch.full((num_pinned, 3), -1.0), place])
    valid = torch.ones(batch, len(coords), dtype=torch.bool)
    return TokenSet(torch.zeros(batch, len(coords), 1), coords, valid, torch.arange(len(coords)) < num_pinned)


def draw(sampler: Tubes, tokens: TokenSet, seed: int = 0):
    return sampler(tokens, torch.Generator().manual_seed(seed), 0.0)


def test_tubes_hide_the_same_places_at_all_times():
    hidden = draw(Tubes(), grid()).targets.view(B, 2, TIMES, ROWS, COLUMNS)
    assert (hidden == hidden[:, :, :1]).all() and hidden.any((2, 3, 4)).all()


def test_every_group_has_the_rest_as_its_own_context():
    masks = draw(Tubes(), grid())
    assert masks.context.shape == (2 * B, TIMES * ROWS * COLUMNS) and masks.targets.shape[:2] == (2 * B, 1)
    assert torch.equal(masks.context, ~masks.targets[:, 0])
    assert masks.context.any(1).all()
    assert not torch.equal(masks.context[0::2], masks.context[1::2])


def test_groups_hide_the_published_shares():
    """Of 8 blocks of .15 and 2 of .7: less than the sums, since they overlap, and no less than one block."""
    share = draw(Tubes(), grid(400)).targets.float().mean((1, 2)).view(400, 2).mean(0)
    assert 0.5 < share[0] < 0.8 and 0.7 < share[1] < 0.95


def test_a_group_of_one_block_is_a_rectangle_of_its_area_and_aspect():
    block = draw(Tubes([(1, 0.3)]), grid()).targets.view(B, TIMES, ROWS, COLUMNS)[:, 0]
    height, width, area = block.any(2).sum(1), block.any(1).sum(1), block.sum((1, 2))
    assert torch.equal(area, height * width) and height.unique().numel() > 1
    assert abs(area / (ROWS * COLUMNS) - 0.3).max() < 0.06
    assert (height / width).min() > 0.6 and (height / width).max() < 1.8


def test_eeg_is_hidden_like_a_video():
    tokens = EegVideoTokenizer()({"eeg": torch.zeros(B, 19, 512)})
    masks = draw(Tubes(), tokens)
    hidden = masks.targets.view(B, 2, 4, 5, 4)  # 4 frames of 5 groups of channels x 4 windows
    assert (hidden == hidden[:, :, :1]).all() and hidden.any((2, 3, 4)).all()
    assert masks.context.any(1).all()


def test_padding_is_never_anything_and_pinned_tokens_are_always_context():
    tokens = grid(num_pinned=2)
    tokens.valid[3, 60:200] = False
    masks = draw(Tubes(), tokens)
    assert masks.context[:, :2].all() and not masks.targets[:, :, :2].any()
    assert not masks.context[6:8, 60:200].any() and not masks.targets[6:8, :, 60:200].any()
    assert masks.context[:, 2:].any(1).all(), "a context of pinned tokens alone has seen nothing"


def test_samples_differ_and_seeds_reproduce():
    tokens = grid()
    first, again, other = draw(Tubes(), tokens), draw(Tubes(), tokens), draw(Tubes(), tokens, seed=1)
    assert torch.equal(first.targets, again.targets) and not torch.equal(first.targets, other.targets)
    assert len(first.targets[0::2].unique(dim=0)) == B, "of 8 blocks hardly two samples have the same"


def test_impossible_masks_are_refused():
    with pytest.raises(ValueError, match=r"min_keep \(360\) tokens in 100 draws of 8 blocks of 0.15 .* lower min_keep"):
        draw(Tubes(min_keep=360), grid(2))
    with pytest.raises(ValueError, match=r"area in \(0, 1\), got \(\(2, 1.5\),\)"):
        Tubes([(2, 1.5)])
    with pytest.raises(ValueError, match="min_keep must be >= 1, got 0"):
        Tubes(min_keep=0)
    flat = grid()
    with pytest.raises(ValueError, match=r"shared coords \(P,3\) of time, row and column, got \(360, 2\)"):
        draw(Tubes(), TokenSet(flat.values, flat.coords[:, 1:], flat.valid, flat.pinned))
