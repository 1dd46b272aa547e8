"""The README's tables, made from ``results/*.json`` so that they cannot say anything else."""

from __future__ import annotations

import json
import re
from pathlib import Path

from worldjepa.files import write_text

MARK = re.compile(r"(<!-- results: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
PERCENT = (
    *("_success_pretrained", "_success_scratch", "_probe", "_probe_joint_minus_content_only"),
    *("_success", "_success_at_25", "_success_at_0_9", "_accuracy", "_gain", "_views", "_1_to_5"),
    *("_acc_aggregate_minus_encoder", "_acc_aggregate_minus_mean", "_to_unconditioned"),
)
# Column names of the studies that compare variants, by the figures' endings.
VARIANT_COLUMNS = {
    "scripted_success": "scripted pairs",
    "human_success": "human pairs",
    "angle_r2": "angle R²",
    "images_per_s": "pictures/s",
    "steps": "steps",
    "rankme": "RankMe",
}
# Of the study that compares methods on views, beside its other figures.
METHOD_COLUMNS = {
    "encoder_accuracy": "class accuracy of one view",
    "accuracy": "of five",
    "r2": "rotation R²",
    "hue_r2": "hue R²",
    "beyond_r2": "rotation R² past a quarter turn",
}


# Models that plan in PushT by one budget: study, and its figures for the columns of MODEL_COLUMNS.
MODELS = {
    "default": ("pusht", ("scripted_success", "human_success", "minutes")),
    "`model=seq_jepa`": ("seq_jepa", ("pusht_success", "pusht_human_success", "pusht_minutes")),
}
MODEL_COLUMNS = ("scripted pairs", "human pairs", "minutes")


def update_tables(readme: Path, results: Path) -> str:
    """The README's text with every ``<!-- results: name -->`` block made anew; written if it changed."""
    text = readme.read_text()
    made = MARK.sub(lambda match: f"{match[1]}{table(match[2], results)}{match[3]}", text)
    if made != text:
        write_text(readme, made)
    return made


def table(name: str, results: Path) -> str:
    """A Markdown table of one study; a sentence where it has not been run."""
    if name == "models":
        return "\n".join(_models(results)) + "\n"
    path = results / f"{name}.json"
    if not path.is_file():
        return f"Not measured yet: `python scripts/study.py {name}`.\n"
    study = json.loads(path.read_text())
    figures = study["figures"]
    if name in ("encoders", "objectives"):
        names = list(dict.fromkeys(_split(figure)[0] for figure in figures))
        lines = _variants(figures, names, VARIANT_COLUMNS)
    else:
        methods = [
            figure.removesuffix("_encoder_accuracy") for figure in figures if figure.endswith("_encoder_accuracy")
        ]
        shown = {f"{method}_{column}" for method in methods for column in METHOD_COLUMNS}
        lines = _figures({figure: entry for figure, entry in figures.items() if figure not in shown})
        if methods:
            lines = [*_variants(figures, methods, METHOD_COLUMNS), "", *lines]
    machine = study["machine"]
    place = machine.get("gpu") or f"{machine['cpu']}, {machine['cores']} cores"
    seeds = len(study["seeds"])
    lines.append("")
    lines.append(f"`{study['command']}`, {seeds} seed{'s' if seeds > 1 else ''}, {place}.")
    return "\n".join(lines) + "\n"


def _figures(figures: dict) -> list[str]:
    lines = ["| figure | value | 95 % interval | n | target | met |", "|---|---|---|---|---|---|"]
    for name, entry in figures.items():
        interval = "" if not entry["ci95"] else " to ".join(_number(name, end) for end in entry["ci95"])
        met = {True: "yes", False: "**no**", None: ""}[entry["met"]]
        target = _target(name, entry["target"])
        value = _number(name, entry["value"])
        lines.append(f"| {name.replace('_', ' ')} | {value} | {interval} | {entry['n']} | {target} | {met} |")
    return lines


def _models(results: Path) -> list[str]:
    """A row per model whose planning in PushT has been measured."""
    lines = ["| | " + " | ".join(MODEL_COLUMNS) + " |", "|---" * (len(MODEL_COLUMNS) + 1) + "|"]
    for model, (study, names) in MODELS.items():
        path = results / f"{study}.json"
        figures = json.loads(path.read_text())["figures"] if path.is_file() else {}
        if set(names) <= set(figures):
            lines.append(f"| {model} | " + " | ".join(_cell(name, figures[name]) for name in names) + " |")
    return lines


def _cell(name: str, entry: dict) -> str:
    """A value and its interval."""
    interval = "" if not entry["ci95"] else f" ({' to '.join(_number(name, end) for end in entry['ci95'])})"
    return _number(name, entry["value"]) + interval


def _variants(figures: dict, names: list[str], titles: dict[str, str]) -> list[str]:
    """A row per name; only columns that the figures have."""
    columns = [column for column in titles if f"{names[0]}_{column}" in figures]
    lines = [
        "| | " + " | ".join(titles[column] for column in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in names:
        cells = [_cell(column, figures[f"{name}_{column}"]) for column in columns]
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return lines


def _split(figure: str) -> tuple[str, str]:
    column = next(column for column in VARIANT_COLUMNS if figure.endswith(f"_{column}"))
    return figure.removesuffix(f"_{column}"), column


def _number(name: str, value: float) -> str:
    if f"_{name}".endswith(PERCENT):
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _target(name: str, target: str | None) -> str:
    if target is None:
        return ""
    found = re.fullmatch(r"([<>]=) ([\d.e+]+)", target)
    return f"{found[1]} {_number(name, float(found[2]))}" if found else target
