"""MC-JEPA (arXiv:2307.12698): motion and content in one encoder.

Motion: features of a picture, moved by the optical flow, are those of the next one; the flow is learned by making them
so. Content: two views of one picture have one embedding (VICReg). Both halves share the pyramid of features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldjepa.encoders.pyramid import PyramidEncoder
from worldjepa.layers import batchnorm_mlp
from worldjepa.motion import resize_flow, seen_in_both
from worldjepa.objectives.motion import swapped
from worldjepa.objectives.weighted_sum import WeightedSum
from worldjepa.types import Motion, Observation, Segment

LEAST_SEEN = 0.5
"""Share of a picture; what is covered or leaves between two frames of a video is less than the rest."""


class MotionModel(nn.Module):
    """A pyramid encoder and what reads optical flow off two of its pyramids.

    Args:
        encoder: the pyramid.
        predictor: two pyramids -> flow at every level, see :class:`worldjepa.predictors.flow.FlowPredictor`; None for
            a model of content alone.
    """

    def __init__(self, encoder: PyramidEncoder, predictor: nn.Module | None = None):
        super().__init__()
        self.encoder, self.predictor = encoder, predictor

    def encode(self, obs: Observation) -> Tensor:
        """Observations (B,T,...) -> pooled features (B,T,1,D)."""
        return self.encoder(obs)

    def flow(self, first: Tensor, second: Tensor) -> Tensor:
        """Pictures uint8 (N,3,height,width) of any size -> optical flow float32 (N,2,height,width), px.

        Raises:
            ValueError: the model was trained on content alone, or the pictures differ in shape.
        """
        if self.predictor is None:
            raise ValueError("this model was trained on content alone and knows no flow; train it with motion terms")
        if first.shape != second.shape or first.dim() != 4:
            raise ValueError(
                f"flow is between pictures of one shape (N,3,height,width), got {tuple(first.shape)} and "
                f"{tuple(second.shape)}"
            )
        height, width = first.shape[-2:]
        stride = self.encoder.pyramid.stride
        beyond = 0, -width % stride, 0, -height % stride
        both = F.pad(torch.cat([first, second]).float(), beyond, mode="replicate")
        features = self.encoder.features({"pixels": both[:, None]})
        there, back = zip(*(level.chunk(2) for level in features), strict=True)
        return resize_flow(self.predictor(there, back)[0], both.shape[-2:])[..., :height, :width]


class McJepa(nn.Module):
    """The model with what only training needs: views of pictures, an expander for their embeddings, the objective.

    Args:
        model: to be trained.
        objective: terms of a :class:`worldjepa.types.Motion`.
        expander: pooled features (M,D) -> embeddings (M,D'); None where no term needs content.
        views: pictures uint8 (M,3,height,width), generator -> (2,M,3,height,width), two views of each.
        motion_share: of a batch's clips, those from which flow is learned; content needs more pictures and less work.
        frozen_encoder: train the flow alone, on features that stay what they are.

    Raises:
        ValueError: no such share.
    """

    def __init__(
        self,
        model: MotionModel,
        objective: WeightedSum,
        expander: nn.Module | None = None,
        views: Callable[[Tensor, torch.Generator], Tensor] | None = None,
        motion_share: float = 1.0,
        frozen_encoder: bool = False,
    ):
        super().__init__()
        if not 0 < motion_share <= 1:
            raise ValueError(f"motion_share must be a share of the batch in (0, 1], got {motion_share}")
        self.model, self.objective, self.expander, self.views = model, objective, expander, views
        self.motion_share = motion_share
        self.register_buffer("progress", torch.zeros(()))
        if frozen_encoder:
            model.encoder.requires_grad_(False)

    def forward(self, segment: Segment, generator: torch.Generator) -> dict[str, Tensor]:
        """Name -> scalar of every training term, and their weighted ``total``.

        Args:
            segment: clips of at least two frames; every frame and the next are a pair. Content is seen in the first.
        """
        pixels = segment.observation["pixels"]
        pictures, flow, seen, features = [], [], [], []
        if self.model.predictor is not None or self.objective.needs("features"):
            clips = pixels[: math.ceil(self.motion_share * len(pixels))]
            both = torch.cat([clips[:, :-1].flatten(0, 1), clips[:, 1:].flatten(0, 1)])
            features = self.model.encoder.features({"pixels": both[:, None]})
        if self.model.predictor is not None:
            flow = self.model.predictor(features, [swapped(level) for level in features])
            flow = [resize_flow(flow[0], both.shape[-2:]), *flow]
            bright = both.float() / 255
            pictures = [F.interpolate(bright, size=level.shape[-2:], mode="area") for level in flow]
            # Judged at full size: half a pixel of a coarse level is too much to tell that something is covered.
            both_ways = seen_in_both(flow[0], swapped(flow[0])).float()
            # Where hardly anything would be seen in both, the flow is wrong: if that counted as hidden, all would.
            both_ways[both_ways.mean((1, 2, 3)) < LEAST_SEEN] = 1.0
            seen = [F.interpolate(both_ways, size=level.shape[-2:], mode="area") > 0.5 for level in flow]
        embedded = None
        if self.expander is not None:
            with torch.autocast(pixels.device.type, enabled=False):
                views = self.views(pixels[:, 0], _own_stream())
            pooled = self.model.encode({"pixels": views})[:, :, 0]
            embedded = self.expander(pooled.flatten(0, 1)).unflatten(0, pooled.shape[:2]).float()
        with torch.autocast(pixels.device.type, enabled=False):
            return self.objective(Motion(pictures, flow, seen, features, embedded), generator, float(self.progress))

    def update_target(self, progress: float) -> None:
        """To be called after every optimiser step; ``progress`` in [0, 1] says which terms count by now."""
        self.progress.fill_(progress)


def build_mc_jepa(
    encoder: PyramidEncoder,
    predictor: Callable[[], nn.Module],
    terms: dict[str, nn.Module],
    weights: dict[str, float],
    starts: dict[str, float],
    expander: Sequence[int],
    views: Callable[[Tensor, torch.Generator], Tensor],
    motion_share: float = 1.0,
    frozen_encoder: bool = False,
) -> McJepa:
    """Puts together what the weights ask for: the flow's part, the content's, or both.

    Args:
        encoder: without a head, whose weights nothing would train.
        predictor: makes the part that says flow.
        terms, weights, starts: of the objective; terms of weight 0 are left out, and nothing waits for content where
            there is none.
        expander: widths of the expander's layers.
        views, motion_share: see :class:`McJepa`.
        frozen_encoder: for flow alone, on features of another run.

    Raises:
        ValueError: an encoder with a head, or a frozen one that would learn nothing.
    """
    if type(encoder) is not PyramidEncoder:
        raise ValueError(f"MC-JEPA trains a pyramid without a head, got {type(encoder).__name__}; use pyramid_pooled")
    used = {name for name, weight in weights.items() if weight}
    content = {name for name in used & set(terms) if getattr(terms[name], "needs_content", False)}
    objective = WeightedSum(terms, weights, starts if content else None)
    if frozen_encoder and (encoder.init is None or content or not objective.needs("motion")):
        raise ValueError(
            "frozen_encoder=true learns flow on what another run has learned: give encoder.init=<run>, weights of the "
            "flow's terms, and objective.weights.content=0"
        )
    model = MotionModel(encoder, predictor() if objective.needs("motion") else None)
    if not content:
        return McJepa(model, objective, motion_share=motion_share, frozen_encoder=frozen_encoder)
    return McJepa(model, objective, batchnorm_mlp(encoder.latent_dim, expander), views, motion_share)


def _own_stream() -> torch.Generator:
    """From the global stream, which every data-parallel process has for itself: pictures of all get other views."""
    return torch.Generator().manual_seed(int(torch.randint(2**62, ())))
