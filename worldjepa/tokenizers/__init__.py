"""Raw input -> TokenSet, one file per modality. Tokenizers learn nothing: embedding is the encoder's work."""

from worldjepa.tokenizers.image import ImageTokenizer

__all__ = ["ImageTokenizer"]
