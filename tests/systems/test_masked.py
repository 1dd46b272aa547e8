from functools import partial

import pytest
import torch

from worldjepa.encoders.vit import Vit
from worldjepa.objectives.distances import make_distance
from worldjepa.predictors.masked import MaskedPredictor
from worldjepa.samplers import Masks, MultiBlock
from worldjepa.systems.masked import MaskedJepa
from worldjepa.targets import Ema
from worldjepa.tokenizers import ImageTokenizer

B, SIZE, PATCH, WIDTH = 3, 10, 2, 12


def system(num_pinned: int = 0) -> MaskedJepa:
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(SIZE, PATCH, channels=1, num_pinned=num_pinned)
    return MaskedJepa(
        tokenizer,
        Vit(tokenizer.token_dim, WIDTH, depth=2, heads=3, num_pinned=num_pinned),
        MultiBlock(num_targets=2, min_keep=5),
        MaskedPredictor(WIDTH, width=8, depth=2, heads=2),
        partial(Ema, start=0.9),
        make_distance("smooth_l1"),
    )


def pictures(batch: int = B) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 1, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def draw(model: MaskedJepa, pixels: torch.Tensor) -> Masks:
    return model.sampler(model.tokenizer({"pixels": pixels}), torch.Generator().manual_seed(0), 0.0)


@pytest.mark.parametrize("num_pinned", [0, 1])
def test_changing_hidden_pixels_leaves_the_prediction_bit_identical(num_pinned):
    model, pixels = system(num_pinned), pictures()
    masks = draw(model, pixels)
    before, _, valid = model.predict(model.tokenizer({"pixels": pixels}), masks)
    visible = masks.context[:, num_pinned:].view(B, 1, SIZE // PATCH, SIZE // PATCH)
    visible = visible.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    changed = torch.where(visible, pixels, 255 - pixels)
    after, _, _ = model.predict(model.tokenizer({"pixels": changed}), masks)
    assert torch.equal(before[valid], after[valid])
    changed = torch.where(visible, 255 - pixels, pixels)
    after, _, _ = model.predict(model.tokenizer({"pixels": changed}), masks)
    assert not torch.allclose(before[valid], after[valid], atol=1e-3), "the visible pixels must matter"


def test_a_prediction_does_not_depend_on_the_rest_of_the_batch():
    model, pixels = system(), pictures()
    masks = draw(model, pixels)
    together, _, valid = model.predict(model.tokenizer({"pixels": pixels}), masks)
    for i in range(B):
        own = Masks(masks.context[i : i + 1], masks.targets[i : i + 1])
        alone, _, own_valid = model.predict(model.tokenizer({"pixels": pixels[i : i + 1]}), own)
        assert torch.allclose(together[i][valid[i]], alone[0][own_valid[0]], atol=1e-5)


def test_loss_is_the_distance_to_the_normalised_teacher_latents_at_the_targets():
    model, pixels = system().eval(), pictures()
    masks = draw(model, pixels)
    losses = model.loss({"pixels": pixels}, torch.Generator().manual_seed(0), 0.0)
    with torch.no_grad():
        prediction, _, _ = model.predict(model.tokenizer({"pixels": pixels}), masks)
        latent = model.target.module(model.tokenizer({"pixels": pixels})).values
        latent = (latent - latent.mean(-1, keepdim=True)) / (latent.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    errors = []
    for b in range(B):
        for m in range(2):
            places = masks.targets[b, m].nonzero()[:, 0]
            difference = (prediction[b, m, : len(places)] - latent[b, places]).abs()
            errors.append(torch.where(difference < 1, difference**2 / 2, difference - 0.5).flatten())
    assert losses["loss"].item() == pytest.approx(torch.cat(errors).mean().item(), rel=1e-4)


def test_teacher_gets_no_gradient_and_follows_by_its_momentum():
    model = system().train()
    losses = model.loss({"pixels": pictures()}, torch.Generator().manual_seed(0), 0.0)
    losses["loss"].backward()
    assert all(p.grad is None for p in model.target.parameters())
    assert all(p.grad is not None for p in model.encoder.parameters() if p.numel())
    assert all(p.grad is not None for p in model.predictor.parameters())
    assert not any(module.training for module in model.target.module.modules())
    weight = model.encoder.embedding.weight
    before = model.target.module.embedding.weight.clone()
    with torch.no_grad():
        weight.add_(1.0)
    model.update(progress=0.5)  # momentum 0.9 -> 1, half way: 0.95
    assert torch.allclose(model.target.module.embedding.weight, before + 0.05, atol=1e-6)


def test_encode_gives_the_latent_of_every_patch():
    assert system().encode({"pixels": pictures()}).shape == (B, 25, WIDTH)
    assert system(num_pinned=1).encode({"pixels": pictures()}).shape == (B, 26, WIDTH)
