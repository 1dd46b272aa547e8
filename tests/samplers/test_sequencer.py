import math

import pytest
import torch

from worldjepa.samplers.sequencer import Sequencer, nearest_sequence
from worldjepa.types import TokenSet

B, P = 40, 64


def scattered(num_pinned: int = 0, batch: int = B, places: int = P) -> TokenSet:
    coords = torch.randn(batch, num_pinned + places, 3, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(coords.shape[:2], dtype=torch.bool)
    return TokenSet(torch.zeros(*coords.shape[:2], 1), coords, valid, torch.arange(num_pinned + places) < num_pinned)


def draw(sampler: Sequencer, tokens: TokenSet, seed: int = 0):
    return sampler(tokens, torch.Generator().manual_seed(seed), 0.0)


def stretches(masks: torch.Tensor) -> torch.Tensor:
    """How many runs of True every row (...,P) has."""
    return (masks.int().diff(dim=-1) == 1).sum(-1) + masks[..., 0].int()


def in_sequence(tokens: TokenSet, masks: torch.Tensor) -> torch.Tensor:
    """Masks (B,M,P) with their tokens in the sampler's sequence."""
    order = nearest_sequence(tokens.coords, tokens.valid & ~tokens.pinned)
    return masks.gather(2, order[:, None].expand_as(masks))


def test_every_step_goes_to_the_nearest_that_was_not_visited():
    tokens = scattered(batch=4)
    order = nearest_sequence(tokens.coords, tokens.valid)
    assert (order.sort(-1).values == torch.arange(P)).all()
    for coords, found in zip(tokens.coords.tolist(), order.tolist(), strict=True):
        assert found[0] == min(range(P), key=lambda i: sum(coords[i]))
        for step in range(1, P):
            here, left = coords[found[step - 1]], found[step:]
            assert found[step] == min(left, key=lambda i: math.dist(here, coords[i]))


def test_pinned_tokens_and_padding_come_last():
    tokens = scattered(num_pinned=2)
    tokens.valid[3, 40:50] = False
    free = tokens.valid & ~tokens.pinned
    order = nearest_sequence(tokens.coords, free)
    assert (order.sort(-1).values == torch.arange(P + 2)).all()
    assert not free[3, order[3, -12:]].any() and free[3, order[3, :-12]].all()
    changed = tokens.coords.clone()
    changed[:, :2] = 9.0
    assert torch.equal(nearest_sequence(changed, free), order)


def test_targets_are_stretches_of_the_sequence_of_the_asked_length():
    tokens = scattered()
    targets = draw(Sequencer(), tokens).targets
    assert targets.shape == (B, 4, P)
    assert (stretches(in_sequence(tokens, targets)) == 1).all()
    length = targets.sum(-1)
    assert length.min() == 10 and length.max() == 13, "0.15 and 0.2 of 64, to whole tokens"
    assert len(length.unique()) == 4


def test_the_context_is_a_stretch_of_what_targets_leave():
    tokens = scattered()
    masks = draw(Sequencer(), tokens)
    assert not (masks.context[:, None] & masks.targets).any()
    context, *targets = in_sequence(tokens, torch.cat([masks.context[:, None], masks.targets], 1)).unbind(1)
    share = []
    for row, hidden in zip(context, torch.stack(targets, 1).any(1), strict=True):
        rest = row[~hidden]
        assert stretches(rest) == 1
        share.append(float(rest.sum() / len(rest)))
    assert min(share) > 0.35 and max(share) < 0.8 and max(share) - min(share) > 0.2


def test_every_place_of_the_sequence_is_hidden_as_often_as_its_mirror_image():
    tokens = scattered(batch=3000, places=20)
    hidden = in_sequence(tokens, draw(Sequencer(), tokens).targets).float().mean((0, 1))
    assert (hidden - hidden.flip(0)).abs().max() < 0.02


def test_samples_differ_and_seeds_reproduce():
    sampler, tokens = Sequencer(), scattered()
    first, again, other = draw(sampler, tokens), draw(sampler, tokens), draw(sampler, tokens, seed=1)
    assert torch.equal(first.targets, again.targets) and torch.equal(first.context, again.context)
    assert not torch.equal(first.targets, other.targets)
    same = TokenSet(tokens.values, tokens.coords[:1].expand(B, -1, -1), tokens.valid, tokens.pinned)
    assert len(draw(sampler, same).targets.unique(dim=0)) == B


def test_pinned_tokens_are_always_context_and_padding_never_anything():
    tokens = scattered(num_pinned=2)
    tokens.valid[3, 40:60] = False
    masks = draw(Sequencer(), tokens)
    assert masks.context[:, :2].all() and not masks.targets[:, :, :2].any()
    assert not masks.context[3, 40:60].any() and not masks.targets[3, :, 40:60].any()
    assert masks.targets.any(-1).all() and masks.context[:, 2:].any(-1).all()


def test_a_context_is_found_where_most_draws_leave_none():
    masks = draw(Sequencer(num_targets=2, target_share=(0.6, 0.6)), scattered(places=5))
    assert masks.context.any(-1).all() and masks.targets.any(-1).all()


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"no token is left for the context .* lower num_targets or target_share"):
        draw(Sequencer(target_share=(1.0, 1.0)), scattered(batch=2))
    with pytest.raises(ValueError, match="context_share must be 0 < low <= high <= 1"):
        Sequencer(context_share=(0.5, 0.4))
    with pytest.raises(ValueError, match="num_targets must be >= 1, got 0"):
        Sequencer(num_targets=0)
