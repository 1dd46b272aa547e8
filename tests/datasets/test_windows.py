import numpy as np
import pytest
import torch

from worldjepa.datasets import EpisodeStore, Prefetcher, Windows, is_held_out
from worldjepa.datasets.splits import pixel_mean

T, SKIP = 3, 4  # 9 frames
FRAMES = (T - 1) * SKIP + 1


@pytest.fixture
def store(tmp_path, spec, make_episode):
    """40 episodes in three shards, some too short for one clip; scripted and human ones."""
    store = EpisodeStore.create(tmp_path / "store", spec)
    lengths = np.random.default_rng(0).integers(5, 18, 40)
    episodes = [make_episode(i, int(n), "human" if i % 4 == 0 else "scripted") for i, n in enumerate(lengths)]
    for index, first in enumerate(range(0, 40, 15)):
        store.write_shard("mixed", index, episodes[first : first + 15])
    store.refresh()
    return store


@pytest.mark.parametrize("split", ["train", "held_out", "all"])
def test_every_clip_lies_in_one_episode_and_none_is_missing(store, split):
    windows = Windows(store, T, SKIP, split=split)
    segment = windows.gather(np.arange(len(windows)))
    number, frame = segment.state[..., 0], segment.state[..., 1]
    assert torch.equal(number, number[:, :1].expand(-1, T))
    assert torch.equal(frame - frame[:, :1], torch.arange(0.0, FRAMES, SKIP).expand(len(windows), -1))
    wanted = [
        (i, start)
        for i, length in enumerate(store.lengths)
        if split == "all" or is_held_out(store.groups[i]) == (split == "held_out")
        for start in range(length - FRAMES + 1)
    ]
    assert [(int(n), int(f)) for n, f in zip(number[:, 0], frame[:, 0], strict=True)] == wanted


def test_groups_are_never_split(store):
    train, held_out, everything = (Windows(store, T, SKIP, split=split) for split in ("train", "held_out", "all"))
    assert set(train.episodes) | set(held_out.episodes) == set(everything.episodes)
    assert not {store.groups[i] for i in train.episodes} & {store.groups[i] for i in held_out.episodes}
    assert len(train) + len(held_out) == len(everything)


def test_clips_hold_the_stored_pictures_and_blocks_of_actions_in_order(store):
    windows = Windows(store, T, SKIP, split="all")
    indices = np.array([0, 17, len(windows) - 1, 5, 5])
    segment = windows.gather(indices)
    assert segment.observation["pixels"].shape == (5, T, 3, 7, 11)
    assert segment.observation["pixels"].dtype == torch.uint8
    assert segment.action.shape == (5, T - 1, 2 * SKIP)
    for row, (episode, start) in enumerate(zip(*windows.locate(indices), strict=True)):
        arrays = store.episode(episode).arrays
        for t in range(T):
            frame = start + t * SKIP
            picture = torch.from_numpy(arrays["pixels"][frame].copy()).permute(2, 0, 1)
            assert torch.equal(segment.observation["pixels"][row, t], picture)
            if t < T - 1:  # the block that leads from observation t to t + 1
                block = arrays["action"][frame : frame + SKIP].ravel()
                np.testing.assert_array_equal(segment.action[row, t], block)


def test_pictures_are_channels_last_memory(store):
    pixels = Windows(store, T, SKIP).gather(np.arange(5)).observation["pixels"]
    flat = pixels.flatten(0, 1)
    assert flat.data_ptr() == pixels.data_ptr()
    assert flat.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("weights", [None, {"human": 1.0, "scripted": 2.0}])
def test_ranks_share_one_batch_that_seed_and_step_decide(store, weights):
    windows = Windows(store, T, SKIP, policy_weights=weights)
    whole = windows.sample(6, seed=7, step=11)
    parts = [windows.sample(6, seed=7, step=11, rank=rank, world_size=3) for rank in range(3)]
    for name in ("pixels", "proprioception"):
        assert torch.equal(torch.cat([part.observation[name] for part in parts]), whole.observation[name])
    assert torch.equal(torch.cat([part.action for part in parts]), whole.action)
    assert not torch.equal(windows.sample(6, seed=7, step=12).state, whole.state)
    assert not torch.equal(windows.sample(6, seed=8, step=11).state, whole.state)
    with pytest.raises(ValueError, match="multiple of the number of processes"):
        windows.sample(7, seed=7, step=11, world_size=3)


