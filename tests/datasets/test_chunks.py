"""Chunks: every moment once, the actions and observations that followed it, padding that says what it is."""

import numpy as np
import pytest
import torch

from worldjepa.datasets import EpisodeStore, is_held_out
from worldjepa.datasets.chunks import Chunks, JoinedChunks

H = 4


@pytest.fixture
def store(tmp_path, spec, make_episode):
    store = EpisodeStore.create(tmp_path / "store", spec)
    lengths = np.random.default_rng(0).integers(2, 9, 30)
    store.write_shard("mixed", 0, [make_episode(i, int(n)) for i, n in enumerate(lengths)])
    store.refresh()
    return store


@pytest.mark.parametrize("split", ["train", "held_out", "all"])
def test_every_moment_comes_once_with_what_followed_it(store, split):
    chunks = Chunks(store, H, ("pixels", "state"), ("proprioception",), (1, 3), split)
    chunk = chunks.gather(np.arange(len(chunks)))
    wanted = [
        (number, frame)
        for number, length in enumerate(store.lengths)
        if split == "all" or is_held_out(store.groups[number]) == (split == "held_out")
        for frame in range(length - 1)
    ]
    assert [(int(n), int(f)) for n, f in chunk.observation["state"][:, 0, :2]] == wanted
    for row, (number, frame) in enumerate(wanted):
        episode, last = store.episode(number).arrays, int(store.lengths[number]) - 1
        ahead = np.arange(frame, frame + H)
        assert chunk.valid[row].tolist() == (ahead < last).tolist()
        np.testing.assert_array_equal(chunk.action[row], episode["action"][np.minimum(ahead, last - 1)])
        later = [min(frame + 1, last), min(frame + 3, last)]
        assert chunk.future_valid[row].tolist() == [frame + 1 <= last, frame + 3 <= last]
        np.testing.assert_array_equal(chunk.future["proprioception"][row], episode["proprioception"][later])
        picture = np.moveaxis(np.asarray(episode["pixels"][frame]), -1, 0)
        np.testing.assert_array_equal(chunk.observation["pixels"][row, 0], picture)


def test_a_padded_action_is_never_the_zero_after_the_last(store):
    chunk = Chunks(store, H, ("proprioception",), split="all").gather(np.arange(40))
    assert bool((chunk.action[..., 0] == chunk.action[..., 0].clamp_min(0)).all())
    padded = ~chunk.valid
    assert bool((chunk.action[padded][:, 1] > 0).any())  # 1000 * number + frame of a real action


def test_ranks_share_a_batch_and_steps_differ(store):
    chunks = Chunks(store, H, ("proprioception",))
    whole = chunks.sample(8, seed=3, step=5)
    halves = [chunks.sample(8, 3, 5, rank, 2).action for rank in range(2)]
    assert torch.equal(torch.cat(halves), whole.action)
    assert not torch.equal(chunks.sample(8, 3, 6).action, whole.action)


def test_future_pictures_are_decoded(store):
    chunk = Chunks(store, H, ("pixels",), ("pixels",), (2,), "all").gather(np.array([0]))
    wanted = np.moveaxis(np.asarray(store.episode(0).arrays["pixels"][min(2, store.lengths[0] - 1)]), -1, 0)
    np.testing.assert_array_equal(chunk.future["pixels"][0, 0], wanted)


def test_statistics_leave_padding_out(store):
    chunks = Chunks(store, H, ("proprioception",), split="all")
    actions = np.concatenate([store.episode(i).arrays["action"][:-1] for i in range(30)])
    mean, std = chunks.statistics("action")
    np.testing.assert_allclose(mean, actions.mean(0), rtol=1e-5)
    np.testing.assert_allclose(std, actions.std(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": 0}, "horizon >= 1"),
        ({"observations": ("pixel",)}, "did you mean 'pixels'"),
        ({"future": ("proprioception",), "steps": (0,)}, "1..4 steps ahead"),
        ({"future": ("proprioception",), "steps": (5,)}, "1..4 steps ahead"),
        ({"split": "test"}, "split must be one of"),
        ({"policies": ["people"]}, "no policy in the store"),
    ],
)
def test_bad_requests_are_refused(store, arguments, message):
    with pytest.raises(ValueError, match=message):
        Chunks(store, **{"horizon": H, "observations": ("pixels",), **arguments})


def test_statistics_of_many_numbers_far_from_zero_are_exact(tmp_path, spec, make_episode):
    """float32 sums would be off by as much as the spread."""
    store, episode = EpisodeStore.create(tmp_path / "far", spec), make_episode(0, 200_000 // 4)
    episode.arrays["pixels"] = np.zeros((len(episode), 7, 11, 3), np.uint8)
    rng = np.random.default_rng(0)
    episode.arrays["proprioception"] = rng.normal(3000, 0.1, (len(episode), 2)).astype(np.float32)
    store.write_shard("far", 0, [episode])
    store.refresh()
    mean, std = Chunks(store, H, ("proprioception",), split="all").statistics("proprioception")
    np.testing.assert_allclose(mean, 3000, atol=2e-3)
    np.testing.assert_allclose(std, 0.1, rtol=2e-2)


def test_moments_of_several_stores_are_drawn_alike(store, tmp_path, spec, make_episode):
    other = EpisodeStore.create(tmp_path / "other", spec)
    other.write_shard("asked", 0, [make_episode(i, 3) for i in range(100, 140)])
    other.refresh()
    parts = [Chunks(each, H, ("state",), ("proprioception",), (1,)) for each in (store, other)]
    both = JoinedChunks(parts)
    assert len(both) == len(parts[0]) + len(parts[1]) and both.store is store
    drawn = torch.cat([both.sample(64, 0, step).observation["state"][:, 0, :2] for step in range(40)])
    known = {
        tuple(row): i
        for i, part in enumerate(parts)
        for row in part.gather(np.arange(len(part))).observation["state"][:, 0, :2].tolist()
    }
    assert len(known) == len(both) and set(map(tuple, drawn.tolist())) == set(known)
    share = np.mean([known[tuple(row)] for row in drawn.tolist()])
    assert abs(share - len(parts[1]) / len(both)) < 0.05
    assert both.sample(64, 0, 1).action.shape == (64, H, *spec.fields["action"].shape)
    assert not torch.equal(both.sample(64, 0, 1).action, both.sample(64, 0, 2).action)
    shares = [both.sample(64, 0, 1, rank, 2).action for rank in range(2)]
    assert sorted(torch.cat(shares).flatten().tolist()) == sorted(both.sample(64, 0, 1).action.flatten().tolist())


def test_other_actions_stand_in_place_of_those_that_were_done(store):
    said = np.arange(store.num_frames, dtype=np.float32)[:, None] * np.ones(store.spec.raw_action_dim, np.float32)
    done, told = (Chunks(store, H, ("state",), split="held_out", actions=actions) for actions in (None, said))
    rows = np.arange(len(done))
    first = np.cumsum(store.lengths) - store.lengths
    for chunk, other, episode, frame in zip(
        told.gather(rows).action, done.gather(rows).action, *told.locate(rows), strict=True
    ):
        ahead = np.minimum(frame + np.arange(H), store.lengths[episode] - 2)
        np.testing.assert_array_equal(chunk, said[first[episode] + ahead])
        assert not torch.equal(chunk, other)
    torch.testing.assert_close(told.statistics("action"), done.statistics("action"))  # of what was done
    with pytest.raises(ValueError, match="expected actions of all"):
        Chunks(store, H, ("state",), actions=said[1:])
