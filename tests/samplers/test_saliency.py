import pytest
import torch
from torch import Tensor, nn

from worldjepa.encoders.vit import Vit
from worldjepa.samplers.multiblock import MultiBlock
from worldjepa.samplers.saliency import SalientRegions, salient_regions
from worldjepa.targets import Frozen, Live
from worldjepa.types import TokenSet

ROWS, COLUMNS, B = 8, 6, 5
PLACE = torch.cartesian_prod(torch.arange(float(ROWS)), torch.arange(float(COLUMNS)))
# Three parts, the most salient one last; the last two touch at a corner alone. The lone 9 is too small a part.
PICTURE = torch.tensor(
    [
        [5, 5, 0, 0, 0, 9],
        [5, 5, 0, 0, 0, 0],
        [5, 5, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0],
        [6, 6, 6, 0, 0, 0],
        [6, 6, 6, 0, 0, 0],
        [0, 0, 0, 7, 7, 7],
        [0, 0, 0, 7, 7, 7],
    ]
)


class Seen(nn.Module):
    """A teacher that finds the same picture in every sample but those that look at nothing."""

    def __init__(self, saliency: Tensor):
        super().__init__()
        self.saliency = nn.Parameter(saliency, requires_grad=False)

    def pinned_attention(self, tokens: TokenSet) -> Tensor:
        return self.saliency


def grid(batch: int = B) -> TokenSet:
    coords = torch.cat([torch.full((1, 2), -1.0), PLACE])
    valid = torch.ones(batch, len(coords), dtype=torch.bool)
    return TokenSet(torch.zeros(batch, len(coords), 1), coords, valid, torch.arange(len(coords)) < 1)


def teacher(*pictures: Tensor) -> Frozen:
    saliency = torch.stack([torch.cat([torch.zeros(1), picture.flatten().float()]) for picture in pictures])
    return Frozen(Seen(saliency))


def sampler(min_area: float = 0.1) -> SalientRegions:
    return SalientRegions(MultiBlock(num_targets=3, min_keep=1), num_regions=4, min_area=min_area)


def draw(progress: float, target, seed: int = 0, batch: int = B, **kwargs):
    return sampler(**kwargs)(grid(batch), torch.Generator().manual_seed(seed), progress, target)


def test_regions_are_large_parts_by_their_mean_saliency_and_the_rest():
    saliency, free = PICTURE.flatten().float(), torch.ones(ROWS * COLUMNS, dtype=torch.bool)
    found = salient_regions(saliency, PLACE, free, 4, 0.1)
    both = (PICTURE == 6) | (PICTURE == 7)  # connected over the corner: 12 tokens of mean 6.5
    expected = torch.stack([both, PICTURE == 5, ~both & (PICTURE != 5)])
    assert torch.equal(found.view(-1, ROWS, COLUMNS), expected)
    assert torch.equal(salient_regions(2 - saliency * -3, PLACE, free, 4, 0.1), found), "of any scale"
    assert torch.equal(salient_regions(saliency, PLACE, free, 1, 0.1).view(-1, ROWS, COLUMNS)[0], both)
    large = salient_regions(saliency, PLACE, free, 4, 0.15)  # 6 of 48 tokens are less
    assert torch.equal(large.view(-1, ROWS, COLUMNS), torch.stack([both, ~both]))


def test_a_region_of_just_the_least_area_counts():
    saliency, free = (PICTURE == 5).flatten().float(), torch.ones(ROWS * COLUMNS, dtype=torch.bool)
    assert salient_regions(saliency, PLACE, free, 4, 6 / 48) is not None
    assert salient_regions(saliency, PLACE, free, 4, 6.5 / 48) is None
    assert salient_regions(torch.ones(ROWS * COLUMNS), PLACE, free, 4, 0.1) is None


def test_what_is_not_free_belongs_to_no_region():
    free = (PICTURE != 7).flatten()
    found = salient_regions(PICTURE.flatten().float(), PLACE, free, 4, 0.1)
    assert torch.equal(found.any(0), free) and (found.sum(0) <= 1).all()
    assert torch.equal(found[0].view(ROWS, COLUMNS), PICTURE == 6)


