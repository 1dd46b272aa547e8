import pytest
import torch

from worldjepa.samplers.subsets import Subsets
from worldjepa.tokens import batched_coords
from worldjepa.types import TokenSet

B, P, PINNED = 400, 53, 3  # 50 columns


def tokens(valid: torch.Tensor | None = None) -> TokenSet:
    valid = torch.ones(B, P, dtype=torch.bool) if valid is None else valid
    return TokenSet(torch.zeros(*valid.shape, 2), torch.zeros(P, 1), valid, torch.arange(P) < PINNED)


def draw(sampler=None, of=None, seed=0):
    return (sampler or Subsets())(of or tokens(), torch.Generator().manual_seed(seed))


def test_shares_are_as_published():
    masks = draw()
    context = masks.context[:, PINNED:].sum(-1) / 50
    targets = masks.targets[..., PINNED:].sum(-1) / 50
    assert context.min() >= 0.14 - 0.01 and context.max() <= 0.37 + 0.01  # rounded to whole columns
    assert targets.min() >= 0.16 - 0.01 and targets.max() <= 0.62 + 0.01
    assert float(context.mean()) == pytest.approx(0.255, abs=0.01) and context.std() > 0.05
    assert float(targets.mean()) == pytest.approx(0.39, abs=0.01) and targets.std() > 0.1


def test_the_reg_token_is_never_hidden_and_never_predicted():
    masks = draw()
    assert masks.context[:, :PINNED].all() and not masks.targets[..., :PINNED].any()


def test_targets_are_disjoint_from_the_context_and_four_of_their_own():
    masks = draw()
    assert masks.targets.shape == (B, 4, P) and not (masks.context[:, None] & masks.targets).any()
    # The public code fills its four targets from one buffer: they are one set. Of 50 columns two are hardly ever equal.
    for a in range(4):
        for b in range(a):
            assert not (masks.targets[:, a] == masks.targets[:, b]).all(-1).any()
    # Independent given what the context leaves: the share of b inside a is that of b in the rest.
    rest = 50 - masks.context[:, PINNED:].sum(-1)
    a, b = masks.targets[:, 0], masks.targets[:, 1]
    inside = (a & b).sum() / a.sum()
    expected = (a.sum(-1) * b.sum(-1) / rest).sum() / a.sum()
    assert float(inside) == pytest.approx(float(expected), abs=0.01)


def test_every_column_is_as_likely_as_any():
    masks = draw()
    for mask in (masks.context, masks.targets.flatten(0, 1)):
        share = mask[:, PINNED:].float().mean(0)
        assert float(share.std()) < 0.03


def test_missing_values_are_neither_and_shares_are_of_what_is_there():
    valid = torch.rand(B, P, generator=torch.Generator().manual_seed(1)) < 0.5
    valid[:, :PINNED] = True
    valid[0, PINNED:] = torch.arange(50) < 2  # one to predict from, one to predict
    masks = draw(of=tokens(valid))
    assert not (masks.context & ~valid).any() and not (masks.targets & ~valid[:, None]).any()
    share = masks.context[1:, PINNED:].sum(-1) / valid[1:, PINNED:].sum(-1)
    assert share.min() > 0.1 and share.max() < 0.42
    assert (masks.context[0, PINNED:].sum() == 1) and (masks.targets[0].sum(-1) == 1).all()


def test_a_seed_gives_the_same_masks_whatever_the_values():
    one = draw()
    other = Subsets()(
        TokenSet(torch.randn(B, P, 2), batched_coords(tokens()), tokens().valid, tokens().pinned),
        torch.Generator().manual_seed(0),
    )
    assert torch.equal(one.context, other.context) and torch.equal(one.targets, other.targets)
    assert not torch.equal(one.context, draw(seed=1).context)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"context_share must be 0 < low <= high < 1, got \(0.5, 1.0\)"):
        Subsets(context_share=(0.5, 1.0))
    with pytest.raises(ValueError, match="target_share"):
        Subsets(target_share=(0.0, 0.5))
    with pytest.raises(ValueError, match="num_targets"):
        Subsets(num_targets=0)
    valid = torch.ones(B, P, dtype=torch.bool)
    valid[7, PINNED + 1 :] = False
    with pytest.raises(ValueError, match="sample 7 of a batch has 1 valid tokens"):
        draw(of=tokens(valid))
