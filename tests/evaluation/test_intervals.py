import pytest

from worldjepa.evaluation.intervals import mean_interval, wilson


@pytest.mark.parametrize(
    "successes, num_trials, low, high",
    [
        # By hand from Wilson's formula with z = 1.959964; 0/10 is z^2 / (10 + z^2).
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (5, 10, 0.236593, 0.763407),
        (1, 29, 0.006113, 0.171755),  # Newcombe 1998, table I: 0.0061 to 0.1718
        (81, 263, 0.255295, 0.366207),  # Newcombe 1998, table I: 0.2553 to 0.3662
        (15, 148, 0.062385, 0.160474),  # Newcombe 1998, table I: 0.0624 to 0.1605
    ],
)
def test_wilson_known_values(successes, num_trials, low, high):
    assert wilson(successes, num_trials) == pytest.approx((low, high), abs=5e-5)


def test_wilson_mirrors_and_narrows():
    low, high = wilson(30, 200)
    assert wilson(170, 200) == pytest.approx((1 - high, 1 - low))
    wide = wilson(30, 200, confidence=0.99)
    assert wide[0] < low < 0.15 < high < wide[1]


def test_mean_interval_known_values():
    # t(2, 0.975) = 4.302653, s = 1, n = 3; t(4, 0.975) = 2.776445, s = sqrt(2.5), n = 5.
    assert mean_interval([1, 2, 3]) == pytest.approx((2.0, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    half = 2.776445 * 2.5**0.5 / 5**0.5
    assert mean_interval([1, 2, 3, 4, 5]) == pytest.approx((3.0, 3 - half, 3 + half))


@pytest.mark.parametrize("successes, num_trials", [(-1, 5), (6, 5), (0, 0)])
def test_wilson_refuses_impossible_counts(successes, num_trials):
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, num_trials)


def test_intervals_refuse_what_has_none():
    with pytest.raises(ValueError, match="at least 2 values"):
        mean_interval([0.5])
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence=95)
