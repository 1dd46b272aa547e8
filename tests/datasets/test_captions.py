from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from worldjepa.datasets.captions import (
    CLASSES,
    COLOURS,
    MAX_WORDS,
    PLACES,
    RADII,
    SHAPES,
    SIZE,
    VOCABULARY,
    load_captions,
    random_captioned,
    scene_of_sample,
    sentence_of,
)

COUNT = 300
CONFIG = Path(__file__).parents[2] / "configs" / "data" / "captions.yaml"


@pytest.fixture(scope="module")
def samples():
    return random_captioned(COUNT, seed=5)


def test_sizes_types_and_padding(samples):
    observation, labels = samples
    assert observation["pixels"].shape == (COUNT, 3, SIZE, SIZE) and observation["pixels"].dtype == torch.uint8
    caption = observation["caption"]
    assert caption.shape == (COUNT, MAX_WORDS) and caption.dtype == torch.int64 and caption.max() < len(VOCABULARY)
    assert not ((caption[:, :-1] == 0) & (caption[:, 1:] > 0)).any(), "padding comes last"
    assert len(set(VOCABULARY)) == len(VOCABULARY) and set(caption.unique().tolist()) == set(range(len(VOCABULARY)))
    assert len(labels.unique()) == len(CLASSES) == 12
    config = OmegaConf.load(CONFIG)
    assert (config.num_words, config.max_words) == (len(VOCABULARY), MAX_WORDS)


def test_pictures_show_what_the_scene_has_in_its_colour_and_nothing_else(samples):
    observation, labels = samples
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    for number in range(COUNT):
        things, _ = scene_of_sample(5, number)
        picture = observation["pixels"][number].numpy().astype(float)
        anywhere = np.zeros((SIZE, SIZE), bool)
        for thing in things:
            distance = np.hypot(x - thing.x, y - thing.y)
            inside, around = distance < 0.35 * thing.radius, distance < thing.radius + 1
            colour = picture[:, inside].mean(1)
            nearest = min(COLOURS, key=lambda name: np.abs(COLOURS[name] - colour).sum())
            assert nearest == thing.colour, (number, thing)
            assert 0 < thing.x - thing.radius and thing.x + thing.radius < SIZE
            anywhere |= around
        ground = picture[:, ~anywhere]
        assert ground.max() <= 60 and np.ptp(ground) == 0
        first = things[0]
        assert CLASSES[labels[number]] == f"{first.colour} {first.shape}"
        assert first.radius == max(thing.radius for thing in things)


def test_shapes_differ_by_the_area_they_cover(samples):
    """A circle covers pi r^2, a square 2 r^2, a triangle 3 sqrt(3) / 4 r^2."""
    found = {shape: [] for shape in SHAPES}
    for number in range(COUNT):
        things, _ = scene_of_sample(5, number)
        if len(things) == 1 and things[0].size == "large":
            picture = samples[0]["pixels"][number].numpy().astype(float)
            level = np.abs(picture - picture[:, :1, :1]).sum(0)
            found[things[0].shape].append(level.sum() / level.max() / things[0].radius ** 2)
    expected = {"circle": np.pi, "square": 2.0, "triangle": 3 * np.sqrt(3) / 4}
    assert {shape: np.mean(areas) for shape, areas in found.items()} == pytest.approx(expected, rel=0.1)


def test_sentences_say_what_is_where(samples):
    relations = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
    seen = set()
    for number in range(COUNT):
        things, sentence = scene_of_sample(5, number)
        assert sentence_of(samples[0]["caption"][number]) == sentence
        starts = [sentence.index(thing.mention) for thing in things]
        assert starts == sorted(starts), "the largest is named first"
        for relation, direction in relations.items():
            if f" {relation} a " in sentence:
                seen.add(relation)
                offset = np.array([things[0].x - things[1].x, things[0].y - things[1].y])
                assert offset @ direction == np.abs(offset).max()
                break
        else:
            placed = [
                f"{t.mention} {'in' if PLACES[t.place] == 'middle' else 'at'} the {PLACES[t.place]}" for t in things
            ]
            assert sentence.removeprefix("there is ") == " and ".join(placed)
        for thing in things:
            row, column = divmod(thing.place, 3)
            assert (int(thing.y * 3 / SIZE), int(thing.x * 3 / SIZE)) == (row, column)
            low, high = RADII[thing.size]
            assert low <= thing.radius <= high
    assert seen == set(relations)


def test_a_sample_does_not_depend_on_the_size_of_the_set_and_halves_share_none():
    train, held_out = load_captions(seed=3, num_train=30, num_held_out=20)
    again, _ = load_captions(seed=3, num_train=10, num_held_out=5)
    assert torch.equal(train.observation["pixels"][:10], again.observation["pixels"])
    assert torch.equal(train.observation["caption"][:10], again.observation["caption"])
    assert not torch.equal(train.observation["pixels"][:20], held_out.observation["pixels"])
    assert train.names == CLASSES and len(held_out) == 20
    other, _ = load_captions(seed=4, num_train=20, num_held_out=5)
    assert not torch.equal(other.observation["pixels"], held_out.observation["pixels"])
