import pytest

from worldjepa.studies import i_jepa_digits
from worldjepa.studies.record import FIGURE_KEYS


def outcome(gain: float) -> dict[str, float]:
    return {
        "random_probe": 0.8,
        "probe": 0.8 + gain,
        "random_rankme": 5.0,
        "rankme": 20.0,
        "loss_over_mean_latent": 0.5,
        "seconds": 60.0,
    }


@pytest.mark.parametrize(("gains", "met"), [([0.03, 0.04, 0.05], True), ([-0.02, 0.04, 0.05], False)])
def test_the_gain_is_met_only_where_its_one_sided_bound_is_above_zero(monkeypatch, gains, met):
    monkeypatch.setattr(i_jepa_digits, "in_turns", lambda jobs: {name: outcome(gains[int(name)]) for name in jobs})
    figures = i_jepa_digits.run(seeds=(0, 1, 2))
    assert all(set(FIGURE_KEYS) <= set(figure) for figure in figures.values())
    assert figures["probe_gain"]["value"] == pytest.approx(sum(gains) / 3, abs=1e-4)
    assert figures["probe_gain"]["met"] is met
    if met:  # mean 0.04, standard error 0.01 / sqrt(3), Student's t with 2 degrees of freedom at 95 %: 2.92
        assert figures["probe_gain_bound"]["value"] == pytest.approx(0.04 - 2.92 * 0.01 / 3**0.5, abs=1e-4)
