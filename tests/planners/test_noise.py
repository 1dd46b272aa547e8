import pytest
import torch

from worldjepa.planners import BlockNoise, ColouredNoise

H, BLOCK = 4, (5, 3)


def draw(noise, num_samples=20_000, seed=0):
    """(num_samples, raw steps, raw action width)."""
    sample = noise.sample([torch.Generator().manual_seed(seed)], num_samples, H, BLOCK)
    assert sample.shape == (1, num_samples, H, BLOCK[0] * BLOCK[1])
    return sample[0].reshape(num_samples, H * BLOCK[0], BLOCK[1])


def correlation(x, s, t):
    return float((x[:, s] * x[:, t]).mean())


@pytest.mark.parametrize("noise", [BlockNoise(0.8), BlockNoise(0.0), ColouredNoise(2.0), ColouredNoise(0.0)])
def test_standard_normal_everywhere(noise):
    x = draw(noise)
    assert (x.mean(0).abs() < 0.03).all()
    assert ((x.std(0) - 1).abs() < 0.03).all()
    kurtosis = (x**4).mean(0)
    assert ((kurtosis - 3).abs() < 0.4).all()


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8, 1.0])
def test_block_noise_correlates_inside_a_block_only(rho):
    x = draw(BlockNoise(rho))
    assert abs(correlation(x, 5, 9) - rho) < 0.03
    assert abs(correlation(x, 4, 5)) < 0.03
    assert abs(float((x[:, 6, 0] * x[:, 6, 1]).mean())) < 0.03


def test_coloured_noise_has_the_power_law():
    """Power of the discrete Fourier transform falls as frequency^-2; white noise is flat."""
    for exponent in (0.0, 2.0):
        power = torch.fft.rfft(draw(ColouredNoise(exponent)), dim=1).abs().square().mean((0, 2))
        ratio = power[2] / power[6]
        assert abs(float(ratio) / 3**exponent - 1) < 0.05
        assert abs(float(power[0] / power[1]) - 1) < 0.05


def test_coloured_noise_is_smoother():
    assert correlation(draw(ColouredNoise(2.0)), 4, 5) > 0.8 > correlation(draw(ColouredNoise(0.5)), 4, 5)


@pytest.mark.parametrize("noise", [BlockNoise(), ColouredNoise()])
def test_one_stream_per_environment(noise):
    def streams(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    together = noise.sample(streams(5, 6, 7), 11, H, BLOCK)
    assert torch.equal(together[1:2], noise.sample(streams(6), 11, H, BLOCK))
    assert not torch.equal(together[0], together[1])
