from dataclasses import replace
from functools import partial

import pytest
import torch

from worldjepa.encoders.vit import Vit
from worldjepa.objectives.distances import make_distance
from worldjepa.objectives.group_lasso import GroupLasso
from worldjepa.objectives.sigreg import SigReg
from worldjepa.objectives.vicreg import VicReg
from worldjepa.predictors.masked import MaskedPredictor
from worldjepa.samplers import Masks, MultiBlock
from worldjepa.systems.masked import MaskedJepa, TokenModel
from worldjepa.targets import Ema, FixedFeature, Live
from worldjepa.tokenizers import ImageTokenizer
from worldjepa.types import SampleBatch, TokenSet

B, SIZE, PATCH, WIDTH = 3, 10, 2, 12


def system(num_pinned: int = 0) -> MaskedJepa:
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(SIZE, PATCH, channels=1, num_pinned=num_pinned)
    encoder = Vit(tokenizer.token_dim, WIDTH, depth=2, heads=3, num_pinned=num_pinned)
    model = TokenModel(tokenizer, encoder, MaskedPredictor(WIDTH, width=8, depth=2, heads=2))
    return MaskedJepa(model, MultiBlock(num_targets=2, min_keep=5), partial(Ema, start=0.9), make_distance("smooth_l1"))


def pictures(batch: int = B) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 1, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def draw(system: MaskedJepa, pixels: torch.Tensor) -> Masks:
    tokens = system.model.tokenizer({"pixels": pixels})
    return system.sampler(tokens, torch.Generator().manual_seed(0), 0.0, system.target)


@pytest.mark.parametrize("num_pinned", [0, 1])
def test_changing_hidden_pixels_leaves_the_prediction_bit_identical(num_pinned):
    whole, pixels = system(num_pinned), pictures()
    masks, model = draw(whole, pixels), whole.model
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
    whole, pixels = system(), pictures()
    masks, model = draw(whole, pixels), whole.model
    together, _, valid = model.predict(model.tokenizer({"pixels": pixels}), masks)
    for i in range(B):
        own = Masks(masks.context[i : i + 1], masks.targets[i : i + 1])
        alone, _, own_valid = model.predict(model.tokenizer({"pixels": pixels[i : i + 1]}), own)
        assert torch.allclose(together[i][valid[i]], alone[0][own_valid[0]], atol=1e-5)


