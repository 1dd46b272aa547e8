import math

import pytest
import torch

from worldjepa.samplers.hidden_runs import HiddenRuns
from worldjepa.types import TokenSet

B = 500


def sequence(length: int, num_pinned: int = 0, batch: int = B) -> TokenSet:
    coords = torch.cat([torch.full((num_pinned,), -1.0), torch.arange(float(length))])[:, None]
    valid = torch.ones(batch, len(coords), dtype=torch.bool)
    pinned = torch.arange(len(coords)) < num_pinned
    return TokenSet(torch.zeros(batch, len(coords), 1), coords, valid, pinned)


def draw(sampler: HiddenRuns, tokens: TokenSet, seed: int = 0):
    return sampler(tokens, torch.Generator().manual_seed(seed))


def runs(hidden: torch.Tensor) -> list[int]:
    """Lengths of the runs of True in a sequence."""
    edges = torch.nn.functional.pad(hidden.int(), (1, 1)).diff()
    return (edges.eq(-1).nonzero() - edges.eq(1).nonzero())[:, 0].tolist()


@pytest.mark.parametrize("length", [40, 100, 200])
def test_the_share_kept_is_in_its_range_and_hidden_runs_are_long(length):
    masks = draw(HiddenRuns(), sequence(length))
    assert masks.targets.shape == (B, 1, length) and torch.equal(masks.context, ~masks.targets[:, 0])
    kept = masks.context.sum(1)
    assert kept.min() >= math.ceil(0.15 * length) and kept.max() <= math.ceil(0.25 * length)
    assert len(kept.unique()) >= 0.08 * length, "every sample draws its share"
    assert min(min(runs(row)) for row in masks.targets[:, 0]) >= 10


def test_there_are_few_runs_and_they_lie_anywhere():
    masks = draw(HiddenRuns(), sequence(200, batch=4000))
    numbers = torch.tensor([len(runs(row)) for row in masks.targets[:, 0]])
    assert 1 <= numbers.min() and numbers.max() >= 6 and 2 < numbers.float().mean() < 4.5
    often = masks.context.float().mean(0)
    assert (often - often.flip(0)).abs().max() < 0.06, "no direction of time is preferred"
    assert often.min() > 0.05


def test_padding_and_pinned_tokens_have_no_place_in_the_sequence():
    tokens = sequence(60, num_pinned=2, batch=100)
    tokens.valid[7, 30:] = False
    masks = draw(HiddenRuns(), tokens)
    assert masks.context[:, :2].all() and not masks.targets[..., :2].any()
    assert not masks.context[7, 30:].any() and not masks.targets[7, 0, 30:].any()
    assert 5 <= masks.context[7, 2:].sum() <= 7 and min(runs(masks.targets[7, 0])) >= 10
    assert 9 <= masks.context[8, 2:].sum() <= 15


def test_samples_differ_and_seeds_reproduce():
    sampler, tokens = HiddenRuns(), sequence(100)
    first, again, other = draw(sampler, tokens), draw(sampler, tokens), draw(sampler, tokens, seed=1)
    assert torch.equal(first.context, again.context) and not torch.equal(first.context, other.context)
    assert len(first.context.unique(dim=0)) > 0.95 * B


def test_short_sequences_and_impossible_settings_are_refused():
    assert draw(HiddenRuns(), sequence(14)).targets.any(-1).all()
    with pytest.raises(ValueError, match=r"of 13 tokens only 9 are surely hidden, fewer than shortest \(10\); take"):
        draw(HiddenRuns(), sequence(13))
    with pytest.raises(ValueError, match="keep must be"):
        HiddenRuns(keep=(0.3, 0.2))
    with pytest.raises(ValueError, match="shortest must be"):
        HiddenRuns(shortest=0)
    with pytest.raises(ValueError, match="one coordinate, got 2"):
        tokens = sequence(40)
        draw(HiddenRuns(), TokenSet(tokens.values, tokens.coords.repeat(1, 2), tokens.valid, tokens.pinned))
