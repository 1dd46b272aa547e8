import json

import pytest

from worldjepa.studies import static
from worldjepa.studies.record import FIGURE_KEYS

KEYS = (
    *("raw_probe", "rankme", "seconds", "loss_over_mean_latent", *static.READERS),
    *(key for own in static.OWN.values() for key, _ in own.values()),
)


def test_a_system_counts_where_its_bound_is_above_zero(monkeypatch, tmp_path):
    """All gain .05 with a spread of .01 over the seeds, but one that gains .01 with a spread of .05."""

    def jobs(asked):
        found = {}
        for name in asked:
            system, seed = name.rsplit("-", 1)
            middle, spread = (0.01, 0.05) if system == "sar_jepa" else (0.05, 0.01)
            gain = middle + spread * (int(seed) - 2)
            found[name] = dict.fromkeys(KEYS, 0.5) | {"random_probe": 0.6, "probe": 0.6 + gain}
        return found

    monkeypatch.setattr(static, "in_turns", jobs)
    monkeypatch.chdir(tmp_path)
    static.run("python scripts/study.py static")
    figures = json.loads((tmp_path / "results" / "static.json").read_text())["figures"]
    assert all(set(FIGURE_KEYS) <= set(figure) for figure in figures.values())
    assert figures["systems_beating_random"]["value"] == len(static.SYSTEMS) - 1
    assert not figures["sar_jepa_gain_lower_bound"]["met"] and figures["a_jepa_gain_lower_bound"]["met"]
    # mean .05, standard deviation .01 sqrt(2.5) over 5 seeds, Student's t with 4 degrees of freedom at 95 %: 2.132
    bound = 0.05 - 2.132 * 0.01 * 2.5**0.5 / 5**0.5
    assert figures["v_jepa_gain_lower_bound"]["value"] == pytest.approx(bound, abs=1e-4)


def test_every_static_model_is_in_the_study():
    import pathlib

    folder = pathlib.Path(__file__).parents[2] / "configs" / "model"
    names = {path.stem for path in folder.glob("*.yaml") if "\ntokenizer:" in path.read_text()}
    assert names == set(static.SYSTEMS)
