import pytest
import torch

from worldjepa.samplers.temporal import Temporal
from worldjepa.types import TokenSet

B, TIMES, ROWS, COLUMNS = 60, 8, 2, 3


def clips(num_pinned: int = 0, times: int = TIMES) -> TokenSet:
    place = torch.cartesian_prod(*(torch.arange(float(size)) for size in (times, ROWS, COLUMNS)))
    coords = torch.cat([torch.full((num_pinned, 3), -1.0), place])
    valid = torch.ones(B, len(coords), dtype=torch.bool)
    return TokenSet(torch.zeros(B, len(coords), 1), coords, valid, torch.arange(len(coords)) < num_pinned)


def draw(sampler: Temporal, tokens: TokenSet, seed: int = 0):
    return sampler(tokens, torch.Generator().manual_seed(seed), 0.0)


@pytest.mark.parametrize("contiguous", [False, True])
@pytest.mark.parametrize("share, expected", [(0.75, 6), (0.01, 1), (0.99, 7)])
def test_whole_times_are_hidden_and_the_rest_is_context(contiguous, share, expected):
    masks = draw(Temporal(share, contiguous), clips())
    hidden = masks.targets[:, 0].view(B, TIMES, ROWS * COLUMNS)
    assert (hidden == hidden[..., :1]).all()
    assert (hidden[..., 0].sum(1) == expected).all()
    assert torch.equal(masks.context, ~masks.targets[:, 0])


def test_contiguous_times_follow_each_other_and_others_need_not():
    runs = {}
    for contiguous in (False, True):
        hidden = draw(Temporal(0.5, contiguous), clips()).targets.view(B, TIMES, -1)[..., 0].int()
        runs[contiguous] = (hidden.diff(dim=1) == 1).sum(1) + hidden[:, 0]
    assert (runs[True] == 1).all() and (runs[False] > 1).float().mean() > 0.8


@pytest.mark.parametrize("contiguous", [False, True])
def test_every_time_is_hidden_now_and_then(contiguous):
    hidden = draw(Temporal(0.5, contiguous), clips()).targets.view(B, TIMES, -1)[..., 0]
    assert hidden.any(0).all() and not hidden.all(0).any()


@pytest.mark.parametrize("contiguous", [False, True])
def test_a_shorter_clip_hides_its_share_of_what_it_has(contiguous):
    tokens = clips(num_pinned=1)
    tokens.valid[5, 1 + 4 * ROWS * COLUMNS :] = False  # 4 of 8 times are there
    masks = draw(Temporal(0.5, contiguous), tokens)
    assert masks.targets[5].sum() == 2 * ROWS * COLUMNS and masks.context[5].sum() == 1 + 2 * ROWS * COLUMNS
    assert not (masks.targets[5, 0] & ~tokens.valid[5]).any()
    assert masks.context[:, 0].all() and not masks.targets[:, :, 0].any()


def test_seeds_reproduce_and_samples_differ():
    first, again, other = (draw(Temporal(0.5), clips(), seed).targets for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(first[:, 0].unique(dim=0)) > 20


def test_refusals_say_what_was_expected():
    with pytest.raises(ValueError, match=r"share must be between 0 and 1, got 1\.0"):
        Temporal(1.0)
    with pytest.raises(ValueError, match=">= 2 times with tokens in every sample, got 1"):
        draw(Temporal(), clips(times=1))
