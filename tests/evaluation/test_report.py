import html
import json
import re

import numpy as np
import pytest

from worldjepa.evaluation import charts, scoreboard, video
from worldjepa.evaluation.report import write_report

M, K, H = 31, 3, 5


def measure(successes, n, low, high):
    return {"rate": successes / n, "ci95": [low, high], "successes": successes, "n": n}


PLANNING = {
    "human": {
        "n": 77,
        "excluded_solved": 23,
        "manifest_hash": "3fa9c1b2d0e4",
        "budget": 50,
        "planner": {
            "any": measure(66, 77, 0.762, 0.918),
            "at_25": measure(58, 77, 0.646, 0.836),
            "any_moved": measure(48, 58, 0.711, 0.904),
            "end_moved": measure(41, 57, 0.59, 0.82),
            "ms_per_plan": 143.2,
        },
        "random": {"any": measure(1, 77, 0.002, 0.07), "ms_per_plan": None},
        "replay": {"any": measure(75, 77, 0.91, 0.993)},
        "still": {"any": {"rate": None, "ci95": None, "successes": 0, "n": 0}},
    },
    "maze": {
        "n": 19,
        "planner": {"any": measure(10, 19, 0.317, 0.727)},
        "dreamer": {"half_way": measure(2, 19, 0.03, 0.31)},
    },
}


