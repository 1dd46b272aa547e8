"""Measures of views find what is put into latents and nothing else."""

import numpy as np
import pytest
import torch
from torch import nn

from worldjepa.datasets.store import EpisodeStore
from worldjepa.evaluation.view_figures import views_section
from worldjepa.evaluation.views import Views, encode_views, fit_relations, measure_views, nearest_views, summary_of
from worldjepa.types import EnvSpec, Episode, FieldSpec

THINGS, LENGTH, CLASSES, NOISE = 150, 5, 3, 7


class World:
    """A thing of a class, seen at a place in the plane; actions are differences of places."""

    state_names = ("class", "x", "y")
    label_name = "class"

    def relations(self, state, other):
        return {"shift": other[..., 1:] - state[..., 1:]}


class Sum(nn.Module):
    """An aggregate that holds the mean latent and the sum of the actions."""

    def aggregate(self, latent, action):
        return torch.cat([latent[:, :, 0].mean(1), action.sum(1)], -1)


class Model(nn.Module):
    action_dim = 2
    num_tokens = 1
    encoder = None

    def __init__(self, predictor):
        super().__init__()
        self.predictor = predictor
        self.weight = nn.Parameter(torch.zeros(1))


def views(seed: int, knows_class: bool = True, knows_place: bool = True) -> Views:
    rng = np.random.default_rng(seed)
    label, place = rng.integers(CLASSES, size=THINGS), rng.normal(size=(THINGS, LENGTH, 2))
    state = np.concatenate([np.broadcast_to(label[:, None, None], (THINGS, LENGTH, 1)), place], -1)
    latent = np.concatenate(
        [
            np.eye(CLASSES)[state[..., 0].astype(int)] * knows_class,
            place * knows_place,
            rng.normal(size=(THINGS, LENGTH, NOISE)),
        ],
        -1,
    )
    action = torch.from_numpy(np.diff(place, axis=1)).float()
    groups = [f"thing/{i}" for i in range(THINGS)]
    return Views(torch.from_numpy(latent).float(), action, state, np.arange(THINGS), groups)


def test_what_latents_hold_is_found():
    found = measure_views(Model(Sum()), World(), views(0), views(1), views(2), lengths=(1, 3))
    for key in ("accuracy/encoder", "accuracy/aggregate/3", "accuracy/mean/3"):
        assert found[key] > 0.98, key
    for key in ("r2/encoder/shift", "r2/beyond/shift", "r2/aggregate/shift"):
        assert found[key] > 0.9, key
    paths = {key.split("/")[1]: value for key, value in found.items() if key.startswith("path/")}
    assert min(paths["vision_and_action"], paths["action_only"], paths["action_alone"]) > 0.8 > 2 * paths["no_action"]
    assert "class accuracy by views" in summary_of(found, (1, 3))


def test_what_latents_do_not_hold_is_not_found():
    blind = measure_views(Model(nn.Identity()), World(), views(0, False, False), views(1, False, False))
    assert blind["accuracy/encoder"] < 1.5 / CLASSES and blind["r2/encoder/shift"] < 0.1
    assert not [name for name in blind if "aggregate" in name or "path" in name]


def test_class_and_relation_are_measured_apart():
    invariant = measure_views(Model(nn.Identity()), World(), views(0, True, False), views(1, True, False))
    assert invariant["accuracy/encoder"] > 0.98 and invariant["r2/encoder/shift"] < 0.1
    equivariant = measure_views(Model(nn.Identity()), World(), views(0, False, True), views(1, False, True))
    assert equivariant["accuracy/encoder"] < 1.5 / CLASSES and equivariant["r2/encoder/shift"] > 0.9


def test_longer_sequences_than_there_are_views_are_refused():
    with pytest.raises(ValueError, match=r"sequences of 6 views .* there are 5 of each thing"):
        measure_views(Model(Sum()), World(), views(0), views(1), lengths=(6,))


def test_probes_are_the_same_for_the_same_seed_and_leave_the_global_stream_alone():
    seen = views(0)
    features, targets = seen.latent.flatten(0, 1), {"place": seen.state[..., 1:].reshape(-1, 2)}
    torch.manual_seed(5)
    first = fit_relations(features, targets, 3, steps=20).predict(features)["place"]
    drawn = torch.rand(1)
    again = fit_relations(features, targets, 3, steps=20).predict(features)["place"]
    np.testing.assert_array_equal(first, again)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)