def test_region_i_plus_1_is_predicted_from_all_i_before_it():
    """The public code takes region 1 alone for the first two steps, and so never sees the last but one."""
    apart = PICTURE.clone()
    apart[5] = 0  # now 6 and 7 are apart
    masks = draw(1.0, teacher(*[apart] * B), min_area=3 / 48)
    pinned = torch.ones(B, 1, dtype=torch.bool)
    regions = [(apart == value).flatten() for value in (7, 6, 5)]
    regions.append(~torch.stack(regions).any(0))
    assert masks.targets.shape == (3 * B, 1, 1 + ROWS * COLUMNS)
    context, targets = masks.context.unflatten(0, (B, 3)), masks.targets[:, 0].unflatten(0, (B, 3))
    for step in range(3):
        before = torch.stack(regions[: step + 1]).any(0).expand(B, -1)
        assert torch.equal(context[:, step], torch.cat([pinned, before], 1))
        assert torch.equal(targets[:, step], torch.cat([~pinned, regions[step + 1].expand(B, -1)], 1))


def test_before_any_progress_masks_are_those_of_the_blocks():
    masks, blocks = draw(0.0, None), MultiBlock(num_targets=3, min_keep=1)(grid(), torch.Generator().manual_seed(0))
    assert torch.equal(masks.context, blocks.context) and torch.equal(masks.targets, blocks.targets)


def test_samples_without_a_salient_part_and_those_not_drawn_have_the_blocks_pairs():
    nothing = torch.zeros_like(PICTURE)
    pictures = [PICTURE, nothing, PICTURE, nothing, PICTURE]
    blocks = MultiBlock(num_targets=3, min_keep=1)(grid(), torch.Generator().manual_seed(0))
    masks = draw(1.0, teacher(*pictures))  # lists of 2 pairs and of 3: three rows each
    context, targets = masks.context.unflatten(0, (B, 3)), masks.targets[:, 0].unflatten(0, (B, 3))
    for b in (1, 3):
        assert torch.equal(context[b], blocks.context[b].expand(3, -1)) and torch.equal(targets[b], blocks.targets[b])
    for b in (0, 2, 4):
        assert torch.equal(context[b, 2], context[b, 0]) and torch.equal(targets[b, 2], targets[b, 0])
        assert not torch.equal(context[b, 1], context[b, 0])
    masks = draw(1.0, teacher(*[nothing] * B))
    assert torch.equal(masks.context, blocks.context.repeat_interleave(3, 0))


def test_the_share_of_sequential_samples_grows_with_progress():
    batch = 400
    target = teacher(*[PICTURE] * batch)
    regions = (PICTURE == 6) | (PICTURE == 7)
    for progress in (0.25, 0.75):
        context = draw(progress, target, batch=batch).context.unflatten(0, (batch, -1))[:, 0, 1:]
        share = (context == regions.flatten()).all(1).float().mean()
        assert abs(share - progress) < 0.07


def test_a_real_teacher_is_asked_and_another_target_is_refused():
    torch.manual_seed(0)
    tokens = grid()
    tokens.values.normal_()
    encoder = Vit(1, 12, depth=2, heads=3, num_pinned=1)
    masks = sampler(0.02)(tokens, torch.Generator().manual_seed(0), 1.0, Frozen(encoder))
    assert masks.targets.shape[1] == 1 and not (masks.context[:, None] & masks.targets).any()
    assert masks.context[:, 1:].any(1).all() and masks.targets.any(-1).all()
    with pytest.raises(ValueError, match="target must be Ema or Frozen of a Vit, got Live"):
        sampler()(tokens, torch.Generator().manual_seed(0), 1.0, Live(encoder))


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="num_regions must be >= 1"):
        SalientRegions(MultiBlock(), num_regions=0)
    with pytest.raises(ValueError, match="min_area must be a share"):
        SalientRegions(MultiBlock(), min_area=1.5)