def test_clips_are_drawn_evenly_and_policies_by_weight(store):
    windows = Windows(store, T, SKIP, split="all")
    draws = np.bincount(windows.sample_indices(200 * len(windows), seed=0, step=0), minlength=len(windows))
    assert draws.min() > 100 and draws.max() < 300  # 200 +- 14
    weighted = Windows(store, T, SKIP, split="all", policy_weights={"human": 3, "scripted": 1})
    episodes, _ = weighted.locate(weighted.sample_indices(4000, seed=0, step=0))
    share = np.mean([store.policies[i] == "human" for i in episodes])
    assert abs(share - 0.75) < 0.03
    only = Windows(store, T, SKIP, split="all", policies=["human"])
    assert {store.policies[i] for i in only.episodes} == {"human"}


def test_statistics_are_of_the_split_without_padding(store):
    windows = Windows(store, T, SKIP, split="held_out")
    actions = np.concatenate([store.episode(i).arrays["action"][:-1] for i in windows.episodes])
    np.testing.assert_allclose(windows.action_std(), actions.std(0), rtol=1e-5)
    pictures = np.concatenate([store.episode(i).arrays["pixels"] for i in windows.episodes])
    mean = pixel_mean(store, windows.episodes, num_frames=20 * len(pictures), seed=0)
    assert mean.shape == (3, 7, 11)
    # Uniform noise has std 74: 20 draws per frame are off from the split's mean by about 74 / sqrt(20 n).
    error = np.abs(mean.numpy() - pictures.mean(0).transpose(2, 0, 1))
    assert error.max() < 5 * 74 / np.sqrt(20 * len(pictures))
    again = [pixel_mean(store, windows.episodes, 7, seed=1) for _ in range(2)]
    assert torch.equal(*again)


def test_what_is_known_stays_when_the_store_grows(store, make_episode):
    windows = Windows(store, T, SKIP, split="all")
    before = windows.sample(5, seed=0, step=0)
    store.write_shard("early", 0, [make_episode(77, 17)])
    store.refresh()
    assert torch.equal(windows.sample(5, seed=0, step=0).state, before.state)


def test_prefetching_changes_nothing_and_stops(store):
    windows = Windows(store, T, SKIP)
    with Prefetcher(windows, 4, seed=3, steps=range(5, 11), rank=1, world_size=2, depth=2) as batches:
        states = [segment.state for segment in batches]
    assert len(states) == 6
    for step, state in zip(range(5, 11), states, strict=True):
        assert torch.equal(state, windows.sample(4, 3, step, rank=1, world_size=2).state)
    abandoned = Prefetcher(windows, 4, seed=3, steps=range(10**9), depth=2)
    next(iter(abandoned))
    abandoned.close()
    with Prefetcher(windows, 5, seed=3, steps=range(3), world_size=2) as batches:
        with pytest.raises(ValueError, match="multiple of the number of processes"):
            next(iter(batches))


def test_mistakes_are_explained(store):
    with pytest.raises(ValueError, match=r"'pixel' is no observation.*did you mean 'pixels'"):
        Windows(store, T, SKIP, observations=["pixel"])
    with pytest.raises(ValueError, match=r"'humans' is no policy.*did you mean 'human'"):
        Windows(store, T, SKIP, policies=["humans"])
    with pytest.raises(ValueError, match="split must be one of train, held_out, all"):
        Windows(store, T, SKIP, split="test")
    with pytest.raises(ValueError, match=r"5 steps at frameskip 5 need 21 frames, the longest .* has 17"):
        Windows(store, 5, 5)
    with pytest.raises(ValueError, match="clip indices must lie in"):
        Windows(store, T, SKIP).gather(np.array([-1]))
