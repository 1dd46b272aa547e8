"""Pictures cut into square patches, and the words of their captions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldjepa.tokenizers.image import ImageTokenizer
from worldjepa.types import Observation, TokenSet

PICTURE, TEXT = 0, 1
"""First coordinate of a token."""


class ImageTextTokenizer(nn.Module):
    """``pixels`` and ``caption`` -> one token per patch, then one per word.

    Contents are [patch | word], with zeros for what a token is not, so that an encoder's linear map holds one map of
    patches and one table of words. Coordinates are (``PICTURE``, row, column) or (``TEXT``, position, 0). A word is a
    one-hot vector, scaled to mean square 1 as normalised pixels are.

    Args:
        image_size, patch_size: of the pictures, in pixels.
        num_words: size of the vocabulary; word 0 is padding and no token.
        max_words: L, the longest caption.
        channels: colours of a picture.
    """

    takes = ("pixels", "caption")
    num_pinned = 0

    def __init__(self, image_size: int, patch_size: int, num_words: int, max_words: int, channels: int = 3):
        super().__init__()
        if num_words < 2:
            raise ValueError(f"num_words must be >= 2, padding and a word, got {num_words}")
        self.image = ImageTokenizer(image_size, patch_size, channels)
        self.num_words, self.max_words = num_words, max_words
        self.token_dim = self.image.token_dim + num_words - 1
        places = F.pad(self.image.coords, (1, 0), value=PICTURE)
        words = F.pad(torch.arange(float(max_words))[:, None], (0, 1))
        coords = torch.cat([places, F.pad(words, (1, 0), value=TEXT)])
        self.register_buffer("coords", coords, persistent=False)

    def fit(self, observation: Observation) -> None:
        """Takes one mean and standard deviation of all ``pixels``."""
        self.image.fit(observation)

    def forward(self, observation: Observation) -> TokenSet:
        """``pixels`` uint8 (B,channels,height,width), ``caption`` int64 (B,L) -> values (B,patches + L,token_dim).

        Raises:
            ValueError: pixels or words of another size or type.
        """
        caption: Tensor = observation["caption"]
        if caption.dtype != torch.int64 or caption.dim() != 2 or caption.shape[1] != self.max_words:
            raise ValueError(
                f"caption must be int64 (B, {self.max_words}), got {caption.dtype} {tuple(caption.shape)}; pad it "
                "with 0 or set max_words"
            )
        if caption.min() < 0 or caption.max() >= self.num_words:
            raise ValueError(
                f"words must be 0 to {self.num_words - 1}, got {int(caption.min())} to {int(caption.max())}; "
                "set num_words"
            )
        patches = self.image(observation)
        num_kinds = self.num_words - 1
        words = F.one_hot(caption, self.num_words)[..., 1:].to(patches.values.dtype) * num_kinds**0.5
        values = [F.pad(patches.values, (0, num_kinds)), F.pad(words, (self.image.token_dim, 0))]
        valid = torch.cat([patches.valid, caption > 0], 1)
        return TokenSet(torch.cat(values, 1), self.coords, valid, torch.zeros_like(valid[0]))
