"""The README's tables, made from ``results/*.json`` so that they cannot say anything else."""

from __future__ import annotations

import json
import re
from pathlib import Path

from worldjepa.files import write_text

MARK = re.compile(r"(<!-- results: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
PERCENT = (
    *("_success_pretrained", "_success_scratch", "_probe", "_probe_joint_minus_content_only", "_route_completion"),
    *("_success", "_success_at_25", "_success_at_0_9", "_accuracy", "_gain", "_views", "_1_to_5"),
    *(
        "_gain_lower_bound",
        "_energy_auc",
        "_energy_excess_auc",
        "_energy_choice",
        "_intent_exact",
        "_mlp_features",
        "_mlp_raw",
        "_boosted_raw",
    ),
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
# Figures that are shown side by side, a row for every name that has the first column: static systems, methods on
# views, methods on moving pictures, and environments' true flow.
SIDE_BY_SIDE = (
    {
        "gain_lower_bound": "gain is above",
        "probe": "probe",
        "random_probe": "untrained",
        "raw_probe": "on the input",
        "rankme": "RankMe (not to be compared between systems)",
        "loss_over_mean_latent": "loss over that of the mean latent",
        "seconds": "s, one core",
    },
    {
        "encoder_accuracy": "class accuracy of one view",
        "accuracy": "of five",
        "r2": "rotation R²",
        "hue_r2": "hue R²",
        "beyond_r2": "rotation R² past a quarter turn",
    },
    {"j_and_f": "J&F", "epe": "EPE, px", "probe": "class accuracy", "rankme": "RankMe"},
    {"warp_error": "grey levels left after warping", "still_error": "without"},
)


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
        lines, rest = [], dict(figures)
        for columns in SIDE_BY_SIDE:
            mark = f"_{next(iter(columns))}"
            names = [figure.removesuffix(mark) for figure in figures if figure.endswith(mark)]
            if names:
                lines += [*_variants(figures, names, columns), ""]
            for figure in (f"{name}_{column}" for name in names for column in columns):
                rest.pop(figure, None)
        lines += _figures(rest)
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
    """A row per name; only columns that the first of them has."""
    columns = [column for column in titles if f"{names[0]}_{column}" in figures]
    lines = [
        "| | " + " | ".join(titles[column] for column in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in names:
        found = [(column, figures.get(f"{name}_{column}")) for column in columns]
        cells = [_cell(column, entry) if entry else "" for column, entry in found]
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
