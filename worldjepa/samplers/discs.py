"""All that lies near one place is predicted from the rest."""

from __future__ import annotations

import torch

from worldjepa.samplers.masks import Masks
from worldjepa.targets import Target
from worldjepa.tokens import positions
from worldjepa.types import TokenSet


class Discs:
    """S-JEPA's spatial block masks (arXiv:2403.11772): channels around a random one are hidden at all times.

    The head's size is the greatest distance between two of its electrodes; a disc holds every channel at most half its
    diameter from the one in the middle, straight through the head. Every sample has a disc of its own.

    Args:
        diameter: of the disc, over the head's size; 0.4, 0.6 or 0.8 in the paper.

    Raises:
        ValueError: a diameter that is no share.
    """

    def __init__(self, diameter: float = 0.6):
        if not 0 < diameter < 1:
            raise ValueError(f"diameter must be a share of the head in (0, 1), got {diameter}")
        self.diameter = diameter

    def __call__(
        self, tokens: TokenSet, generator: torch.Generator, progress: float = 0.0, target: Target | None = None
    ) -> Masks:
        """Draws for tokens with shared coordinates (P,C), of which the first three are a place.

        Raises:
            ValueError: other coordinates, or a disc that leaves no context.
        """
        if tokens.coords.dim() != 2 or tokens.coords.shape[1] < 3:
            raise ValueError(f"Discs needs shared coords (P, >= 3) of places, got {tuple(tokens.coords.shape)}")
        free = tokens.valid.cpu() & ~tokens.pinned.cpu()
        place = tokens.coords[:, :3].cpu().double()
        apart = torch.cdist(place, place, compute_mode="donot_use_mm_for_euclid_dist")
        size = apart[~tokens.pinned.cpu()][:, ~tokens.pinned.cpu()].max()
        near = apart <= self.diameter / 2 * size + 1e-6
        # Of the sample's own tokens, each as often as any other, so that every channel is in the middle equally often.
        index, _ = positions(free)
        count = free.sum(1)
        chosen = (torch.rand(len(free), generator=generator) * count).long().clamp_max(count - 1)
        middle = index.gather(1, chosen[:, None])[:, 0]
        hidden = near[middle] & free
        context = free & ~hidden
        if not context.any(1).all():
            raise ValueError(
                f"a disc of diameter {self.diameter} of the head hides all {int(free.sum(1).min())} tokens of a "
                "sample; lower diameter or record more channels"
            )
        device = tokens.values.device
        return Masks((context | tokens.pinned.cpu()).to(device), hidden[:, None].to(device))
