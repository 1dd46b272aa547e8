"""What is measured of frozen features, on features and pictures in which the answer is planted."""

import math

import numpy as np
import pytest
import torch

from worldjepa.datasets.samples import Samples
from worldjepa.encoders.vit import Vit
from worldjepa.evaluation import frozen
from worldjepa.evaluation.frozen import PROBES, alpha_req, eigenvalues, finetuned_score, measure_features, probe_score
from worldjepa.evaluation.sample_figures import samples_section
from worldjepa.systems.masked import TokenModel
from worldjepa.tokenizers.image import ImageTokenizer
from worldjepa.tokenizers.table import TableTokenizer

N, D = 200, 24
QUICK = {"steps": 60, "batch_size": 32, "learning_rate": 3e-3}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_spectrum(variances: torch.Tensor, mean: float = 3.0) -> torch.Tensor:
    """Features (N,D) whose covariance has exactly these eigenvalues (D,), in directions of no special kind."""
    centred = normal(N, len(variances))
    columns = torch.linalg.qr(centred - centred.mean(0))[0]
    turned = torch.linalg.qr(normal(len(variances), len(variances), seed=1))[0]
    return mean + columns * (N * variances).sqrt() @ turned


def power_law(exponent: float) -> torch.Tensor:
    return torch.arange(1.0, D + 1, dtype=torch.float64) ** -exponent


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0, 6.0])  # of the last a few values count alone: 24^-6 < 1e-6
def test_a_planted_power_law_gives_its_exponent_whatever_the_scale(exponent):
    for scale in (1.0, 1e3):
        assert alpha_req(scale * with_spectrum(power_law(exponent))) == pytest.approx(exponent, abs=1e-6)


def test_directions_that_rounding_made_have_no_part_in_the_exponent():
    thin = power_law(1.0)
    thin[10:] = 1e-9
    assert alpha_req(with_spectrum(thin)) == pytest.approx(1.0, abs=1e-6)
    assert alpha_req(torch.full((N, D), 0.7)) == math.inf


def test_eigenvalues_descend_and_sum_to_the_total_variance():
    variances = power_law(1.3)
    found = eigenvalues(with_spectrum(variances[torch.randperm(D, generator=torch.Generator().manual_seed(2))]))
    assert found == pytest.approx(variances.numpy(), rel=1e-9)
    features = normal(N, D).float() @ normal(D, D, seed=1).float() - 5.0
    assert eigenvalues(features).sum() == pytest.approx(float(features.var(0, correction=0).sum()), rel=1e-5)


