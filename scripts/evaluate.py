"""Repeats a run's judgement with another planner, other pairs or another seed; see ``scripts/evaluate.py --help``."""

import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from policies.judging import judge_run, summary
from worldjepa.checkpoint import CONFIG_FILE
from worldjepa.config import checked_main
from worldjepa.runs import PLANNING_FILE

CONFIGS = Path(__file__).parent.parent / "configs"


@hydra.main(version_base="1.3", config_path="../configs", config_name="evaluate")
def main(config: DictConfig) -> None:
    if config.run is None:
        sys.exit("error: give run=<folder of a trained run>, such as run=runs/pusht")
    run_dir, folder = Path(config.run), Path(config.out)
    try:
        table = judge_run(run_dir, judged_config(run_dir, config), folder)
    except ValueError as error:
        sys.exit(f"error: {error}")
    for split, row in table.items():
        Console().print(rich_table(split, row))
        asked = "" if row["n"] == row["num_requested"] else f" ({row['num_requested']} asked for, there are no more)"
        print(
            f"{split}: {row['n']} unsolved pairs{asked}, {row['n_moved']} of which move something; "
            f"{row['excluded_solved']} solved from the start were left out; hash {row['manifest_hash']}"
        )
    print(f"{summary(table)}\nwritten to {folder / PLANNING_FILE}")


def judged_config(run_dir: Path, config: DictConfig) -> DictConfig:
    """The run's own configuration with what was asked for here in its place."""
    file = run_dir / CONFIG_FILE
    if not file.is_file():
        raise ValueError(f"{run_dir}: expected a run with {CONFIG_FILE}; give run=<its folder>")
    judged = OmegaConf.load(file)
    for name in ("planner", "cost"):
        if config.get(name) is not None:
            judged[name] = config[name]
    for name in ("planning", "evaluation"):
        asked = {key: value for key, value in config[name].items() if value is not None}
        judged[name] = OmegaConf.merge(judged.get(name, {}), asked)
    return judged


def rich_table(split: str, row: dict[str, Any]) -> Table:
    """One split of ``planning.json`` for the terminal."""
    shown = Table(
        "policy", "any step", "at offset", "end", "moved, any step", "ms/plan", title=split, title_style="bold"
    )
    for policy, measures in row.items():
        if isinstance(measures, dict):
            offset = next(key for key in measures if key.startswith("at_"))
            rates = [percent(measures[key]) for key in ("any", offset, "end", "any_moved")]
            shown.add_row(policy.replace("_", " "), *rates, f"{measures['ms_per_plan'] or '-'}")
    shown.caption = "success in % [95 % interval]"
    return shown


def percent(rate: dict[str, Any]) -> str:
    if rate["rate"] is None:
        return "-"
    low, high = rate["ci95"]
    return f"{100 * rate['rate']:.1f} [{100 * low:.0f}, {100 * high:.0f}]"


if __name__ == "__main__":
    checked_main("evaluate", CONFIGS)
    main()
