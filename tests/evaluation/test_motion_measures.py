"""Measures of motion find what a model is made to know, and nothing else."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from worldjepa.datasets.flow_files import write_flo
from worldjepa.datasets.store import EpisodeStore
from worldjepa.evaluation.motion import (
    measure_carrying,
    measure_content,
    measure_folder,
    measure_pairs,
    motion_figures,
    opencv_errors,
    true_flow,
)
from worldjepa.evaluation.motion_figures import motion_section
from worldjepa.types import EnvSpec, Episode, FieldSpec, Segment

SIZE, STEP, LENGTH = 32, 2, 5


class World:
    """A bright square on a dark striped ground; it moves by ``STEP`` px to the right, and its colour is its class."""

    state_names = ("class", "x")
    label_name = "class"

    def segments(self, state):
        mask = np.zeros((SIZE, SIZE), np.int64)
        mask[10:22, int(state[1]) : int(state[1]) + 12] = 1
        return mask

    def flow(self, state, next_state):
        mask, later = (self.segments(one) > 0 for one in (state, next_state))
        flow = np.zeros((SIZE, SIZE, 2), np.float32)
        flow[mask, 0] = next_state[1] - state[1]
        return flow, mask | ~later

    def draw(self, state):
        picture = np.zeros((SIZE, SIZE, 3), np.uint8)
        picture[..., 2] = 40 + 30 * (np.arange(SIZE) % 4 == 0)
        rows, columns = np.mgrid[:12, :12]
        inside = self.segments(state) > 0
        picture[inside, int(state[0])] = (140 + 60 * np.sin(rows + 0.7 * columns)).astype(np.uint8).ravel()
        return picture


class Encoder(nn.Module):
    """Features are the colours themselves, at a quarter of the size."""

    def features(self, obs):
        pixels = obs["pixels"].flatten(0, 1).float()
        return [nn.functional.avg_pool2d(pixels, 2 ** (level + 1)) for level in range(2)]


class Model(nn.Module):
    """Knows how fast the square moves, if it is told."""

    def __init__(self, knows: bool, moves: bool = True):
        super().__init__()
        self.encoder, self.knows = Encoder(), knows
        self.predictor = nn.Identity() if moves else None
        self.weight = nn.Parameter(torch.zeros(1))

    def encode(self, obs):
        return obs["pixels"].float().mean((-1, -2))[:, :, None]

    def flow(self, first, second):
        square = (first[:, :2].sum(1, keepdim=True) > 60).float()
        return torch.cat([STEP * self.knows * square, torch.zeros_like(square)], 1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    world, rng = World(), np.random.default_rng(0)
    fields = {
        "pixels": FieldSpec("uint8", (SIZE, SIZE, 3)),
        "action": FieldSpec("float32", (1,)),
        "state": FieldSpec("float32", (2,)),
    }
    made = EpisodeStore.create(
        tmp_path_factory.mktemp("store"), EnvSpec("Squares-v0", fields, (-1.0,), (1.0,), World.state_names, 10.0)
    )
    episodes = []
    for number in range(60):
        states = np.array([[number % 2, rng.integers(0, 8) + 0.0]]).repeat(LENGTH, 0)
        states[:, 1] += STEP * np.arange(LENGTH)
        arrays = {
            "pixels": np.stack([world.draw(state) for state in states]),
            "action": np.zeros((LENGTH, 1), np.float32),
            "state": states.astype(np.float32),
        }
        episodes.append(Episode(arrays, f"scripted/{number}", "scripted"))
    made.write_shard("scripted", 0, episodes)
    return EpisodeStore.open(made.path)


def pairs(store) -> Segment:
    some = [store.episode(index).arrays for index in range(6)]
    pixels = torch.from_numpy(np.stack([arrays["pixels"][:2] for arrays in some])).movedim(-1, 2)
    state = torch.from_numpy(np.stack([arrays["state"][:2] for arrays in some]))
    return Segment({"pixels": pixels}, torch.zeros(6, 1, 1), state)


def test_a_model_that_knows_the_motion_is_right_and_one_that_does_not_is_not(store):
    good, bad = (measure_pairs(Model(knows), pairs(store), true_flow(World(), pairs(store))) for knows in (True, False))
    assert good["epe"] == 0 and good["warp_error"] < 0.5 * good["still_error"]
    assert bad["epe"] == pytest.approx(bad["epe_zero"]) and bad["epe_over_zero"] == pytest.approx(1)
    assert bad["warp_error"] == pytest.approx(bad["still_error"])


def test_a_world_without_truth_still_says_how_well_pictures_are_explained(store):
    assert set(measure_pairs(Model(True), pairs(store), true_flow(object(), pairs(store)))) == {
        "warp_error",
        "still_error",
    }
    assert measure_pairs(Model(True, moves=False), pairs(store), true_flow(World(), pairs(store))) == {}


def test_opencv_stands_beside(store):
    found = opencv_errors(pairs(store), true_flow(World(), pairs(store)))
    assert set(found) == {"epe_farneback", "epe_dis"} and all(0 < value < 2 for value in found.values())


def test_recorded_pairs_are_judged_beside_opencv(tmp_path):
    world = World()
    states = np.array([[0, 5.0], [0, 5.0 + STEP]])
    for number, state in enumerate(states):
        cv2.imwrite(str(tmp_path / f"00001_img{number + 1}.ppm"), world.draw(state)[..., ::-1])
    write_flo(tmp_path / "00001_flow.flo", world.flow(*states)[0])
    measured = measure_folder(Model(True), tmp_path)
    assert measured["recorded_epe"] == 0 and measured["recorded_epe_zero"] > 0 and measured["recorded_epe_dis"] > 0
    assert "recorded pairs" in motion_section(measured, {})


def test_content_is_read_off_pooled_features(store):
    measured = measure_content(Model(True), World(), store, 60)
    assert measured["accuracy"] == 1 and 0.2 < measured["chance"] < 0.8 and measured["rankme"] >= 1
    assert set(measure_content(Model(True), object(), store, 60)) == {"rankme"}


def test_masks_are_carried_better_by_colours_than_by_standing_still(store):
    measured = measure_carrying(Model(True), World(), store)
    assert measured["j_and_f"] > measured["still_j_and_f"] + 0.1
    assert measure_carrying(Model(True), object(), store) == {}


def test_the_report_shows_pictures_flow_and_tables(store):
    some = pairs(store)
    truth = true_flow(World(), some)
    measured = measure_pairs(Model(True), some, truth) | {"accuracy": 0.5}
    page = motion_section(measured, motion_figures(Model(True), some, truth, most=3))
    assert "true flow" in page and "OpenCV" not in page and "classes that a linear probe recognises" in page
    assert motion_section({}, {}) == ""
    assert "true_flow" not in motion_figures(Model(True), some, None)
