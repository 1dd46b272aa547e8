"""Which tokens predict which."""

from worldjepa.samplers.masks import Masks, Sampler
from worldjepa.samplers.multiblock import MultiBlock

__all__ = ["Masks", "MultiBlock", "Sampler"]
