import pytest
import torch

from worldjepa.tokenizers.video import EegVideoTokenizer, VideoTokenizer

B, T, CHANNELS, SIZE = 2, 6, 3, 8


def video() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (B, T, CHANNELS, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def eeg(num_channels: int = 19, num_samples: int = 150) -> torch.Tensor:
    return 10 * torch.randn(B, num_channels, num_samples, generator=torch.Generator().manual_seed(0))


def test_tubelets_are_at_their_times_rows_and_columns():
    tokens = VideoTokenizer(T, SIZE, CHANNELS, patch_size=4, tubelet_size=3, mean=0.0, std=1 / 255)({"video": video()})
    assert tokens.values.shape == (B, 2 * 2 * 2, 3 * CHANNELS * 4 * 4) and tokens.coords.shape == (8, 3)
    assert tokens.valid.all() and not tokens.pinned.any()
    for token, (time, row, column) in enumerate(tokens.coords.long().tolist()):
        part = video()[:, 3 * time : 3 * time + 3, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert torch.allclose(tokens.values[:, token], part.flatten(1).float(), atol=1e-3)


def test_a_token_depends_on_its_own_tubelet_alone():
    tokenizer, changed = VideoTokenizer(T, SIZE, CHANNELS, patch_size=4), video()
    changed[:, 2:4, :, :4, 4:] ^= 255
    differs = (tokenizer({"video": video()}).values != tokenizer({"video": changed}).values).any(-1).any(0)
    assert tokenizer.coords[differs].tolist() == [[1, 0, 1]]


def test_fitted_pixels_have_mean_zero_and_variance_one():
    tokenizer = VideoTokenizer(T, SIZE, CHANNELS, patch_size=4)
    tokenizer.fit({"video": video() // 2})
    values = tokenizer({"video": video() // 2}).values
    assert abs(values.mean()) < 1e-4 and abs(values.std(correction=0) - 1) < 1e-4
    assert {"mean", "std"} <= set(tokenizer.state_dict()), "a run keeps them"


def test_eeg_patches_are_four_channels_of_a_window_of_a_frame():
    tokenizer = EegVideoTokenizer(frame_samples=70, mean=0.0, std=1.0)
    tokens = tokenizer({"eeg": eeg()})
    assert tokens.coords.shape == (2 * 5 * 2, 3)
    assert tokens.values.shape == (B, 2 * 5 * 2, 4 * 30)
    for token, (frame, group, window) in enumerate(tokens.coords.long().tolist()):
        start = 70 * frame + 30 * window
        part = eeg()[:, 4 * group : 4 * group + 4, start : start + 30]
        values = tokens.values[:, token].view(B, 4, 30)
        assert torch.equal(values[:, : part.shape[1]], part)
        assert not values[:, part.shape[1] :].any(), "there is no twentieth channel"


def test_an_eeg_token_depends_on_its_own_patch_alone():
    tokenizer, changed = EegVideoTokenizer(frame_samples=70), eeg()
    changed[:, 4:8, 100:130] += 5
    changed[:, :, 60:70] += 5  # after the last window of a frame
    changed[:, :, 140:] += 5  # after the last frame
    tokens = tokenizer({"eeg": eeg()})
    differs = (tokens.values != tokenizer({"eeg": changed}).values).any(-1).any(0)
    assert tokens.coords[differs].tolist() == [[1, 1, 1]]


def test_a_channel_that_is_not_there_is_neither_high_nor_low():
    tokenizer = EegVideoTokenizer(frame_samples=70)
    shifted = {"eeg": eeg() + 50}
    tokenizer.fit(shifted)
    tokens = tokenizer(shifted)
    last = tokens.values[:, tokens.coords[:, 1] == 4].unflatten(-1, (4, 30))
    assert not last[:, :, 3].any() and abs(last[:, :, :3].mean()) < 0.3


def test_refusals_say_what_was_expected():
    with pytest.raises(ValueError, match=r"num_frames must be a multiple of tubelet_size \(4\), got 6"):
        VideoTokenizer(6, 8, patch_size=4, tubelet_size=4)
    with pytest.raises(ValueError, match=r"image_size must be a multiple of patch_size \(16\), got 8"):
        VideoTokenizer(6, 8)
    tokenizer = VideoTokenizer(T, SIZE, CHANNELS, patch_size=4)
    for wrong in (video()[:, 1:], video()[:, :, :1], video().float()):
        with pytest.raises(ValueError, match=r"video must be uint8 \(B, 6, 3, 8, 8\)"):
            tokenizer({"video": wrong})
    with pytest.raises(ValueError, match=r"frame_samples must be >= patch_samples \(30\), got 20"):
        EegVideoTokenizer(20)
    with pytest.raises(ValueError, match=r"T >= frame_samples \(151\), got \(2, 18, 150\); take longer"):
        EegVideoTokenizer(151)({"eeg": eeg(18)})