def test_neighbours_are_views_of_other_things_of_the_same_class():
    seen = views(0)
    pairs = [f"thing/{i // 2}" for i in range(THINGS)]  # two episodes show each thing
    seen = Views(seen.latent[..., :CLASSES], seen.action, seen.state, seen.episodes, pairs)
    found = nearest_views(Model(Sum()), seen, num_queries=4, num_nearest=3)
    label = seen.state[:, 0, 0]
    for rows in found.values():
        assert rows.shape == (4, 4, 2)
        assert (rows[:, 1:, 0] // 2 != rows[:, :1, 0] // 2).all()
    encoder = found["encoder"]
    assert (label[encoder[:, 1:, 0]] == label[encoder[:, :1, 0]]).all()


def test_several_tokens_and_projected_aggregates_are_refused():
    model = Model(Sum())
    model.encoder = type("Projected", (), {"represent": None})()
    with pytest.raises(ValueError, match="without a projector"):
        measure_views(model, World(), views(0), views(1))


def test_without_actions_means_with_the_mean_one():
    asked = []

    class Asking(Sum):
        def aggregate(self, latent, action):
            asked.append(action)
            return super().aggregate(latent, action)

    train = views(0)
    measure_views(Model(Asking()), World(), train, views(1), lengths=(2,))
    mean = train.action.mean((0, 1))
    constant = [a for a in asked if a.shape[1] == 2 and torch.allclose(a, mean.expand_as(a))]
    assert constant and mean.abs().max() > 1e-3


def test_whole_episodes_are_encoded_in_order(tmp_path):
    fields = {
        "pixels": FieldSpec("uint8", (4, 4, 3)),
        "action": FieldSpec("float32", (2,)),
        "state": FieldSpec("float32", (3,)),
    }
    spec = EnvSpec("Any-v0", fields, (-1.0, -1.0), (1.0, 1.0), World.state_names, 10.0)
    store = EpisodeStore.create(tmp_path, spec)
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            {
                "pixels": rng.integers(0, 256, (LENGTH, 4, 4, 3), dtype=np.uint8),
                "action": rng.normal(size=(LENGTH, 2)).astype(np.float32),
                "state": rng.normal(size=(LENGTH, 3)).astype(np.float32),
            },
            f"thing/{i}",
            "scripted",
        )
        for i in range(40)
    ]
    store.write_shard("scripted", 0, episodes)
    store.refresh()

    class Mean(Model):
        def encode(self, obs):
            return obs["pixels"].float().mean((-1, -2))[:, :, None]

        def normalize_action(self, raw):
            return raw / 2

    model = Mean(nn.Identity())
    seen = encode_views(model, store, "train", "scripted", num_views=12 * LENGTH)
    assert seen.latent.shape == (12, LENGTH, 3) and len(seen) == 12
    assert seen.groups == [f"thing/{index}" for index in seen.episodes]
    for row, index in enumerate(seen.episodes):
        arrays = episodes[index].arrays
        np.testing.assert_allclose(seen.latent[row], arrays["pixels"].mean((1, 2)), rtol=1e-5)
        np.testing.assert_allclose(seen.action[row], arrays["action"][:-1] / 2)
        np.testing.assert_array_equal(seen.state[row], arrays["state"])
    model.num_tokens = 4
    with pytest.raises(ValueError, match="gives 4 tokens"):
        encode_views(model, store, "train", "scripted", 100)
    model.num_tokens = 1
    with pytest.raises(ValueError, match="'beyond'"):
        encode_views(model, store, "all", "beyond", 100)


def test_the_report_shows_both_latents():
    found = measure_views(Model(Sum()), World(), views(0), views(1), lengths=(1, 3))
    strips = np.zeros((2, 4, 8, 8, 3), np.uint8)
    html = views_section(found, {"neighbours/encoder": strips, "neighbours/aggregate": strips})
    assert html.count("<picture>") == 3 and html.count('class="strip"') == 4
    assert views_section({}, {}) == ""
