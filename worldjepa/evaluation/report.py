"""``report.html``: one self-contained page that shows what a run learned, made from the files in its directory.

Files read, each optional; the page says which are missing:

- ``planning.json``: see :mod:`worldjepa.evaluation.scoreboard`.
- ``videos/*.mp4``.
- ``metrics.jsonl`` (and ``refinement/metrics.jsonl``): a JSON object per line with ``step``, ``seconds`` and
  ``loss/<term>``, ``images_per_s`` or ``eval/<name>``.
- ``figures.npz``: see :mod:`worldjepa.evaluation.figures`.
- in their place ``views.json`` and ``view_figures.npz`` for a run that learned from views of things, see
  :mod:`worldjepa.evaluation.view_figures`; ``motion.json`` and ``motion_figures.npz`` for one that learned from
  pictures that move, see :mod:`worldjepa.evaluation.motion_figures`; ``scans.json`` and ``scan_figures.npz`` for one
  that learned from a LiDAR's scans, see :mod:`worldjepa.evaluation.scan_figures`; ``returns.json`` and
  ``drive_figures.npz`` for one that drives, see :mod:`worldjepa.evaluation.driving`; ``samples.json`` and
  ``sample_figures.npz`` for one that learned from samples, see :mod:`worldjepa.evaluation.sample_figures`.
- ``config.yaml``: shown as it is.
- ``facts.json``: flat, name -> text or number, such as ``{"data": "2,500 noisy replays ...", "machine": "2 cores"}``.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

from worldjepa.evaluation import charts
from worldjepa.evaluation.bev import SCANS_FIGURES, SCANS_FILE
from worldjepa.evaluation.driving import DRIVE_FIGURES, RETURNS_FILE, drives_section
from worldjepa.evaluation.frozen import SAMPLES_FIGURES, SAMPLES_FILE
from worldjepa.evaluation.motion import MOTION_FIGURES, MOTION_FILE
from worldjepa.evaluation.motion_figures import motion_section
from worldjepa.evaluation.page import STYLE, TERMS, definitions, figure, folded, section
from worldjepa.evaluation.sample_figures import samples_section
from worldjepa.evaluation.scan_figures import scans_section
from worldjepa.evaluation.scoreboard import headline, scoreboard
from worldjepa.evaluation.view_figures import views_section
from worldjepa.evaluation.views import VIEWS_FILE
from worldjepa.files import write_text
from worldjepa.training import METRICS_FILE, read_metrics

LARGEST_VIDEO_BYTES = 25_000_000

PLANNED = (
    "Each cell is one attempt. The goal picture is in its corner; the frame turns green once the goal is reached. "
    "(In PushT the pale green T on the floor is scenery: only the picture in the corner is the goal.)"
)


EPE_NAMES = ("epe", "epe_visible", "epe_hidden", "epe_zero", "epe_translation")


class Kind(NamedTuple):
    """A run that is not judged by planning: its files, what makes a section of them, and sentences for the page."""

    measured: str
    figures: str
    section: Callable[[dict[str, float], dict[str, np.ndarray]], str]
    lead: str
    films: str = ""  # what is seen in its videos, where it has some


KINDS = (
    Kind(VIEWS_FILE, "view_figures.npz", views_section, "It has seen views of things, and what actions make of them."),
    Kind(
        MOTION_FILE,
        MOTION_FIGURES,
        motion_section,
        "It has seen pictures that move, and two views of each.",
        "Held-out episodes, one in each row: what is seen, where it will have gone, and the next picture moved back by "
        "that, which should stand still for as long as it is the same picture.",
    ),
    Kind(SCANS_FILE, SCANS_FIGURES, scans_section, "It has seen sweeps of a LiDAR, and has no labels of what was met."),
    Kind(
        RETURNS_FILE,
        DRIVE_FIGURES,
        drives_section,
        "It plans its way in latents of what a LiDAR sees from above.",
        "Drives from above and, below, what the LiDAR measured.",
    ),
    Kind(SAMPLES_FILE, SAMPLES_FIGURES, samples_section, "It has seen samples, and none of their labels."),
)


def write_report(run_dir: str | Path) -> Path:
    """Writes ``report.html`` into ``run_dir``, whole or not at all, and returns its path."""
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise ValueError(f"a report is made from a run's directory, got {str(run_dir)!r}, which is none; check run=")
    notes: list[str] = []
    judged = next((kind for kind in KINDS if (run_dir / kind.measured).is_file()), None)
    planning = {} if judged else _read_json(run_dir / "planning.json", notes)
    facts = _read_json(run_dir / "facts.json", notes)
    rows = read_metrics(run_dir)
    if not rows:
        notes.append(f"There is no {METRICS_FILE}.")
    figures = _read_figures(run_dir / (judged.figures if judged else "figures.npz"), notes)
    sections = [
        judged.section(_read_json(run_dir / judged.measured, notes), figures) if judged else scoreboard(planning),
        _video_section(run_dir / "videos", judged.films if judged else PLANNED, notes),
        _rollout_section(figures),
        _probe_section(figures),
        _map_section(figures),
        _curve_section(rows),
        _facts_section(run_dir / "config.yaml", rows, facts, notes),
        section("What the words mean", "", definitions(TERMS)),
    ]
    title = escape(run_dir.resolve().name)
    body = "\n".join(part for part in [headline(title, planning, judged.lead if judged else ""), *sections] if part)
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{title} · worldjepa</title>'
        f"<style>{STYLE}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )
    path = run_dir / "report.html"
    write_text(path, page)
    return path


def _video_section(folder: Path, about: str, notes: list[str]) -> str:
    if not about:
        return ""
    films = []
    for path in sorted(folder.glob("*.mp4")):
        if path.stat().st_size > LARGEST_VIDEO_BYTES:
            notes.append(f"{path.name} is larger than {LARGEST_VIDEO_BYTES // 1_000_000} MB and was left out.")
            continue
        address = charts.data_address(path.read_bytes(), "video/mp4")
        films.append(
            f'<figure><video controls muted loop autoplay playsinline src="{address}"></video>'
            f"<figcaption>{escape(charts.plain(path.stem))}</figcaption></figure>"
        )
    if not films:
        notes.append("There are no videos (videos/*.mp4).")
        return ""
    return section(
        "Watch it",
        about,
        f'<div class="films">{"".join(films)}</div>',
    )


def _rollout_section(figures: dict[str, np.ndarray]) -> str:
    if "rollout_real" not in figures:
        return ""
    real, retrieved = figures["rollout_real"], figures["rollout_retrieved"]
    blocks = []
    for i in range(len(real)):
        errors = []
        for key in figures:
            name = key.removeprefix("rollout_target/")
            if name == key:
                continue
            truth, found = figures[key][i, -1:], figures[f"rollout_retrieved_target/{name}"][i, -1:]
            error = f"{charts.median_degrees(found, truth):.0f}°" if charts.is_angle(name) else None
            errors.append(f"{charts.plain(name)} off by {error or format(charts.rms_distance(found, truth), '.2g')}")
        blocks.append(
            '<div class="rollout"><span>happened</span>'
            + charts.strip(real[i], "recorded frames")
            + "<span>imagined</span>"
            + charts.strip(retrieved[i], "stored frames nearest to the imagined latents")
            + f'<p class="note">at the last step: {escape(", ".join(errors))}</p></div>'
        )
    return section(
        "What it imagines",
        "From the first frame alone and the recorded actions, the model imagines the next latents. It has no decoder, "
        "so each imagined latent is shown by the stored training frame with the nearest latent. Left is the start, "
        "each picture is one model step later. Distances are in the simulator's units (pixels of 512 for PushT).",
        f'<div class="grid wider">{"".join(blocks)}</div>',
    )


def _probe_section(figures: dict[str, np.ndarray]) -> str:
    names = [key.removeprefix("probe/") for key in figures if key.startswith("probe/")]
    drawn = [
        figure(
            charts.picture(
                charts.probe_scatter(name, figures[f"target/{name}"], figures[f"probe/{name}"]),
                f"true against read {charts.plain(name)}",
            )
        )
        for name in names
    ]
    if not drawn:
        return ""
    return section(
        "What its latents know",
        "A linear probe reads the simulator's hidden quantities off the latents of held-out frames. The model was "
        "never told them. On the line is perfect.",
        f'<div class="grid">{"".join(drawn)}</div>',
    )


def _map_section(figures: dict[str, np.ndarray]) -> str:
    names = [key.removeprefix("target/") for key in figures if key.startswith("target/")]
    if not names or "latent" not in figures or min(figures["latent"].shape) < 2:
        return ""
    places, share = charts.principal_places(figures["latent"])
    drawn = [
        figure(
            charts.picture(
                charts.latent_map(name, places, share, figures[f"target/{name}"]),
                f"latents coloured by {charts.plain(name)}",
            )
        )
        for name in names
    ]
    return section(
        "A map of the latent space",
        "Every dot is a held-out frame, placed by the two directions in which latents differ most. Smooth colours mean "
        "that nearby latents are similar situations. What looks mixed in these two directions may be apart in others.",
        f'<div class="grid">{"".join(drawn)}</div>',
    )


def _curve_section(rows: list[dict]) -> str:
    drawn = []

    def add(series: charts.Series, caption: str, **kind) -> None:
        if series:
            drawn.append(figure(charts.picture(charts.curves(series, **kind), escape(caption)), caption))

    add(_series(rows, "loss/"), "Training loss and its terms.", ylabel="loss", log=True, smooth=True)
    add(
        {
            f"{name} step{'s' * (name != '1')} ahead": line
            for name, line in _series(rows, "eval/rollout_over_copy/").items()
        },
        "Prediction error over that of a copy of the first frame; below the dashed line is better than copying.",
        ylabel="error / copy error",
        level=1.0,
    )
    readers = {
        "linear": "How well a linear probe reads each quantity; 1 is perfect.",
        "mlp": "How well a small-network (MLP) probe reads each quantity; 1 is perfect.",
        "imagined": "How well the linear probe reads it off the imagined latent at the last step; 1 is perfect.",
    }
    for kind, caption in readers.items():
        found = {
            charts.plain(name.removesuffix("/r2")): line
            for name, line in _series(rows, f"eval/{kind}/").items()
            if name.endswith("/r2")
        }
        add(found, caption, ylabel="R²", limits=(-0.05, 1.02))
    errors = {name: line for name, line in _series(rows, "eval/").items() if name in EPE_NAMES}
    add(errors, "Error of the flow (EPE) and of its baselines.", ylabel="px")
    add(
        _series(rows, "eval/rankme"),
        "RankMe: how many dimensions the latents really use; it compares runs of one method only.",
        ylabel="dimensions",
    )
    add(
        _series(rows, "eval/action_sensitivity"),
        "Prediction error with another clip's actions over that with the true ones; on the dashed line the model "
        "ignores actions.",
        ylabel="ratio",
        level=1.0,
    )
    speed = _series(rows, "images_per_s")
    fastest = max((float(values.max()) for _, values in speed.values()), default=1.0)
    add(speed, "Speed of training.", ylabel="pictures per second", smooth=True, limits=(0.0, 1.1 * fastest))
    if not drawn:
        return ""
    return section(
        "How it learned",
        "Measured while training; probes and errors on held-out data. Where the curves of the "
        "regularisers end, the encoder was done and the predictor went on alone (its loss is then of larger batches).",
        f'<div class="grid">{"".join(drawn)}</div>',
    )


def _facts_section(config: Path, rows: list[dict], facts: dict, notes: list[str]) -> str:
    shown = dict(facts)
    timed = [row for row in rows if "seconds" in row and "step" in row]
    if timed:
        shown["training time"] = f"{timed[-1]['seconds'] / 60:.1f} minutes, {timed[-1]['step']} steps"
    lines = "".join(
        f'<tr><th scope="row">{escape(charts.plain(str(name)))}</th><td>{escape(_readable(value))}</td></tr>'
        for name, value in shown.items()
    )
    body = f'<table class="facts">{lines}</table>' if lines else ""
    last = {name: value for row in rows for name, value in row.items() if name.startswith("eval/")}
    if last:
        numbers = "\n".join(f"{name.removeprefix('eval/')}: {_readable(value)}" for name, value in last.items())
        body += folded("last measurements on held-out clips", f"<pre>{escape(numbers)}</pre>")
    if config.is_file():
        body += folded("config.yaml", f"<pre>{escape(config.read_text(encoding='utf-8'))}</pre>")
    else:
        notes.append("There is no config.yaml.")
    if notes:
        body += f'<p class="note">{escape(" ".join(notes))}</p>'
    return section("Facts of the run", "", body)


def _readable(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _series(rows: list[dict], prefix: str) -> charts.Series:
    """Columns that start with ``prefix`` (or are it) as lines over steps; a step logged twice counts as last logged."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, value in row.items():
            if name.startswith(prefix) and "step" in row and isinstance(value, int | float) and np.isfinite(value):
                found.setdefault(name.removeprefix(prefix), {})[row["step"]] = float(value)
    return {
        name: (np.array(sorted(points)), np.array([points[step] for step in sorted(points)]))
        for name, points in found.items()
    }


def _read_json(path: Path, notes: list[str]) -> dict:
    if not path.is_file():
        notes.append(f"There is no {path.name}.")
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        notes.append(f"{path.name} could not be read: {error}.")
        return {}
    if not isinstance(content, dict):
        notes.append(f"{path.name} could not be read: expected an object, got {type(content).__name__}.")
        return {}
    return content


def _read_figures(path: Path, notes: list[str]) -> dict[str, np.ndarray]:
    if not path.is_file():
        notes.append(f"There is no {path.name}, so no roll-outs, probes and map.")
        return {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        notes.append(f"{path.name} could not be read: {error}.")
        return {}
