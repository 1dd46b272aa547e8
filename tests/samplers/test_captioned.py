import pytest
import torch

from worldjepa.samplers.captioned import Captioned
from worldjepa.samplers.multiblock import MultiBlock
from worldjepa.tokenizers.image_text import ImageTextTokenizer
from worldjepa.types import TokenSet

B, SIDE, WORDS = 4, 6, 5


def tokens() -> TokenSet:
    caption = torch.tensor([[1, 2, 3, 4, 5], [1, 2, 0, 0, 0], [3, 3, 3, 0, 0], [0, 0, 0, 0, 0]])
    pixels = torch.zeros(B, 3, 2 * SIDE, 2 * SIDE, dtype=torch.uint8)
    return ImageTextTokenizer(2 * SIDE, 2, num_words=6, max_words=WORDS)({"pixels": pixels, "caption": caption})


def test_blocks_are_those_of_the_picture_and_words_are_in_every_context():
    blocks = MultiBlock(num_targets=2, min_keep=3)
    masks = Captioned(blocks)(tokens(), torch.Generator().manual_seed(0))
    patches = SIDE**2
    place = torch.cartesian_prod(torch.arange(float(SIDE)), torch.arange(float(SIDE)))
    valid = torch.ones(B, patches, dtype=torch.bool)
    picture = TokenSet(torch.zeros(B, patches, 1), place, valid, torch.zeros(patches, dtype=torch.bool))
    alone = blocks(picture, torch.Generator().manual_seed(0))
    assert torch.equal(masks.context[:, :patches], alone.context)
    assert torch.equal(masks.targets[:, :, :patches], alone.targets)
    assert torch.equal(masks.context[:, patches:], tokens().valid[:, patches:])
    assert masks.context[:, patches:].sum(1).tolist() == [5, 2, 3, 0]
    assert not masks.targets[:, :, patches:].any()


def test_tokens_of_pictures_alone_are_refused():
    place = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0))
    valid = torch.ones(B, 9, dtype=torch.bool)
    picture = TokenSet(torch.zeros(B, 9, 1), place, valid, torch.zeros(9, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"coords \(P,3\) of modality, row and column, got \(9, 2\)"):
        Captioned(MultiBlock())(picture, torch.Generator())
