import numpy as np
import pytest
import torch

from worldjepa.datasets.frames import load_frames, numbers_of
from worldjepa.datasets.store import EpisodeStore


@pytest.fixture
def store(tmp_path, spec, make_episode):
    store = EpisodeStore.create(tmp_path / "store", spec)
    store.write_shard("scripted", 0, [make_episode(number, 9) for number in range(40)], {})
    store.refresh()
    return store


def test_moments_are_those_of_their_episodes_and_splits_share_none(store):
    train, held_out = load_frames(0, store.path, "b", num_train=60, num_held_out=20)
    assert train.observation["pixels"].shape == (60, 3, 7, 11) and len(held_out) == 20
    pictures = [
        {frame.tobytes() for frame in part.observation["pixels"].permute(0, 2, 3, 1).contiguous().numpy()}
        for part in (train, held_out)
    ]
    assert not pictures[0] & pictures[1]
    for number in range(40):  # the label is the frame's number, state b
        for frame, picture in enumerate(np.array(store.episode(number).arrays["pixels"])):
            for part, seen in zip((train, held_out), pictures, strict=True):
                if picture.tobytes() in seen:
                    same = (part.observation["pixels"].permute(0, 2, 3, 1) == torch.from_numpy(picture)).all((1, 2, 3))
                    assert (part.labels[same] == frame).all()


def test_numbers_can_be_looked_at_as_a_table(store):
    train, _ = load_frames(0, store.path, "b", "proprioception", "table", 30, 5)
    assert train.observation["table"].shape == (30, 2)
    torch.testing.assert_close(train.observation["table"][:, 1], train.labels)
    assert list(numbers_of(str(store.path), "proprioception")) == ["proprioception 0", "proprioception 1"]
    assert numbers_of(str(store.path), "pixels") == {}


def test_the_seed_draws_the_moments(store):
    first, again, other = (load_frames(seed, store.path, "a", num_train=30)[0].labels for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_what_the_store_lacks_is_named(store):
    with pytest.raises(ValueError, match="'speed' is no number of the state"):
        load_frames(0, store.path, "speed")
    with pytest.raises(ValueError, match=r"'pixel' is no column of the store .*did you mean 'pixels'"):
        load_frames(0, store.path, "a", column="pixel")
