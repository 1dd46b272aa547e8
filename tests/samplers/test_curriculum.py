import pytest
import torch

from worldjepa.samplers.curriculum import Bands, Curriculum
from worldjepa.samplers.masks import Masks
from worldjepa.samplers.multiblock import MultiBlock
from worldjepa.types import TokenSet

B, ROWS, COLUMNS = 40, 8, 13


def spectrogram(columns: list[int] | None = None, num_pinned: int = 0) -> TokenSet:
    """Recordings of so many columns each, of ``COLUMNS``."""
    columns = [COLUMNS] * B if columns is None else columns
    place = torch.cartesian_prod(torch.arange(float(ROWS)), torch.arange(float(COLUMNS)))
    coords = torch.cat([torch.full((num_pinned, 2), -1.0), place])
    valid = (coords[:, 1] < torch.tensor(columns)[:, None]).clone()
    return TokenSet(torch.zeros(*valid.shape, 1), coords, valid, torch.arange(len(coords)) < num_pinned)


def draw(sampler, tokens: TokenSet, progress: float = 0.0, seed: int = 0) -> Masks:
    return sampler(tokens, torch.Generator().manual_seed(seed), progress, None)


def curriculum(**options) -> Curriculum:
    return Curriculum(MultiBlock(min_keep=2), Bands(min_keep=2), **options)


def test_a_band_is_whole_and_of_the_asked_area_in_patches():
    sampler = Bands(num_targets=2, target_scale=(0.2, 0.3), min_keep=1)
    targets = draw(sampler, spectrogram()).targets.view(B, 2, ROWS, COLUMNS)
    high, wide = targets.any(-1).sum(-1), targets.any(-2).sum(-1)
    assert torch.equal(targets.sum((-1, -2)), high * wide)
    of_frequency, of_time = wide == COLUMNS, high == ROWS
    assert (of_frequency ^ of_time).all() and 0.3 < of_time.float().mean() < 0.7
    assert set(high[of_frequency].tolist()) == {2} and set(wide[of_time].tolist()) == {3, 4}
    jumps = targets.any(-2)[of_time].int().diff(dim=-1).clamp_min(0).sum(-1) + targets.any(-2)[of_time][:, 0].int()
    assert (jumps == 1).all(), "a stretch of time has no gap"


def test_a_band_is_at_least_one_row_or_column():
    targets = draw(Bands(), spectrogram()).targets
    assert targets.shape[1] == 3 and set(targets.sum(-1).flatten().tolist()) == {ROWS, COLUMNS}


def test_the_context_is_all_but_the_bands():
    tokens = spectrogram(num_pinned=2)
    tokens.valid[:, :2] = True
    masks = draw(Bands(), tokens)
    assert torch.equal(masks.context, ~masks.targets.any(1)) and masks.context[:, :2].all()


def test_hard_masks_come_as_often_as_the_schedule_says():
    sampler, tokens = curriculum(), spectrogram([COLUMNS])
    generator = torch.Generator().manual_seed(0)
    for progress, expected in ((0.0, 0.01), (0.04, 0.2), (0.25, 0.5), (1.0, 1.0)):
        assert sampler.hard_share(progress) == pytest.approx(expected, abs=3e-3)
        hard = [sampler(tokens, generator, progress, None).targets.shape[1] == 3 for _ in range(300)]
        assert sum(hard) / 300 == pytest.approx(expected, abs=0.09)
    assert curriculum(start=0.0).hard_share(0.0) == 0 and curriculum().hard_share(1.0) == 1


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_short_recordings_have_targets_and_a_context_of_their_own(progress):
    columns = [3, COLUMNS, 3, 1, 7, 5] * 5
    tokens = spectrogram(columns)
    masks = draw(curriculum(start=0.0), tokens, progress)
    assert masks.targets.any(-1).all(), "no target is padding alone"
    assert (masks.context.sum(-1) >= 2).all() and not (masks.context & ~tokens.valid).any()
    assert not (masks.targets & ~tokens.valid[:, None]).any()
    assert not (masks.context[:, None] & masks.targets).any()
    if progress == 0:  # shares are of the recording, not of the padded length
        for length in (3, 7, 13):
            of_length = torch.tensor(columns) == length
            share = masks.targets[of_length].float().sum(-1).mean() / (ROWS * length)
            assert 0.12 < share < 0.22


def test_recordings_without_padding_are_masked_as_by_the_samplers_themselves():
    tokens = spectrogram()
    for progress, sampler in ((0.0, MultiBlock(min_keep=2)), (1.0, Bands(min_keep=2))):
        found = draw(curriculum(start=0.0), tokens, progress)
        generator = torch.Generator().manual_seed(0)
        torch.rand((), generator=generator)
        wanted = sampler(tokens, generator, progress, None)
        assert torch.equal(found.targets, wanted.targets) and torch.equal(found.context, wanted.context)


def test_refusals_name_the_setting():
    with pytest.raises(ValueError, match=r"start must be a probability in \[0, 1\], got 2"):
        curriculum(start=2)
    with pytest.raises(ValueError, match=r"target_scale must be 0 < low <= high <= 1"):
        Bands(target_scale=(0.2, 0.1))
    for name in ("min_keep", "num_targets"):
        with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
            Bands(**{name: 0})
    with pytest.raises(ValueError, match=r"min_keep \(104\)"):
        draw(Bands(min_keep=104), spectrogram([COLUMNS]))
    places = torch.zeros(2, 5, 3)
    tokens = TokenSet(places, places, torch.ones(2, 5, dtype=torch.bool), torch.zeros(5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"shared coords \(P,2\)"):
        draw(curriculum(), tokens)
