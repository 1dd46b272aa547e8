import json

import pytest

from worldjepa.studies.jobs import spread_over
from worldjepa.studies.record import clear_figure, join_result, mean_figure, rate_figure, write_result
from worldjepa.studies.tables import table, update_tables


def test_rates_pool_pairs_and_keep_the_seeds_apart():
    figure = rate_figure([(50, 100), (90, 100)], at_least=0.7)
    assert figure["value"] == 0.7 and figure["met"] and figure["n"] == 200
    assert figure["per_seed"] == [0.5, 0.9]
    assert figure["ci95"] == pytest.approx([0.6332, 0.7593], abs=1e-3)  # Wilson, 140 of 200
    assert rate_figure([(69, 100)], at_least=0.7)["met"] is False
    assert rate_figure([(3, 100)], at_most=0.05)["met"] is True
    assert rate_figure([(3, 100)])["met"] is None


def test_means_have_student_s_interval_and_one_value_has_none():
    figure = mean_figure([1.0, 2.0, 3.0], at_most=2)
    assert figure["value"] == 2 and figure["met"]
    assert figure["ci95"] == pytest.approx([-0.484, 4.484], abs=1e-2)  # t(2) = 4.303
    assert mean_figure([4.0])["ci95"] is None


def test_a_gain_is_clear_where_its_whole_interval_is_above_0():
    assert clear_figure([1.0, 1.1, 1.2], [0.5, 0.6, 0.6])["met"]
    assert not clear_figure([1.0, 1.1, 1.9], [0.9, 1.0, 0.6])["met"]  # +.1, +.1, +1.3
    assert not clear_figure([1.0], [0.5])["met"]  # one seed has no interval


def test_three_equal_jobs_on_two_cores_take_the_time_of_two():
    assert spread_over([5.0, 5.0, 5.0], 2) == 10 and spread_over([4.0, 1.0, 2.0, 1.0], 2) == 4
    assert spread_over([3.0, 2.0], 1) == 5


def test_parts_of_a_study_share_a_file_and_each_can_be_done_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def join(command, names, cpu="Z80"):
        figures = {name: mean_figure([1.0]) for name in names}
        path = join_result("a", command, {"cpu": cpu}, [0], figures, lambda name: name.split("_")[0])
        return json.loads(path.read_text())

    first, second, third = ["x_acc", "x_minutes"], ["pusht_success"], ["flow_error"]
    for command, names in (("study.py a", first), ("study.py a_pusht", second), ("study.py a_flow", third)):
        found = join(command, names)
    assert list(found["figures"]) == first + second + third
    assert list(join("study.py a_pusht", ["pusht_other"])["figures"]) == [*first, "pusht_other", *third]
    found = join("study.py a", ["x_other"], "6502")
    assert list(found["figures"]) == ["x_other", "pusht_other", *third]
    assert found["command"] == "study.py a && study.py a_flow && study.py a_pusht"
    assert found["machine"] == {"cpu": "Z80 and 6502"}


def test_tables_say_what_the_results_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- results: pusht -->\nold\n<!-- end -->\nb\n<!-- results: other -->\n<!-- end -->\n")
    figures = {"human_success": rate_figure([(43, 50)], at_least=0.9), "minutes": mean_figure([17.5], at_most=20)}
    path = write_result("pusht", "python scripts/study.py pusht", {"cpu": "Z80", "cores": 1}, [0], figures)
    assert json.loads(path.read_text())["figures"]["human_success"]["value"] == 0.86
    text = update_tables(readme, tmp_path / "results")
    assert "old" not in text and text == readme.read_text()
    assert "| human success | 86.0 % | 73.8 % to 93.0 % | 50 | >= 90.0 % | **no** |" in text
    assert "| minutes | 17.5 |  | 1 | <= 20 | yes |" in text
    assert "Not measured yet: `python scripts/study.py other`" in text


def test_variants_are_rows(tmp_path):
    names = ("sigreg", "sigreg_without_inverse_dynamics")
    figures = {f"{name}_angle_r2": mean_figure([0.5, 0.7]) for name in names}
    figures |= {f"{name}_scripted_success": rate_figure([(1, 4)]) for name in names}
    study = {"command": "c", "machine": {"cpu": "Z80", "cores": 1, "gpu": None}, "seeds": [0, 1], "figures": figures}
    (tmp_path / "objectives.json").write_text(json.dumps(study))
    lines = table("objectives", tmp_path).splitlines()
    assert lines[0] == "| | scripted pairs | angle R² |"
    assert lines[2].startswith("| sigreg | 25.0 % (") and lines[3].startswith("| sigreg without inverse dynamics |")
