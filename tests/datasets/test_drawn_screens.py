import numpy as np
import pytest
import torch

from worldjepa.datasets.drawn_screens import (
    ARROW,
    CORNERS,
    END,
    INTENTS,
    PAD,
    SENTENCE_LENGTH,
    SIZE,
    VOCABULARY,
    action_of_sample,
    load_drawn_screens,
    random_screens,
    to_numbers,
    to_words,
)

N, T = 120, 12


@pytest.fixture(scope="module")
def screens():
    observation, labels = random_screens(N, seed=4, num_frames=T)
    return observation, labels, [action_of_sample(4, number, T) for number in range(N)]


def test_shapes_and_labels(screens):
    observation, labels, actions = screens
    assert observation["video"].shape == (N, T, 1, SIZE, SIZE) and observation["video"].dtype == torch.uint8
    assert observation["intent"].shape == (N, SENTENCE_LENGTH) and observation["intent"].dtype == torch.int64
    assert labels.tolist() == [action.label for action in actions]
    assert set(labels.tolist()) == set(range(len(INTENTS))) and len(INTENTS) >= 8


def test_a_sentence_says_what_is_meant(screens):
    observation, _, actions = screens
    for numbers, action in zip(observation["intent"], actions, strict=True):
        assert to_words(numbers) == action.sentence
        assert action.sentence.split()[0] == INTENTS[action.label]
        assert f"in the {CORNERS[action.corner]}" in action.sentence
        count = len(action.sentence.split())
        assert numbers[count] == END and (numbers[count + 1 :] == PAD).all()


def test_the_cursor_presses_where_the_sentence_says(screens):
    observation, _, actions = screens
    for clip, action in zip(observation["video"][:, :, 0].numpy(), actions, strict=True):
        row, column = action.press
        for at in (action.press, action.release):
            corner = f"{'top' if at[0] < SIZE / 2 else 'bottom'} {'left' if at[1] < SIZE / 2 else 'right'}"
            assert corner == CORNERS[action.corner]
        places = ARROW + np.array([row, column])
        places = places[(places < SIZE).all(1)]
        frame = clip[action.frames[0]]
        assert (frame[places[:, 0], places[:, 1]] == 0).all(), "the cursor is there, its button down"


def test_nothing_changes_elsewhere_but_the_cursor(screens):
    """Where a pixel changes between the first and the last frame, it is in the corner that is named, or a cursor's."""
    observation, _, actions = screens
    half = SIZE // 2
    for clip, action in zip(observation["video"][:, :, 0].numpy(), actions, strict=True):
        changed = clip[0] != clip[-1]
        down, right = divmod(action.corner, 2)
        changed[half * down : half * down + half, half * right : half * right + half] = False
        assert changed.sum() <= 2 * 45, "two cursors with their edges"


def test_actions_take_time(screens):
    _, _, actions = screens
    assert all(0 < action.frames[0] < action.frames[1] < T - 1 for action in actions)
    assert len({action.frames for action in actions}) > 5


def test_the_vocabulary_is_what_sentences_are_made_of():
    actions = [action_of_sample(0, number) for number in range(400)]
    assert {word for action in actions for word in action.sentence.split()} == set(VOCABULARY[3:])
    assert max(len(action.sentence.split()) for action in actions) == SENTENCE_LENGTH - 1
    sentence = "drag the slider in the top left to the right"
    assert to_words(torch.tensor(to_numbers(sentence))) == sentence and len(to_numbers(sentence)) == SENTENCE_LENGTH


def test_sources_are_reproducible_and_their_parts_differ():
    train, held_out = load_drawn_screens(1, 5, 3, num_frames=8)
    more, _ = load_drawn_screens(1, 7, 3, num_frames=8)
    assert torch.equal(train.observation["video"], more.observation["video"][:5])
    assert not torch.equal(train.observation["video"][:3], held_out.observation["video"])
    assert train.names == INTENTS


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="num_frames must be a whole number >= 8, got 4"):
        random_screens(1, 0, num_frames=4)
