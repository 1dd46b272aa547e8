import numpy as np
import pytest
import torch

from worldjepa.tokenizers.regions import RegionTokenizer

B, R, T, PATCH = 3, 5, 14, 7
NAN = float("nan")


def rois(seed: int = 0, count: int = B) -> torch.Tensor:
    return torch.randn(count, R, T, generator=torch.Generator().manual_seed(seed)) * 3 + 2


def test_a_token_is_a_region_in_a_piece_of_time():
    x = rois()
    tokens = RegionTokenizer(R, T, PATCH, num_pinned=1)({"rois": x})
    assert tokens.values.shape == (B, 1 + R * 2, PATCH) and tokens.pinned.tolist() == [True] + [False] * R * 2
    assert tokens.coords[0].tolist() == [-1, -1] and tokens.valid.all()
    for region in range(R):
        for piece in range(2):
            index = 1 + 2 * region + piece
            assert tokens.coords[index].tolist() == [region, piece]
            assert torch.equal(tokens.values[:, index], x[:, region, piece * PATCH : (piece + 1) * PATCH])


def test_every_region_is_scaled_by_its_own_median_and_spread():
    tokenizer, x = RegionTokenizer(R, T, PATCH), rois(1, 400)
    scale, shift = torch.arange(1.0, R + 1)[:, None], 10 * torch.arange(float(R))[:, None]
    x = x * scale + shift
    x[:40, 2] = NAN
    x[3, 1, 4] = 1e6  # which a mean would follow
    tokenizer.fit({"rois": x})
    values = tokenizer({"rois": x[50:]}).values.view(350, R, T)
    for region in range(R):
        low, median, high = np.percentile(values[:, region].numpy(), (25, 50, 75))
        assert median == pytest.approx(0, abs=0.03) and high - low == pytest.approx(1, abs=0.03)
    other = RegionTokenizer(R, T, PATCH)
    other.load_state_dict(tokenizer.state_dict())
    assert torch.equal(other({"rois": x[50:]}).values.view(350, R, T), values)


def test_a_missing_region_or_volume_is_no_token():
    x = rois()
    x[1, 2], x[2, 0, 8] = NAN, NAN
    tokens = RegionTokenizer(R, T, PATCH)({"rois": x})
    wanted = torch.ones(B, R, 2, dtype=torch.bool)
    wanted[1, 2], wanted[2, 0, 1] = False, False
    assert torch.equal(tokens.valid, wanted.flatten(1)) and torch.isfinite(tokens.values).all()


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"num_samples must be a multiple of patch_size \(7\), got 15"):
        RegionTokenizer(R, 15, PATCH)
    tokenizer = RegionTokenizer(R, T, PATCH)
    with pytest.raises(ValueError, match=r"rois must be float32 \(B, 5, 14\), got torch.float32 \(3, 4, 14\)"):
        tokenizer({"rois": rois()[:, 1:]})
    x = rois()
    x[:, 3] = 1.5
    with pytest.raises(ValueError, match=r"region 3 \(from 0\) is constant"):
        tokenizer.fit({"rois": x})
    x[:, 2] = NAN
    with pytest.raises(ValueError, match=r"region 2 \(from 0\) is missing in all"):
        tokenizer.fit({"rois": x})
