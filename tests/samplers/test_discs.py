import pytest
import torch

from worldjepa.datasets.lead_fields import ELECTRODE_PLACES
from worldjepa.samplers.discs import Discs
from worldjepa.tokenizers.signals import EegTokenizer
from worldjepa.types import TokenSet

B, WINDOWS = 400, 3
CHANNELS = len(ELECTRODE_PLACES)
APART = torch.cdist(torch.from_numpy(ELECTRODE_PLACES), torch.from_numpy(ELECTRODE_PLACES))


def tokens(num_pinned: int = 0, batch: int = B) -> TokenSet:
    return EegTokenizer(ELECTRODE_PLACES, 4, num_pinned=num_pinned)({"eeg": torch.zeros(batch, CHANNELS, 4 * WINDOWS)})


def draw(sampler: Discs, of: TokenSet, seed: int = 0):
    return sampler(of, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("diameter", [0.4, 0.6, 0.8])
def test_a_disc_is_exactly_the_channels_within_half_its_diameter_at_all_times(diameter):
    hidden = draw(Discs(diameter), tokens()).targets[:, 0].view(B, CHANNELS, WINDOWS)
    assert torch.equal(hidden.any(2), hidden.all(2))
    near = APART <= diameter / 2 * APART.max()
    discs = {tuple(row) for row in near.tolist()}
    drawn = {tuple(row) for row in hidden[..., 0].tolist()}
    assert drawn == discs, "each channel is in the middle at times, and nothing else is ever hidden"


def test_larger_discs_hide_more_and_the_rest_is_context():
    of = tokens()
    counts = []
    for diameter in (0.4, 0.6, 0.8, 0.99):
        masks = draw(Discs(diameter), of)
        assert masks.targets.shape == (B, 1, CHANNELS * WINDOWS)
        assert torch.equal(masks.context, ~masks.targets[:, 0])
        counts.append(float(masks.targets.float().sum((1, 2)).mean()) / WINDOWS)
    assert counts == sorted(counts) and counts[0] == 1 and 4 < counts[2] < 5


def test_discs_do_not_depend_on_the_unit_of_places():
    of = tokens()
    scaled = TokenSet(of.values, of.coords * torch.tensor([0.09, 0.09, 0.09, 1.0]), of.valid, of.pinned)
    assert torch.equal(draw(Discs(0.8), of).targets, draw(Discs(0.8), scaled).targets)


def test_pinned_tokens_are_context_and_padding_is_nothing():
    of = tokens(num_pinned=2)
    of.valid[5, 2 : 2 + 6 * WINDOWS] = False
    for seed in range(20):
        masks = draw(Discs(0.8), of, seed)
        assert masks.context[:, :2].all() and not masks.targets[..., :2].any()
        assert not masks.context[5, 2 : 2 + 6 * WINDOWS].any() and not masks.targets[5, 0, 2 : 2 + 6 * WINDOWS].any()
        assert masks.targets.any(-1).all()


def test_samples_differ_and_seeds_reproduce():
    sampler, of = Discs(0.8), tokens()
    assert torch.equal(draw(sampler, of).targets, draw(sampler, of).targets)
    assert not torch.equal(draw(sampler, of).targets, draw(sampler, of, seed=1).targets)


def test_impossible_masks_are_refused():
    near = [[0.0, 0.0, 1.0], [0.1, 0.0, 1.0], [0.0, 0.1, 1.0]]
    of = EegTokenizer(near, 4)({"eeg": torch.zeros(50, 3, 4)})
    of = TokenSet(of.values[:, :2], of.coords[:2], of.valid[:, :2], of.pinned[:2])
    assert draw(Discs(0.9), of).context.any(1).all()
    of.valid[3, 1] = False
    with pytest.raises(ValueError, match=r"diameter 0.9 of the head hides all 1 tokens.*lower diameter"):
        draw(Discs(0.9), of)
    with pytest.raises(ValueError, match="share of the head"):
        Discs(1.5)
    with pytest.raises(ValueError, match="shared coords"):
        draw(Discs(), TokenSet(of.values, torch.zeros(2, 1), of.valid, of.pinned))