def make_run(folder):
    run = folder / "my <run>"
    (run / "videos").mkdir(parents=True)
    (run / "planning.json").write_text(json.dumps(PLANNING))
    (run / "facts.json").write_text(json.dumps({"data": "2,500 noisy replays", "machine": "2 cores <i>"}))
    (run / "config.yaml").write_text("seed: 11\nname: a<b\n")
    rows = [{"step": s, "seconds": 3.0 * s, "loss/total": 5.0 / (s + 1), "images_per_s": 1850.0} for s in range(50)]
    rows += [{"step": s, "eval/rollout_over_copy/1": 0.5, "eval/linear/spot/r2": 0.123456} for s in (10, 40)]
    text = "\n".join(json.dumps(row) for row in rows)
    (run / "metrics.jsonl").write_text(text + '\n{"step": 60, "lo')
    video.write_film(run / "videos" / "planner_human.mp4", np.zeros((3, 16, 20, 3), np.uint8))
    rng = np.random.default_rng(0)
    angle = rng.uniform(-np.pi, np.pi, M)
    pictures = rng.integers(0, 255, (K, H + 1, 8, 10, 3), dtype=np.uint8)
    np.savez_compressed(
        run / "figures.npz",
        latent=rng.normal(size=(M, 13)),
        state=rng.normal(size=(M, 7)),
        **{"target/spot": rng.normal(size=(M, 2)), "probe/spot": rng.normal(size=(M, 2))},
        **{f"{kind}/turn_angle": np.stack([np.cos(angle), np.sin(angle)], 1) for kind in ("target", "probe")},
        rollout_real=pictures,
        rollout_retrieved=pictures,
        **{f"{kind}/spot": np.zeros((K, H + 1, 2)) for kind in ("rollout_target", "rollout_retrieved_target")},
    )
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with all its pieces and the text of its report, made once: charts take their time."""
    run = make_run(tmp_path_factory.mktemp("runs"))
    return run, text_of(write_report(run).read_text(encoding="utf-8"))


def text_of(page):
    return re.sub(r"data:[a-z0-9/]+;base64,[A-Za-z0-9+/=]+", "DATA", page)


def test_the_page_holds_every_number_of_the_planning_results(whole):
    _, page = whole
    for results in PLANNING.values():
        for player in (entry for entry in results.values() if isinstance(entry, dict)):
            for name, shown in player.items():
                if isinstance(shown, dict) and shown["n"] and name != "end_moved":
                    low, high = shown["ci95"]
                    assert f"<b>{100 * shown['rate']:.1f} %</b>" in page
                    assert f"{100 * low:.1f}–{100 * high:.1f}<br>{shown['successes']} of {shown['n']}</small>" in page
    for words in (
        "77 pairs",
        "23 more",
        "50 steps",
        "143.2 ms",
        "list of pairs 3fa9c1b2d0e4",
        "at step 25",
        "half way",
    ):
        assert words in page
    # whatever the tables leave out stands below them, as recorded
    assert html.escape(json.dumps(PLANNING, indent=1)) in page
    assert "Reaches 66 of 77 unsolved goal pictures (85.7 %, 95 % interval 76.2–91.8 %)" in page
    assert "random actions 1.3 %, replay of the recording 97.4 %" in page


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_it_shows(whole):
    _, page = whole
    assert "http:" not in page and "https:" not in page
    assert not re.search(r"<(script|link|iframe|object)\b", page)
    assert all(address.startswith("DATA") for address in re.findall(r'(?:src|srcset|href)="([^"]*)"', page))
    assert "my &lt;run&gt;" in page and "<run>" not in page
    assert "2 cores &lt;i&gt;" in page and "name: a&lt;b" in page


def test_the_page_shows_films_charts_rollouts_and_facts(whole):
    run_dir, page = whole
    assert len(re.findall("<video", page)) == 1
    assert len(re.findall('class="strip"', page)) == 2 * K
    # 2 probes, 2 maps, 4 curves: loss, roll-out, linear probe, speed
    assert len(re.findall("<picture>", page)) == 8
    assert "spot off by 0" in page
    assert "2.5 minutes, 49 steps" in page
    assert "linear/spot/r2: 0.1235" in page
    assert "There is no" not in page
    assert sorted(p.name for p in run_dir.iterdir() if p.name.startswith((".", "report"))) == ["report.html"]


def test_errors_of_the_flow_have_a_legend(tmp_path, recwarn):
    rows = [{"step": step, "eval/epe": 1.0, "eval/epe_visible": 0.8, "eval/epe_over_zero": 0.3} for step in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert "Error of the flow" in write_report(tmp_path).read_text(encoding="utf-8")
    assert not [warning for warning in recwarn if "legend" in str(warning.message)]  # of a chart with no names


def test_missing_pieces_are_named_and_the_rest_is_shown(tmp_path):
    run_dir = make_run(tmp_path)
    (run_dir / "figures.npz").unlink()
    (run_dir / "metrics.jsonl").unlink()
    page = text_of(write_report(run_dir).read_text(encoding="utf-8"))
    assert "There is no figures.npz" in page and "There is no metrics.jsonl" in page
    assert "Reaches 66 of 77" in page and "<video" in page
    for name in ("planning.json", "config.yaml", "facts.json", "videos/planner_human.mp4"):
        (run_dir / name).unlink()
    page = text_of(write_report(run_dir).read_text(encoding="utf-8"))
    for words in ("no planning.json", "no config.yaml", "no facts.json", "no videos", "not been judged yet"):
        assert words in page
    assert "What the words mean" in page


def test_damaged_pieces_are_named(tmp_path):
    run_dir = make_run(tmp_path)
    (run_dir / "metrics.jsonl").unlink()
    for name in ("planning.json", "figures.npz"):
        (run_dir / name).write_bytes((run_dir / name).read_bytes()[:40])
    page = write_report(run_dir).read_text(encoding="utf-8")
    assert "planning.json could not be read" in page and "figures.npz could not be read" in page


def test_a_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="run="):
        write_report(tmp_path / "nowhere")


def test_a_headline_without_floors():
    results = {"planner": {"any": measure(2, 4, 0.15, 0.85)}, "random": {}}
    assert (
        scoreboard.headline_sentence(results)
        == "Reaches 2 of 4 unsolved goal pictures (50.0 %, 95 % interval 15.0–85.0 %)."
    )


def test_principal_places_are_the_directions_of_most_variance():
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(500, 4)) * [0.1, 5, 0.1, 2] + 30
    places, share = charts.principal_places(latent)
    assert abs(np.corrcoef(places[:, 0], latent[:, 1])[0, 1]) > 0.999
    assert abs(np.corrcoef(places[:, 1], latent[:, 3])[0, 1]) > 0.999
    np.testing.assert_allclose(share, [25 / 29, 4 / 29], atol=0.03)
