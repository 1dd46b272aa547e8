import math

import pytest
import torch

from worldjepa.objectives.log_ratio import LogRatio

B, HEIGHT, WIDTH = 2, 24, 32


def speckled(seed: int = 0) -> torch.Tensor:
    gamma = torch.distributions.Gamma(3.0, 3.0)
    torch.manual_seed(seed)
    return gamma.sample((B, 1, HEIGHT, WIDTH)).sqrt() + 0.01


def ratios(amplitude: torch.Tensor, **options) -> torch.Tensor:
    return LogRatio(4, **options)({"amplitude": amplitude})


def test_a_gain_changes_nothing():
    found = ratios(speckled())
    assert torch.equal(ratios(1024 * speckled()), found), "bit by bit, where the gain itself is exact"
    assert torch.allclose(ratios(3.7 * speckled()), found, atol=1e-6)


def test_a_step_is_found_at_its_place_and_in_its_direction():
    step = torch.ones(1, 1, HEIGHT, WIDTH)
    step[..., 16:] = 5.0
    found = ratios(step).view(HEIGHT // 4, WIDTH // 4, 2, 4)
    assert (found[:, :, 1] == 0).all(), "above and below are alike"
    for scale, kernel in enumerate((5, 9, 13, 17)):
        reach = math.ceil((kernel // 2) / 4)
        near = found[0, :, 0, scale] > 1e-6
        assert near.tolist() == [4 - reach <= patch < 4 + reach for patch in range(8)]
    # Next to the step the halves see one side each: of pixels 12 to 15 the last alone for the smallest kernel
    # (left 1, right 5) and the one before with a line of each on its right.
    assert found[2, 3, 0, 0] == pytest.approx((math.log(5) + math.log(3)) / 4, abs=1e-5)
    turned = ratios(step.mT).view(WIDTH // 4, HEIGHT // 4, 2, 4)
    assert torch.allclose(turned.transpose(0, 1).flip(2), found, atol=1e-6)


def test_ratios_are_those_of_the_means_of_two_halves():
    picture, kernel = speckled(), 5
    found = LogRatio(1, kernels=(kernel,))({"amplitude": picture}).view(B, HEIGHT, WIDTH, 2)
    i, j = 10, 13
    above, below = picture[1, 0, i - 2 : i, j - 2 : j + 3], picture[1, 0, i + 1 : i + 3, j - 2 : j + 3]
    left, right = picture[1, 0, i - 2 : i + 3, j - 2 : j], picture[1, 0, i - 2 : i + 3, j + 1 : j + 3]
    wanted = [abs(float((b.mean() / a.mean()).log())) for a, b in ((left, right), (above, below))]
    assert found[1, i, j].tolist() == pytest.approx(wanted, abs=1e-5)


def test_large_windows_see_less_speckle():
    found = ratios(speckled()).view(-1, 2, 4).mean((0, 1))
    assert (found.diff() < 0).all()


def test_one_vector_per_patch_row_by_row():
    picture = torch.ones(1, 1, HEIGHT, WIDTH)
    picture[:, :, 9, 14] = 50.0  # patch (2, 3)
    found = ratios(picture, kernels=(3,))
    assert found.shape == (1, 6 * 8, 2) and LogRatio(4).num_features == 8
    assert int(found.sum(-1).argmax()) == 2 * 8 + 3


def test_refusals_say_what_was_expected():
    with pytest.raises(ValueError, match=r"odd and >= 3, got \(5, 8\)"):
        LogRatio(4, kernels=(5, 8))
    with pytest.raises(ValueError, match="too small for kernels"):
        ratios(torch.ones(1, 1, 8, 8))