def test_loss_is_the_distance_to_the_normalised_teacher_latents_at_the_targets():
    whole, pixels = system().eval(), pictures()
    masks, model = draw(whole, pixels), whole.model
    losses = whole(SampleBatch({"pixels": pixels}), torch.Generator().manual_seed(0))
    with torch.no_grad():
        prediction, _, _ = model.predict(model.tokenizer({"pixels": pixels}), masks)
        latent = whole.target.module(model.tokenizer({"pixels": pixels})).values
        latent = (latent - latent.mean(-1, keepdim=True)) / (latent.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    errors = []
    for b in range(B):
        for m in range(2):
            places = masks.targets[b, m].nonzero()[:, 0]
            difference = (prediction[b, m, : len(places)] - latent[b, places]).abs()
            errors.append(torch.where(difference < 1, difference**2 / 2, difference - 0.5).flatten())
    assert (
        losses["prediction"].item()
        == losses["total"].item()
        == pytest.approx(torch.cat(errors).mean().item(), rel=1e-4)
    )


def test_teacher_gets_no_gradient_and_follows_by_its_momentum():
    whole = system().train()
    losses = whole(SampleBatch({"pixels": pictures()}), torch.Generator().manual_seed(0))
    losses["total"].backward()
    assert all(p.grad is None for p in whole.target.parameters())
    assert all(p.grad is not None for p in whole.model.parameters() if p.numel())
    assert not any(module.training for module in whole.target.module.modules())
    weight = whole.model.encoder.embedding.weight
    before = whole.target.module.embedding.weight.clone()
    with torch.no_grad():
        weight.add_(1.0)
    whole.update_target(progress=0.5)  # momentum 0.9 -> 1, half way: 0.95
    assert torch.allclose(whole.target.module.embedding.weight, before + 0.05, atol=1e-6)
    assert whole.progress == 0.5, "where a resumed run goes on with its curriculum"


def test_several_rows_of_a_sample_are_predicted_as_if_each_were_alone():
    whole, pixels = system(), pictures()
    tokens, model = whole.model.tokenizer({"pixels": pixels}), whole.model
    first, second = (whole.sampler(tokens, torch.Generator().manual_seed(seed), 0.0) for seed in (1, 2))
    rows = Masks(
        *(
            torch.stack(pair, 1).flatten(0, 1)
            for pair in ((first.context, second.context), (first.targets, second.targets))
        )
    )
    together, index, valid = model.predict(tokens, rows)
    assert len(together) == 2 * B
    for i, masks in enumerate((first, second)):
        alone, own, own_valid = model.predict(tokens, masks)
        assert torch.allclose(together[i::2][valid[i::2]], alone[own_valid], atol=1e-5)
        assert torch.equal(index[i::2][valid[i::2]], own[own_valid])


def test_features_leave_out_padding_and_pinned_tokens():
    whole, pixels = system(num_pinned=1), pictures()
    tokens = whole.model.tokenizer({"pixels": pixels})
    latent = whole.model.encoder(tokens).values
    assert torch.allclose(whole.model.features({"pixels": pixels}), latent[:, 1:].mean(1), atol=1e-6)
    whole.model.pool = "mean_max"
    features = whole.model.features({"pixels": pixels})
    assert features.shape == (B, 2 * WIDTH) and torch.allclose(features[:, WIDTH:], latent[:, 1:].amax(1), atol=1e-6)
    whole.model.pool = "pinned"
    assert torch.allclose(whole.model.features({"pixels": pixels}), latent[:, 0], atol=1e-6)


def test_features_over_the_last_coordinate_keep_the_others_apart():
    """Rows are places here and columns times."""
    whole, pixels = system(num_pinned=1), pictures()
    whole.model.pool = "over_last"
    latent = whole.model.encoder(whole.model.tokenizer({"pixels": pixels}))
    rows = latent.coords[1:, 0].unique()
    expected = [latent.values[:, 1:][:, latent.coords[1:, 0] == row].mean(1) for row in rows]
    assert torch.allclose(whole.model.features({"pixels": pixels}), torch.cat(expected, 1), atol=1e-6)
    one = replace(latent, coords=latent.coords[:, :1])
    whole.model.encoder.forward = lambda tokens: one
    with pytest.raises(ValueError, match="pool=over_last needs tokens with two coordinates or more"):
        whole.model.features({"pixels": pixels})


def test_features_over_the_last_coordinate_leave_out_padding():
    latent = torch.tensor([[[1.0], [3.0], [5.0], [7.0]]])
    coords = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    valid, pinned = torch.tensor([[True, True, True, False]]), torch.zeros(4, dtype=torch.bool)
    model = TokenModel(lambda obs: TokenSet(latent, coords, valid, pinned), torch.nn.Identity(), pool="over_last")
    assert model.features({}).tolist() == [[2.0, 5.0]]


def test_flat_features_are_all_tokens_side_by_side():
    latent = torch.tensor([[[9.0, 9.0], [1.0, 2.0], [3.0, 4.0]]])
    coords, pinned = torch.tensor([[0.0], [0.0], [1.0]]), torch.tensor([True, False, False])
    valid = torch.tensor([[True, True, False]])
    model = TokenModel(lambda coords: TokenSet(latent, coords, valid, pinned), torch.nn.Identity(), pool="flat")
    assert model.features(coords).tolist() == [[1.0, 2.0, 0.0, 0.0]]
    with pytest.raises(ValueError, match="pool=flat needs tokens whose places all samples share"):
        model.features(coords[None])


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="pool must be one of mean, mean_max, over_last, flat, pinned, got 'max'"):
        TokenModel(None, None, pool="max")
    whole = system()
    with pytest.raises(ValueError, match="give every regularizer one weight"):
        MaskedJepa(whole.model, whole.sampler, partial(Ema), make_distance("l1"), weights={"sigreg": 1.0})


