"""What a detector is taught and asked for, and that it learns from a street."""

import numpy as np
import pytest
import torch

from envs.street import Street
from envs.street_driver import Driver
from worldjepa.encoders.bev import BevEncoder
from worldjepa.evaluation.boxes import LEAST_RAYS, detector_precision, seen_boxes
from worldjepa.sweeps import RangeImage
from worldjepa.types import Segment
from worldjepa.voxels import STREET, VoxelGrid

GRID = VoxelGrid((-25.6, -25.6, -2.2), (25.6, 25.6, 1.8), (0.2, 0.2, 0.5))
SENSOR = RangeImage(32, 256)


@pytest.fixture(scope="module")
def world():
    return Street(azimuths=256)


def drives(world, seeds) -> Segment:
    """Three moments of a drive on each of some streets."""
    sweeps, states = [], []
    for seed in seeds:
        observation, info = world.reset(seed=seed)
        for step in range(25):
            if step in (0, 12, 24):
                sweeps.append(observation["sweep"])
                states.append(info["state"])
            observation, _, over, _, info = world.step(Driver().act(info["state"]))
            if over:
                world.reset(seed=seed)
    shape = len(states), 1
    sweep = torch.from_numpy(np.stack(sweeps)).unflatten(0, shape)
    return Segment(
        {"sweep": sweep}, torch.zeros(*shape[:1], 0, 2), torch.from_numpy(np.stack(states)).unflatten(0, shape)
    )


def test_boxes_are_those_of_cars_that_are_seen(world):
    counts = []
    for seed in range(12):
        _, info = world.reset(seed=seed)
        boxes, names = world.boxes(info["state"])
        met = world.hits(info["state"])[0]
        wanted = [
            box
            for number, (box, name) in enumerate(zip(boxes, names, strict=True))
            if name == "car" and (met == number).sum() >= LEAST_RAYS and np.abs(box[:2]).max() < 25.6
        ]
        found = seen_boxes(world, info["state"], STREET)
        assert len(found) == len(wanted)
        np.testing.assert_array_equal(found.numpy().reshape(-1, 7), np.array(wanted, np.float32).reshape(-1, 7))
        counts.append((len(found), names.count("car")))
    assert 0 < sum(found for found, _ in counts) < sum(every for _, every in counts)


@pytest.mark.slow
def test_a_detector_learns_and_leaves_its_encoder_as_it_was(world):
    torch.manual_seed(0)
    encoder = BevEncoder(GRID, (8, 16, 32), 32)
    kept = {name: value.clone() for name, value in encoder.state_dict().items()}
    train, held_out = drives(world, range(40)), drives(world, range(1000, 1012))
    little, much = (
        detector_precision(
            encoder, SENSOR, world, train, held_out, {"steps": steps, "batch_size": 4, "learning_rate": 3e-3}
        )
        for steps in (2, 150)
    )
    assert little < 0.05 and much > little + 0.15
    assert all(torch.equal(value, kept[name]) for name, value in encoder.state_dict().items())
    assert all(p.requires_grad for p in encoder.parameters())
