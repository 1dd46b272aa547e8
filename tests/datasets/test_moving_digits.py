from dataclasses import replace

import numpy as np
import pytest
import torch

from worldjepa.datasets.moving_digits import (
    DIRECTION_NAMES,
    DIRECTIONS,
    Motion,
    draw_motion,
    load_moving_digits,
    motion_of_sample,
    random_motions,
)

MOTION = Motion(digit=7, start=(5, 20), label=DIRECTION_NAMES.index("down left"), speed=2)


def test_a_clip_shows_its_motion():
    observation, labels = random_motions(30, seed=3, num_frames=5, size=24)
    assert observation["video"].shape == (30, 5, 1, 24, 24) and observation["video"].dtype == torch.uint8
    assert set(labels.tolist()) == set(range(8))
    for number, (clip, label) in enumerate(zip(observation["video"].numpy(), labels.tolist(), strict=True)):
        motion = motion_of_sample(3, number, size=24)
        assert motion.label == label
        step = motion.speed * np.array(DIRECTIONS[DIRECTION_NAMES[label]])
        for frame in range(4):
            assert np.array_equal(clip[frame + 1, 0], np.roll(clip[frame, 0], step, (0, 1)))
        assert not np.array_equal(clip[0], clip[1]), "every digit moves"


def test_two_clips_that_share_a_frame_have_different_labels():
    """What a frame shows does not tell the label: any direction could have led there."""
    at = MOTION.place(3, size=32)
    for label, step in enumerate(DIRECTIONS.values()):
        row, column = ((place - 3 * MOTION.speed * by) % 32 for place, by in zip(at, step, strict=True))
        clips = [draw_motion(m, 8, 32) for m in (MOTION, replace(MOTION, label=label, start=(row, column)))]
        assert np.array_equal(clips[0][3], clips[1][3])
        assert (label == MOTION.label) == np.array_equal(*clips)


def test_a_digit_that_starts_anywhere_is_anywhere_at_every_time():
    """So a frame is as likely under each label."""
    for label in range(8):
        places = {Motion(0, (row, column), label, 3).place(5, 8) for row in range(8) for column in range(8)}
        assert len(places) == 64


def test_a_still_clip_is_the_same_under_every_label():
    still = [draw_motion(replace(MOTION, label=label, speed=0), 4, 32) for label in range(8)]
    assert all(np.array_equal(still[0], clip) for clip in still)
    assert min(motion_of_sample(0, number).speed for number in range(50)) >= 1, "so none is drawn"


def test_sources_are_reproducible_and_their_parts_differ():
    train, held_out = load_moving_digits(1, 6, 4, num_frames=3, size=20)
    more, _ = load_moving_digits(1, 9, 4, num_frames=3, size=20)
    assert torch.equal(train.observation["video"], more.observation["video"][:6])
    assert not torch.equal(train.observation["video"][:4], held_out.observation["video"])
    assert train.names == DIRECTION_NAMES and len(held_out) == 4


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="size must be a whole number >= 16, got 12"):
        random_motions(1, 0, size=12)
    with pytest.raises(ValueError, match="num_frames must be a whole number >= 2, got 1"):
        random_motions(1, 0, num_frames=1)