def halves(features: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return features[::2], labels[::2], features[1::2], labels[1::2]


def classes() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of three classes that lie apart, noise that knows nothing, and the labels."""
    labels = torch.randint(3, (300,), generator=torch.Generator().manual_seed(0))
    noise = normal(300, 5, seed=1).float()
    return noise + 8 * torch.nn.functional.one_hot(labels, 5), noise, labels


def quantities() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points on a circle, noise, and how high the points are: linear, and the same for all in one direction."""
    angle = 2 * math.pi * torch.rand(300, generator=torch.Generator().manual_seed(0))
    return torch.stack([angle.cos(), angle.sin()], 1), normal(300, 2, seed=1).float(), 40 + 3 * angle.sin()


@pytest.mark.parametrize("kind", PROBES)
def test_classes_that_lie_apart_are_read_and_noise_gives_chance(kind):
    features, noise, labels = classes()
    assert probe_score(kind, *halves(features, labels)) > 0.97
    assert 0.2 < probe_score(kind, *halves(noise, labels)) < 0.47


@pytest.mark.parametrize("kind", PROBES)
def test_a_quantity_is_explained_wholly_by_what_tells_it_and_not_at_all_by_noise(kind):
    features, noise, labels = quantities()
    assert 0.97 < probe_score(kind, *halves(features, labels)) <= 1
    assert -0.2 < probe_score(kind, *halves(noise, labels)) < 0.1


@pytest.mark.parametrize("kind", PROBES)
@pytest.mark.parametrize("planted", [classes, quantities])
def test_the_unit_and_the_origin_of_a_feature_do_not_matter(kind, planted):
    features, _, labels = planted()
    features = features + features.abs().max() / 2 * normal(*features.shape, seed=3)
    moved = features * 1000.0 ** torch.arange(-1, features.shape[1] - 1) + 7.0
    expected = probe_score(kind, *halves(features, labels))
    assert probe_score(kind, *halves(moved, labels)) == pytest.approx(expected, abs=1e-3) and expected < 0.95


def test_nearest_neighbours_are_twenty_by_the_cosine_of_standardised_features():
    features, labels = normal(120, 7) * torch.arange(1.0, 8), normal(120, seed=1).float()
    train, known, asked, true = halves(features, labels)
    std, mean = torch.std_mean(train, 0, correction=0)
    train, asked = (torch.nn.functional.normalize((part - mean) / std) for part in (train, asked))
    said = known[(asked @ train.T).topk(20).indices].mean(1)
    expected = 1 - (said - true).square().sum() / (true - true.mean()).square().sum()
    assert probe_score("knn", *halves(features, labels)) == pytest.approx(float(expected), abs=1e-5)


def test_few_samples_are_read_and_one_class_tells_nothing():
    features = torch.eye(4)
    for labels in (torch.tensor([0, 1, 2, 3]), torch.tensor([0, 0, 0, 1])):
        assert probe_score("svm", features, labels, features, labels) >= 0.75
    assert math.isnan(probe_score("linear", features, torch.ones(4, dtype=torch.int64), features, labels))


def test_an_unknown_probe_and_features_that_are_no_numbers_are_refused():
    features, _, labels = classes()
    with pytest.raises(ValueError, match="probe must be one of linear, svm, knn, got 'forest'"):
        probe_score("forest", *halves(features, labels))
    for row in (6, 7):  # of the training and of the held-out half
        broken = features.clone()
        broken[row, 2] = float("inf")
        with pytest.raises(ValueError, match="features must be finite, got NaN or infinity; the encoder has diverged"):
            probe_score("linear", *halves(broken, labels))


def picture_model(size: int, patch: int, seed: int = 0, slices: dict | None = None) -> TokenModel:
    torch.manual_seed(seed)
    tokenizer = ImageTokenizer(size, patch, channels=1, num_pinned=1)
    return TokenModel(tokenizer, Vit(tokenizer.token_dim, 12, 1, 3, num_pinned=1), slices=slices)


def pictures(count: int, size: int, seed: int) -> Samples:
    """Grey noise, a little brighter in the upper left corner where the label is 1; the last row is black."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (count,), generator=generator)
    pixels = torch.randint(60, 160, (count, 1, size, size), dtype=torch.uint8, generator=generator)
    pixels[:, :, : size // 2, : size // 2] += 40 * labels.to(torch.uint8)[:, None, None, None]
    pixels[:, :, -1] = 0
    return Samples({"pixels": pixels}, labels)


def shapes_read(monkeypatch, model: TokenModel, train: Samples, held_out: Samples) -> set[tuple[int, ...]]:
    """Of the features that :func:`raw_score` gives its probe."""
    shapes = set()

    def look(kind, train_features, train_labels, test_features, test_labels) -> float:
        shapes.update({tuple(train_features.shape), tuple(test_features.shape)})
        return 0.5

    with monkeypatch.context() as patched:
        patched.setattr(frozen, "probe_score", look)
        assert frozen.raw_score("linear", model, train, held_out) == 0.5
    return shapes


def test_few_raw_numbers_are_read_as_they_are_but_for_constant_ones(monkeypatch):
    train, held_out = pictures(90, 10, 0), pictures(70, 10, 1)
    model = picture_model(10, 2)
    assert shapes_read(monkeypatch, model, train, held_out) == {(90, 90), (70, 90)}  # 100 pixels without the black row
    assert frozen.raw_score("linear", model, train, held_out) > 0.9
    train.labels[:] = train.labels[torch.randperm(90, generator=torch.Generator().manual_seed(0))]
    assert frozen.raw_score("linear", model, train, held_out) < 0.75


def test_of_many_raw_numbers_principal_components_are_read_and_still_know_the_label(monkeypatch):
    train, held_out = pictures(90, 24, 0), pictures(70, 24, 1)
    model = picture_model(24, 4)
    assert 23 * 24 > frozen.MOST_RAW
    ((_, of_train), (_, of_held_out)) = shapes_read(monkeypatch, model, train, held_out)
    assert of_train == of_held_out == 89, "centred, 90 pictures span 89 directions"
    assert frozen.raw_score("linear", model, train, held_out) > 0.9


def test_directions_of_rounding_errors_are_no_principal_components(monkeypatch):
    weights = torch.randint(0, 8, (100, 3, 1, 1, 1), generator=torch.Generator().manual_seed(0))
    patterns = torch.randint(0, 9, (3, 1, 24, 24), generator=torch.Generator().manual_seed(1))
    pixels = (20 + (weights * patterns).sum(1)).to(torch.uint8)
    train, held_out = Samples({"pixels": pixels[:60]}, weights[:60, 0, 0, 0, 0]), Samples({"pixels": pixels[60:]}, None)
    assert shapes_read(monkeypatch, picture_model(24, 4), train, held_out) == {(60, 3), (40, 3)}


def product_table(count: int, seed: int, quantity: bool) -> Samples:
    """Whether two numbers have one sign, or their product: nothing that is linear in them knows."""
    table = normal(count, 2, seed=seed).float()
    product = table.prod(1)
    return Samples({"table": table}, 5 * product - 30 if quantity else (product > 0).long())


def table_model(train: Samples) -> TokenModel:
    """Narrow, so that no random feature of it happens to be the product."""
    torch.manual_seed(0)
    tokenizer = TableTokenizer({"a": None, "b": None}, num_pinned=0)
    tokenizer.fit(train.observation)
    return TokenModel(tokenizer, Vit(tokenizer.token_dim, 6, 1, 2))


@pytest.mark.parametrize("quantity", [False, True])
def test_an_encoder_that_learns_from_labels_knows_what_its_frozen_features_do_not(quantity):
    train, held_out = product_table(300, 0, quantity), product_table(200, 1, quantity)
    model = table_model(train)
    frozen_score = measure_features(model, train, held_out)["linear"]
    learned = finetuned_score(model, train, held_out, {"steps": 150, "batch_size": 32, "learning_rate": 2e-2})
    assert 0.8 < learned <= 1 and learned > frozen_score + 0.25


@pytest.mark.parametrize("training", [False, True])
def test_learning_from_labels_leaves_the_given_model_as_it_was_and_is_repeated_by_its_seed(training):
    train, held_out = pictures(90, 10, 0), pictures(70, 10, 1)
    model = picture_model(10, 5).train(training)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    scores = []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        scores.append(finetuned_score(model, train, held_out, QUICK, seed=5))
    assert scores[0] == scores[1] > 0.9
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert all(module.training is training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


MEASURED = {"probe", "knn", "rankme", "alpha_req"}
KEYS = MEASURED | {f"random_{name}" for name in MEASURED} | {"raw_probe"}


def judged(model: TokenModel, untrained: TokenModel, **settings) -> dict[str, float]:
    settings = {"probe": "linear", "finetuning": {"steps": 0}} | settings
    return frozen.measure_samples(model, untrained, pictures(60, 10, 0), pictures(40, 10, 1), settings)


def test_a_judgement_has_the_documented_names_of_the_trained_and_the_untrained():
    model, untrained = picture_model(10, 2), picture_model(10, 2, seed=1)
    found = judged(model, untrained, probe="svm")
    assert set(found) == KEYS
    for prefix, one in (("", model), ("random_", untrained)):
        alone = measure_features(one, pictures(60, 10, 0), pictures(40, 10, 1), ("svm", "knn"))
        alone["probe"] = alone.pop("svm")
        assert {name: found[f"{prefix}{name}"] for name in MEASURED} == alone
    assert found["rankme"] != found["random_rankme"]


def test_other_probes_slices_and_learning_from_labels_are_measured_where_they_are_asked_for():
    model, untrained = picture_model(10, 2, slices={"what": (0, 5)}), picture_model(10, 2, seed=1)
    found = judged(model, untrained, also=["linear", "svm"], finetuning=QUICK | {"steps": 5})
    more = {"linear", "svm", "random_linear", "random_svm", "what_probe", "finetuned", "scratch"}
    assert set(found) == KEYS | more
    assert found["linear"] == found["probe"] and found["random_linear"] == found["random_probe"]
    sizes = pictures(60, 10, 0), pictures(40, 10, 1)
    assert found["finetuned"] == finetuned_score(model, *sizes, QUICK | {"steps": 5})
    assert found["scratch"] == finetuned_score(untrained, *sizes, QUICK | {"steps": 5})


def shown(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Pictures of a run, as the judgement leaves them."""
    places = normal(len(labels), 2).numpy()
    values = {"eigenvalues": power_law(1.0).numpy(), "random_eigenvalues": power_law(2.0).numpy()}
    return {"places": places, "share": np.array([0.5, 0.25]), "labels": labels, "names": np.array(["a"]), **values}


def measured(**more: float) -> dict[str, float]:
    return dict.fromkeys(sorted(KEYS), 0.5) | {"rankme": 9.0} | more


def test_a_collapse_is_said_below_its_bound_and_not_from_there_on():
    below, at = (samples_section(measured(rankme=rankme), {}) for rankme in (frozen.COLLAPSED - 0.01, frozen.COLLAPSED))
    assert "Collapsed: all samples have nearly the same features" in below
    assert "Collapsed" not in at and "Collapsed" not in samples_section(measured(random_rankme=1.0), {})
    # The bound has features that are nearly the same below it, and those of two directions above.
    assert frozen.rankme(torch.ones(N, D) + 1e-3 * normal(N, D)) < frozen.COLLAPSED < frozen.rankme(normal(N, 2))


@pytest.mark.parametrize("labels", [np.arange(30) % 3, np.linspace(0, 1, 30)], ids=["classes", "quantity"])
def test_the_spectrum_and_the_map_are_drawn_where_there_are_eigenvalues(labels):
    page = samples_section(measured(), shown(labels))
    for theme in ("srcset=", "src="):
        assert page.count(f'{theme}"data:image/png;base64,') == 2
    assert """alt="eigenvalues of the features' covariance\"""" in page
    assert "data:image" not in samples_section(measured(), {})


def test_the_table_has_both_columns_and_what_else_was_measured():
    page = samples_section(measured(probe=0.912, random_probe=0.334, knn=0.876), {})
    assert "<td>0.912</td><td>0.334</td>" in page and "<td>0.876</td><td>0.5</td>" in page
    assert "from scratch" not in page
    page = samples_section(measured(finetuned=0.987, scratch=0.654, what_probe=0.777), {})
    assert "<td>0.987</td><td>0.654</td>" in page and "<td>0.777</td>" in page
    assert samples_section({"loss_over_mean_latent": 0.4}, {}) == "", "a run of another family has no such section"
