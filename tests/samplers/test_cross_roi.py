import pytest
import torch

from worldjepa.samplers.cross_roi import CrossRoi
from worldjepa.tokenizers.regions import RegionTokenizer
from worldjepa.types import TokenSet

B, R, N = 300, 100, 10  # samples, regions, pieces of time as published


def tokens(count: int = B, num_rois: int = R, pieces: int = N, num_pinned: int = 0) -> TokenSet:
    tokenizer = RegionTokenizer(num_rois, pieces * 2, 2, num_pinned)
    return tokenizer({"rois": torch.zeros(count, num_rois, pieces * 2)})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def blocks():
    return CrossRoi().blocks(B, R, N, generator())


def regions(block: torch.Tensor) -> torch.Tensor:
    return block.any(2)


def times(block: torch.Tensor) -> torch.Tensor:
    return block.any(1)


def test_every_block_is_some_regions_at_some_times(blocks):
    for block in (blocks.observation, blocks.cross_roi):
        assert torch.equal(block, regions(block)[..., None] & times(block)[:, None])


def test_alpha_is_other_regions_within_the_observed_time(blocks):
    alpha = blocks.cross_roi
    share = regions(alpha).sum(1) / R
    assert share.min() >= 0.45 and share.max() < 0.6 and share.std() > 0.03
    length = times(alpha).sum(1)
    assert length.min() == 2 and length.max() == 5  # 0.2 to 0.6 of 10, rounded down
    steps = times(alpha).int().diff(dim=1).abs().sum(1) + times(alpha)[:, 0].int() + times(alpha)[:, -1].int()
    assert (steps == 2).all(), "one window"
    assert not (regions(alpha) & regions(blocks.observation)).any()


def test_alpha_lies_in_the_window_that_was_observed_before_overlaps_left_it():
    alone = CrossRoi(beyond_time=(0.0, 0.0)).blocks(B, R, N, generator())
    assert not alone.cross_time.any() and not alone.both.any()
    length = times(alone.observation).sum(1)
    assert set(length.tolist()) == {8, 9}  # 0.84 to 1 of 10, rounded down
    assert not (times(alone.cross_roi) & ~times(alone.observation)).any()


def test_the_observation_is_what_the_shares_leave(blocks):
    share = regions(blocks.observation).sum(1) / R  # 0.84-1 of all, less 0.45-0.6 of these
    assert 0.25 < share.min() and share.max() < 0.58
    assert float(share.mean()) == pytest.approx(0.92 * (1 - 0.525), abs=0.02)
    length = times(blocks.observation).sum(1)
    assert length.min() >= 2 and length.max() == 9


def test_beta_and_gamma_are_near_the_ends_at_times_the_observation_loses(blocks):
    for block in (blocks.cross_time, blocks.both):
        assert not (times(block) & times(blocks.observation)).any()
        assert not times(block)[:, 3:7].any()
        for side in (slice(0, 3), slice(7, 10)):
            per_piece = block[:, :, side].sum(1)  # 15-30 % of the regions that there are, or none
            count = (times(block)[:, side]).sum(1)
            assert set(count.tolist()) == {0, 1, 2, 3}
            # One set of regions on a side.
            assert (per_piece.amax(1, keepdim=True) * (per_piece > 0) == per_piece).all()
    seen = regions(blocks.observation)
    assert not (regions(blocks.cross_time) & ~seen).any() and not (regions(blocks.both) & seen).any()


def test_beta_and_gamma_take_their_shares_of_observed_and_other_regions(blocks):
    seen = regions(blocks.observation).sum(1)
    for block, of in ((blocks.cross_time, seen), (blocks.both, R - seen)):
        left = block[:, :, :3]
        some = left.flatten(1).any(1)
        share = left.any(2).sum(1)[some] / of[some]
        assert share.min() > 0.15 - 1 / 25 and share.max() < 0.3
        assert float(share.mean()) == pytest.approx(0.215, abs=0.02)  # rounded down


def test_masks_hold_the_blocks_in_the_tokens_order():
    some = tokens(4, num_pinned=2)
    masks = CrossRoi()(some, generator(5))
    blocks = CrossRoi().blocks(4, R, N, generator(5))
    wanted = blocks.cross_roi | blocks.cross_time | blocks.both
    assert masks.targets.shape == (4, 1, 2 + R * N) and torch.equal(masks.targets[:, 0, 2:], wanted.flatten(1))
    assert torch.equal(masks.context[:, 2:], blocks.observation.flatten(1))
    assert masks.context[:, :2].all() and not masks.targets[..., :2].any()
    assert not (masks.context[:, None] & masks.targets).any()


def test_samples_differ_and_a_seed_repeats():
    masks = CrossRoi()(tokens(5), generator(1))
    again = CrossRoi()(tokens(5), generator(1))
    assert torch.equal(masks.context, again.context) and torch.equal(masks.targets, again.targets)
    assert len({tuple(row.tolist()) for row in masks.context}) == 5


def test_missing_regions_are_neither_seen_nor_asked_for():
    some = tokens(6, num_rois=12, pieces=8)
    valid = some.valid.clone().view(6, 12, 8)
    valid[2, :7], valid[4, :, 2:] = False, False
    some = TokenSet(some.values, some.coords, valid.flatten(1), some.pinned)
    masks = CrossRoi(min_keep=1)(some, generator(2))
    assert not (masks.context & ~some.valid).any() and not (masks.targets[:, 0] & ~some.valid).any()
    assert masks.context.any(1).all() and masks.targets[:, 0].any(1).all()


@pytest.mark.parametrize("pieces", [1, 2, 3, 8])
def test_few_pieces_of_time_leave_a_context(pieces):
    masks = CrossRoi()(tokens(40, num_rois=30, pieces=pieces), generator(3))
    assert (masks.context.sum(1) >= 4).all() and masks.targets[:, 0].any(1).all()


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="beyond_time is of each side"):
        CrossRoi(beyond_time=(0.0, 0.5))
    with pytest.raises(ValueError, match="alpha_regions must be 0 <= low <= high <= 1"):
        CrossRoi(alpha_regions=(0.6, 0.45))
    with pytest.raises(ValueError, match=r"no context of >= min_keep \(4\) .* lower min_keep, alpha_regions"):
        CrossRoi(alpha_regions=(1.0, 1.0))(tokens(2), generator())
    shaped = tokens(2)
    with pytest.raises(ValueError, match="shared coords"):
        CrossRoi()(TokenSet(shaped.values, shaped.coords[:, :1], shaped.valid, shaped.pinned), generator())
