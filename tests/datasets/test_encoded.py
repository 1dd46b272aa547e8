"""Stores with latents in place of what was looked at: the same episodes, made once, and gone on with."""

import numpy as np
import pytest
import torch

from worldjepa.datasets.encoded import encoded_store
from worldjepa.datasets.store import EpisodeStore


@pytest.fixture
def store(tmp_path, spec, make_episode):
    made = EpisodeStore.create(tmp_path / "store", spec)
    for shard in range(3):
        made.write_shard("scripted", shard, [make_episode(10 * shard + i, 25 + i) for i in range(2)])
    made.refresh()
    return made


def means(calls):
    def columns(obs):
        (pixels,) = obs.values()
        calls.append(pixels.shape[1])
        return {"mean": pixels[0].float().mean((1, 2)).half().numpy()}

    return columns


def test_each_frame_has_its_latents_and_all_else(store):
    calls = []
    made = encoded_store(store, "a", means(calls), ("pixels",), progress=False)
    assert max(calls) <= 20  # frames at once
    assert set(made.spec.fields) == {"mean", "proprioception", "action", "state"}
    assert made.spec.fields["mean"].shape == (3,) and made.groups == store.groups
    np.testing.assert_array_equal(made.lengths, store.lengths)
    for index in range(store.num_episodes):
        ours, theirs = made.episode(index).arrays, store.episode(index).arrays
        np.testing.assert_array_equal(ours["state"], theirs["state"])
        wanted = np.array(theirs["pixels"]).astype(np.float32).mean((1, 2))
        np.testing.assert_allclose(ours["mean"], wanted, rtol=2e-3)


def test_what_is_there_is_kept_and_another_encoder_has_a_folder_of_its_own(store):
    class Killed(Exception):
        pass

    calls = []

    def dies(obs):
        if len(calls) > 5:
            raise Killed
        return means(calls)(obs)

    with pytest.raises(Killed):
        encoded_store(store, "a", dies, ("pixels",), progress=False)
    first = encoded_store(store, "a", means([]), ("pixels",), progress=False)
    assert first.num_episodes == 6
    again = []
    second = encoded_store(store, "a", means(again), ("pixels",), progress=False)
    assert second.path == first.path and sum(again) == 1  # one frame, to see what is made
    assert encoded_store(store, "b", means([]), ("pixels",), progress=False).path != first.path


def test_other_episodes_have_another_folder(store, make_episode):
    first = encoded_store(store, "a", means([]), ("pixels",), progress=False)
    store.write_shard("scripted", 3, [make_episode(99, 25)])
    store.refresh()
    second = encoded_store(store, "a", means([]), ("pixels",), progress=False)
    assert second.path != first.path and second.num_episodes == 7


def test_nothing_to_look_at_is_refused(store):
    with pytest.raises(ValueError, match=r"expected episodes with sweep, it has 6 with .*pixels"):
        encoded_store(store, "a", means([]), progress=False)


def test_columns_are_given_one_episodes_frames(store):
    shapes = []

    def columns(obs):
        shapes.append(tuple(obs["pixels"].shape))
        assert obs["pixels"].dtype == torch.uint8
        return means([])(obs)

    encoded_store(store, "a", columns, ("pixels",), progress=False)
    assert all(shape[0] == 1 and shape[2:] == (7, 11, 3) for shape in shapes)
