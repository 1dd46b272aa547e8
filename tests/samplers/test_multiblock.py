import pytest
import torch

from worldjepa.samplers import MultiBlock
from worldjepa.types import TokenSet

B, ROWS, COLUMNS = 50, 12, 14


def grid(num_pinned: int = 0, batch: int = B) -> TokenSet:
    place = torch.cartesian_prod(torch.arange(float(ROWS)), torch.arange(float(COLUMNS)))
    coords = torch.cat([torch.full((num_pinned, 2), -1.0), place])
    num_tokens = len(coords)
    valid = torch.ones(batch, num_tokens, dtype=torch.bool)
    return TokenSet(torch.zeros(batch, num_tokens, 1), coords, valid, torch.arange(num_tokens) < num_pinned)


def draw(sampler: MultiBlock, tokens: TokenSet, seed: int = 0):
    return sampler(tokens, torch.Generator().manual_seed(seed), 0.0)


def test_targets_are_rectangles_of_the_asked_area_and_aspect():
    sampler = MultiBlock()
    targets = draw(sampler, grid()).targets
    assert targets.shape == (B, 4, ROWS * COLUMNS)
    blocks = targets.view(B, 4, ROWS, COLUMNS)
    height, width = blocks.any(-1).sum(-1), blocks.any(-2).sum(-1)
    area = blocks.sum((-1, -2))
    assert torch.equal(area, height * width)
    rows = blocks.any(-1).int()
    assert ((rows.diff(dim=-1) == 1).sum(-1) + rows[..., 0] == 1).all(), "rows without a gap"
    columns = blocks.any(-2).int()
    assert ((columns.diff(dim=-1) == 1).sum(-1) + columns[..., 0] == 1).all(), "columns without a gap"
    share = area / (ROWS * COLUMNS)
    assert 0.15 < share.mean() < 0.2 and share.min() > 0.12 and share.max() < 0.24  # sides are whole tokens
    aspect = height / width
    assert aspect.min() > 0.6 and aspect.max() < 1.8 and aspect.std() > 0.1


def test_context_never_overlaps_a_target_and_keeps_enough():
    masks = draw(MultiBlock(min_keep=40), grid())
    assert not (masks.context[:, None] & masks.targets).any()
    assert masks.context.sum(-1).min() >= 40
    assert masks.targets.any(-1).all(), "no target is empty"


def test_context_is_all_the_rest_when_its_block_is_the_picture():
    masks = draw(MultiBlock(context_scale=(1.0, 1.0), min_keep=1), grid())
    # a square block cannot cover a wide picture: scale 1 is as high as the picture and 13 of 14 columns wide
    covered = masks.context | masks.targets.any(1)
    assert (covered.view(B, ROWS, COLUMNS).all(1).sum(-1) >= 13).all()


def test_every_place_is_hidden_about_as_often_as_its_mirror_image():
    targets = draw(MultiBlock(), grid(batch=2000)).targets.float().mean((0, 1)).view(ROWS, COLUMNS)
    assert (targets - targets.flip(0)).abs().max() < 0.04 and (targets - targets.flip(1)).abs().max() < 0.04


def test_samples_differ_and_seeds_reproduce():
    sampler, tokens = MultiBlock(), grid()
    first, again, other = draw(sampler, tokens), draw(sampler, tokens), draw(sampler, tokens, seed=1)
    assert torch.equal(first.targets, again.targets) and torch.equal(first.context, again.context)
    assert not torch.equal(first.targets, other.targets)
    assert len(first.targets.unique(dim=0)) == B


def test_pinned_tokens_are_always_context_and_padding_never_anything():
    tokens = grid(num_pinned=2)
    tokens.valid[3, 40:80] = False
    masks = draw(MultiBlock(), tokens)
    assert masks.context[:, :2].all() and not masks.targets[:, :, :2].any()
    assert not masks.context[3, 40:80].any() and not masks.targets[3, :, 40:80].any()


def test_impossible_masks_are_refused():
    with pytest.raises(ValueError, match=r"min_keep \(168\).*lower min_keep"):
        draw(MultiBlock(min_keep=168), grid(batch=2))
    with pytest.raises(ValueError, match="target_scale must be"):
        MultiBlock(target_scale=(0.2, 1.5))
    for name in ("min_keep", "num_targets"):
        with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
            MultiBlock(**{name: 0})