@pytest.mark.parametrize("num_pinned", [0, 1])
def test_fixed_features_are_those_of_the_tokens_they_were_cut_from(num_pinned):
    whole, pixels = system(num_pinned), pictures()
    cut = ImageTokenizer(SIZE, PATCH, channels=1)
    features = FixedFeature(lambda observation: cut(observation).values)
    fixed = MaskedJepa(whole.model, whole.sampler, features, make_distance("mse"), normalize_target=False)
    wanted = fixed.wanted({"pixels": pixels}, whole.model.tokenizer({"pixels": pixels}))
    assert torch.equal(wanted[:, num_pinned:], cut({"pixels": pixels}).values) and not wanted[:, :num_pinned].any()


REGULARIZERS = {
    "sigreg": SigReg(16),
    "vicreg": VicReg(),
    "hinge": VicReg(variance=1.0, covariance=0.0),
    "group_lasso": GroupLasso(WIDTH, 3, 4),
}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_regularizers_look_at_whole_samples_latents_without_pinned_tokens(name):
    whole = system(num_pinned=1)
    model, one = whole.model, REGULARIZERS[name]
    regularized = MaskedJepa(
        model, whole.sampler, Live, make_distance("mse"), regularizers={name: one}, weights={name: 0.3}
    )
    losses = regularized(SampleBatch({"pixels": pictures()}), torch.Generator().manual_seed(4))
    latents = model.encoder(model.tokenizer({"pixels": pictures()})).values[:, 1:].flatten(0, 1)
    shared = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(4))))
    torch.testing.assert_close(losses[name], one(latents, shared))
    torch.testing.assert_close(losses["total"], losses["prediction"] + 0.3 * losses[name])
    model.zero_grad()
    losses[name].backward()
    assert model.encoder.embedding.weight.grad.abs().sum() > 0


def test_a_named_slice_is_regularized_and_read_alone():
    whole = system()
    model = TokenModel(whole.model.tokenizer, whole.model.encoder, whole.model.predictor, slices={"what": (2, 7)})
    kinds = {"vicreg": VicReg(), "all": VicReg()}
    made = MaskedJepa(
        model,
        *(whole.sampler, partial(Ema, start=0.9), make_distance("mse")),
        regularizers=kinds,
        weights=dict.fromkeys(kinds, 1.0),
        parts={"vicreg": "what"},
    )
    losses, latents = made(SampleBatch({"pixels": pictures()})), model.encoder(model.tokenizer({"pixels": pictures()}))
    torch.testing.assert_close(losses["vicreg"], VicReg()(latents.values.flatten(0, 1)[:, 2:7]))
    torch.testing.assert_close(losses["all"], VicReg()(latents.values.flatten(0, 1)))
    features = model.features({"pixels": pictures()})
    torch.testing.assert_close(model.features({"pixels": pictures()}, "what"), features[:, 2:7])


def test_slices_that_are_not_there_are_refused():
    whole = system()
    parts = whole.model.tokenizer, whole.model.encoder
    with pytest.raises(ValueError, match=r"within the latent's 12 numbers, got 5 to 13; set slices.what"):
        TokenModel(*parts, slices={"what": (5, 13)})
    with pytest.raises(ValueError, match=r"got vicreg: where; regularizers are vicreg, the model's slices none"):
        MaskedJepa(
            whole.model,
            *(whole.sampler, partial(Ema, start=0.9), make_distance("mse")),
            regularizers={"vicreg": VicReg()},
            weights={"vicreg": 1.0},
            parts={"vicreg": "where"},
        )
