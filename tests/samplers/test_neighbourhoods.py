import math

import pytest
import torch

from worldjepa.samplers.neighbourhoods import Neighbourhoods
from worldjepa.types import TokenSet

B, P = 40, 64


def scattered(num_pinned: int = 0, batch: int = B) -> TokenSet:
    coords = torch.randn(batch, num_pinned + P, 3, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(coords.shape[:2], dtype=torch.bool)
    return TokenSet(torch.zeros(*coords.shape[:2], 1), coords, valid, torch.arange(num_pinned + P) < num_pinned)


def draw(sampler: Neighbourhoods, tokens: TokenSet, seed: int = 0):
    return sampler(tokens, torch.Generator().manual_seed(seed), 0.0)


def balls(coords: torch.Tensor, size: int) -> set[frozenset[int]]:
    """What ``size`` tokens are nearest to each token."""
    everyone = range(len(coords))
    return {frozenset(sorted(everyone, key=lambda j: math.dist(coords[i], coords[j]))[:size]) for i in everyone}


def test_a_target_is_some_token_and_those_nearest_to_it():
    tokens = scattered(batch=5)
    targets = draw(Neighbourhoods(), tokens).targets
    assert targets.shape == (5, 4, P)
    for coords, sets in zip(tokens.coords, targets, strict=True):
        for chosen in sets:
            assert frozenset(chosen.nonzero()[:, 0].tolist()) in balls(coords, int(chosen.sum()))


def test_targets_have_the_asked_sizes_and_no_token_is_preferred():
    tokens = scattered()
    length = draw(Neighbourhoods(), tokens).targets.sum(-1)
    assert length.min() == 10 and length.max() == 13, "0.15 and 0.2 of 64, to whole tokens"
    single = Neighbourhoods(num_targets=1, target_scale=(0.01, 0.01))
    hits = draw(single, scattered(batch=4000)).targets.float().mean((0, 1))
    assert hits.min() > 0.5 / P and hits.max() < 2 / P


def test_the_context_is_a_neighbourhood_without_the_targets():
    tokens = scattered()
    masks = draw(Neighbourhoods(), tokens)
    assert not (masks.context[:, None] & masks.targets).any()
    assert masks.context.sum(-1).min() >= 10 and masks.targets.any(-1).all()
    whole = draw(Neighbourhoods(context_scale=(1.0, 1.0)), tokens)
    assert torch.equal(whole.context, ~whole.targets.any(1))
    small = draw(Neighbourhoods(num_targets=1, context_scale=(0.25, 0.25), min_keep=16), scattered(batch=5))
    for coords, context in zip(tokens.coords, small.context, strict=False):
        assert frozenset(context.nonzero()[:, 0].tolist()) in balls(coords, 16)


def test_samples_differ_and_seeds_reproduce():
    sampler, tokens = Neighbourhoods(), scattered()
    first, again, other = draw(sampler, tokens), draw(sampler, tokens), draw(sampler, tokens, seed=1)
    assert torch.equal(first.targets, again.targets) and torch.equal(first.context, again.context)
    assert not torch.equal(first.targets, other.targets)
    same = TokenSet(tokens.values, tokens.coords[:1].expand(B, -1, -1), tokens.valid, tokens.pinned)
    assert len(draw(sampler, same).targets.unique(dim=0)) == B


def test_pinned_tokens_are_always_context_and_padding_never_anything():
    tokens = scattered(num_pinned=2)
    tokens.valid[3, 30:60] = False
    masks = draw(Neighbourhoods(min_keep=4), tokens)
    assert masks.context[:, :2].all() and not masks.targets[:, :, :2].any()
    assert not masks.context[3, 30:60].any() and not masks.targets[3, :, 30:60].any()
    assert 0 < masks.targets[3].sum(-1).min() and masks.targets[3].sum(-1).max() <= 7, "shares of the tokens there are"


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"min_keep \(64\).*lower min_keep, num_targets or target_scale"):
        draw(Neighbourhoods(min_keep=64), scattered(batch=2))
    with pytest.raises(ValueError, match="target_scale must be 0 < low <= high <= 1"):
        Neighbourhoods(target_scale=(0.2, 1.5))
    with pytest.raises(ValueError, match="min_keep must be >= 1, got 0"):
        Neighbourhoods(min_keep=0)
