import pytest
import torch

from worldjepa.samplers.joined import Joined
from worldjepa.samplers.multiblock import MultiBlock
from worldjepa.samplers.temporal import Temporal
from worldjepa.samplers.tubes import Tubes
from worldjepa.types import TokenSet

B, TIMES, ROWS, COLUMNS = 5, 4, 6, 7


def clips() -> TokenSet:
    coords = torch.cartesian_prod(*(torch.arange(float(size)) for size in (TIMES, ROWS, COLUMNS)))
    valid = torch.ones(B, len(coords), dtype=torch.bool)
    return TokenSet(torch.zeros(B, len(coords), 1), coords, valid, torch.zeros(len(coords), dtype=torch.bool))


def test_each_sample_has_the_rows_of_all_samplers_beside_each_other():
    masks = Joined([Tubes(), Temporal()])(clips(), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    tubes, temporal = Tubes()(clips(), generator), Temporal()(clips(), generator)
    assert masks.context.shape == (3 * B, TIMES * ROWS * COLUMNS) and masks.targets.shape[:2] == (3 * B, 1)
    for sample in range(B):
        assert torch.equal(masks.targets[3 * sample : 3 * sample + 2], tubes.targets[2 * sample : 2 * sample + 2])
        assert torch.equal(masks.context[3 * sample + 2], temporal.context[sample])
        assert torch.equal(masks.targets[3 * sample + 2], temporal.targets[sample])


def test_what_does_not_fit_together_is_refused():
    flat = TokenSet(torch.zeros(B, 42, 1), clips().coords[:42, 1:], clips().valid[:, :42], clips().pinned[:42])
    with pytest.raises(ValueError, match=r"same number of targets per row, got \[4, 1\]"):
        Joined([MultiBlock(min_keep=1), Temporal()])(flat, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="at least one sampler"):
        Joined([])
