from dataclasses import dataclass

import pytest
import torch

from worldjepa.encoders.vit import Vit
from worldjepa.objectives.sigreg import SigReg
from worldjepa.samplers.crops import Crops
from worldjepa.systems.masked import TokenModel
from worldjepa.systems.multi_view import MultiView
from worldjepa.tokenizers import ImageTokenizer
from worldjepa.types import SampleBatch

B, SIZE, WIDTH, PROJECTION = 6, 8, 12, 5


@dataclass
class Given:
    """The views that a test gives."""

    views: torch.Tensor
    num_global: int = 2

    def __call__(self, observation, generator):
        return {"pixels": self.views}


def system(views=None, pool: str = "mean", num_pinned: int = 0, weight: float = 0.02) -> MultiView:
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(SIZE, 2, channels=1, num_pinned=num_pinned)
    encoder = Vit(tokenizer.token_dim, WIDTH, depth=1, heads=3, num_pinned=num_pinned)
    views = Crops(num_global=2, num_local=3) if views is None else views
    return MultiView(TokenModel(tokenizer, encoder, pool=pool), views, [16, 16, PROJECTION], SigReg(32), weight)


def pictures(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, (*shape, 1, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_losses_are_their_formulas():
    views = pictures(5, B)
    whole = system(Given(views), weight=0.3).eval()
    with torch.no_grad():
        losses = whole(SampleBatch({"pixels": views[0]}), torch.Generator().manual_seed(0))
        z = torch.stack([whole.projector(whole.model.features({"pixels": view})) for view in views])
        centre = (z[0] + z[1]) / 2
        expected = sum((view - centre).square().sum() for view in z) / (5 * B * PROJECTION)
        assert losses["prediction"].item() == pytest.approx(expected.item(), rel=1e-4)
        assert losses["mean_latent"].item() == pytest.approx(float((z - z.mean((0, 1))).square().mean()), rel=1e-4)
        torch.manual_seed(1)
        many = SigReg(20_000)(z)  # directions are random: near what very many give
        assert losses["sigreg"].item() == pytest.approx(many.item(), rel=0.3)
    total = 0.7 * losses["prediction"] + 0.3 * losses["sigreg"]
    assert losses["total"].item() == pytest.approx(total.item(), rel=1e-5)


def test_equal_views_cost_nothing_but_the_regulariser():
    same = pictures(B).expand(4, -1, -1, -1, -1)
    losses = system(Given(same))(SampleBatch({"pixels": same[0]}), torch.Generator().manual_seed(0))
    assert losses["prediction"] < 1e-9 and losses["mean_latent"] > 1e-3
    assert losses["total"].item() == pytest.approx(0.02 * losses["sigreg"].item(), rel=1e-4)


def test_a_step_of_learning_reaches_encoder_and_projector_and_depends_on_the_generator_alone():
    whole, batch = system(), SampleBatch({"pixels": pictures(B)})
    losses = whole(batch, torch.Generator().manual_seed(3))
    losses["total"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in whole.parameters() if p.numel())
    assert whole.model.encoder.embedding.weight.grad.abs().sum() > 0
    assert not losses["mean_latent"].requires_grad
    again, other = (whole(batch, torch.Generator().manual_seed(seed)) for seed in (3, 4))
    assert torch.equal(losses["total"], again["total"]) and not torch.equal(losses["total"], other["total"])


def test_directions_do_not_depend_on_how_many_numbers_the_views_draw():
    """Ranks with slices of different sizes must project onto the same directions."""
    seen = []
    whole = system()
    whole.sigreg.register_forward_pre_hook(lambda _, inputs: seen.append(torch.rand(3, generator=inputs[1])))
    for count in (B, B - 1):
        whole(SampleBatch({"pixels": pictures(count)}), torch.Generator().manual_seed(0))
    assert torch.equal(*seen)


@pytest.mark.parametrize(("pool", "num_pinned", "width"), [("mean_max", 0, 2 * WIDTH), ("pinned", 2, 2 * WIDTH)])
def test_the_projector_is_as_wide_as_the_features(pool, num_pinned, width):
    whole = system(pool=pool, num_pinned=num_pinned)
    assert whole.projector[0].in_features == width
    assert torch.isfinite(whole(SampleBatch({"pixels": pictures(B)}))["total"])
    assert whole.model.features({"pixels": pictures(B)}).shape == (B, width)


def test_nothing_follows_and_a_weight_out_of_range_is_refused():
    whole = system()
    before = {name: x.clone() for name, x in whole.state_dict().items()}
    whole.update_target(0.5)
    assert all(torch.equal(x, before[name]) for name, x in whole.state_dict().items())
    with pytest.raises(ValueError, match=r"weight must be in \(0, 1\), got 0.0"):
        system(weight=0.0)
