"""Judges a policy, or a trained run once more by other settings; see ``python scripts/evaluate.py --help``."""

import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from policies.judging import (
    MakePolicy,
    judge_goals,
    judge_returns,
    judge_run,
    planner_policy,
    returns_summary,
    summary,
)
from worldjepa.checkpoint import CONFIG_FILE, kind_of
from worldjepa.config import checked_main
from worldjepa.datasets.store import EpisodeStore
from worldjepa.datasets.windows import Windows
from worldjepa.evaluation.driving import RETURNS_FILE
from worldjepa.evaluation.frozen import PROBES
from worldjepa.evaluation.report import write_report
from worldjepa.judging import judge_samples
from worldjepa.runs import PLANNING_FILE, env_factory
from worldjepa.types import EnvSpec

CONFIGS = Path(__file__).parent.parent / "configs"
MEASURES = ("goals", "return")
EVALUATION = {
    "pairs": 100,
    "splits": "auto",
    "seed": 0,
    "workers": None,
    "videos": 12,
    "episodes": 20,
    "steps": None,
    "beside": None,
}


@hydra.main(version_base="1.3", config_path="../configs", config_name="evaluate")
def main(config: DictConfig) -> None:
    try:
        run(config, Path(config.out or default_folder(config)))
    except (ValueError, RuntimeError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")


def run(config: DictConfig, folder: Path) -> None:
    if config.measure not in MEASURES:
        raise ValueError(f"measure must be one of {', '.join(MEASURES)}, got {config.measure!r}")
    if learned_from_samples(config):
        asked = [word for word in HydraConfig.get().overrides.task if not word.startswith(("run=", "probing."))]
        if asked:
            raise ValueError(f"{config.run} learned from samples and is probed; that is not changed by {asked[0]}")
        print(probe_run(Path(config.run), config))
        return
    name, judged = config.policy.name, judged_config(config)
    if config.measure == "return":
        table = judge_returns(judged, made_policies(config, judged), folder)
        Console().print(returns_table(table))
        print(f"{returns_summary(table)}\nwritten to {folder / RETURNS_FILE}")
        return
    if name == "expert":
        raise ValueError("policy=expert gathers reward: use measure=return (goals have a privileged player anyway)")
    if name == "planner" and kind_of(judged) == "driving":
        raise ValueError(f"{config.run} drives, and has no goals to be judged by: use measure=return")
    if name == "planner":
        table = judge_run(Path(config.run), judged, folder)
    else:
        table = judge_goals(judged, made_policies(config, judged), action_spread(judged), folder)
    for split, row in table.items():
        Console().print(rich_table(split, row))
        asked = "" if row["n"] == row["num_requested"] else f" ({row['num_requested']} asked for, there are no more)"
        print(
            f"{split}: {row['n']} unsolved pairs{asked}, {row['n_moved']} of which move something; "
            f"{row['excluded_solved']} solved from the start were left out; hash {row['manifest_hash']}"
        )
    print(f"{summary(table, name)}\nwritten to {folder / PLANNING_FILE}")


def learned_from_samples(config: DictConfig) -> bool:
    """Whether the run is one of the static family, which is probed."""
    file = Path(config.run or "") / CONFIG_FILE
    return config.run is not None and file.is_file() and kind_of(OmegaConf.load(file)) == "samples"


def probe_run(run_dir: Path, config: DictConfig) -> str:
    """Measures every probe of a trained static run and shows them in its report; a sentence of what was found."""
    judged = OmegaConf.load(run_dir / CONFIG_FILE)
    judged.probing.also = list(PROBES)
    judged.probing.finetuning.steps = config.probing.finetuning.steps
    found = judge_samples(run_dir, judged)
    page = write_report(run_dir)
    return f"{'; '.join(f'{name} {value:.3g}' for name, value in found.items())}\nopen {page}"


def default_folder(config: DictConfig) -> str:
    """A folder of its own for everything that may be asked."""
    asked = HydraConfig.get().job.override_dirname.replace("/", "_")
    return f"{config.run or 'runs/judged'}/evaluations/{asked}"


def made_policies(config: DictConfig, judged: DictConfig) -> dict[str, MakePolicy]:
    """The policy that was asked for, by name; the expert stands in every table of returns already."""
    if config.policy.name == "planner":
        return {"planner": planner_policy(Path(config.run), judged)}
    if config.policy.make is None:
        return {}
    return {config.policy.name: instantiate(config.policy.make)}


def judged_config(config: DictConfig) -> DictConfig:
    """The run's own configuration, or that of an environment, with what was asked for here in its place."""
    asked = {
        name: {key: value for key, value in config[name].items() if value is not None}
        for name in ("planning", "evaluation")
    }
    if config.run is None:
        if config.policy.name == "planner":
            raise ValueError("give run=<folder of a trained run>, such as run=runs/pusht, or another policy=")
        env = own_env(config) if config.get("env") is None else config.env
        if env is None:
            raise ValueError("give env=<environment>, such as env=reacher, or run=<folder of a trained run>")
        return OmegaConf.create({"env": env, "evaluation": {**EVALUATION, **asked["evaluation"]}})
    file = Path(config.run) / CONFIG_FILE
    if not file.is_file():
        raise ValueError(f"{config.run}: expected a run with {CONFIG_FILE}; give run=<its folder>")
    judged = OmegaConf.load(file)
    if config.get("env") is not None:
        check_env_fits(config, judged)
        judged.env = OmegaConf.merge(config.env, {"store": judged.env.store})
    for name in ("planner", "cost"):
        if config.get(name) is not None:
            judged[name] = config[name]
    judged.evaluation = OmegaConf.merge(EVALUATION, judged.evaluation, asked["evaluation"])
    judged.planning = OmegaConf.merge(judged.planning, asked["planning"])
    return judged


def own_env(config: DictConfig) -> DictConfig | None:
    """The environment that a trained policy keeps in its folder, if it does."""
    path = config.policy.make and config.policy.make.get("path")
    file = Path(path or ".") / CONFIG_FILE
    return OmegaConf.load(file).get("env") if path and file.is_file() else None


def check_env_fits(asked: DictConfig, trained: DictConfig) -> None:
    """Refuses an environment that shows or takes other things than the one a run was trained in."""
    found, expected = (EnvSpec.from_env(env_factory(config).build()) for config in (asked, trained))
    if found != expected:
        raise ValueError(
            f"the run was trained in another environment: {'; '.join(found.differences(expected))}; leave env out, "
            f"or give the run of env={asked.env.name} as it is set here"
        )


def action_spread(config: DictConfig) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the store's raw actions, for the random floor."""
    windows = Windows(EpisodeStore.open(config.env.store), 2, config.env.frameskip, ())
    std = windows.action_std()
    return [0.0] * len(std), std.tolist()


def returns_table(table: dict[str, Any]) -> Table:
    """``returns.json`` for the terminal; what no policy has is left out."""
    rows = {name: returns_row(row) for name, row in table["policies"].items()}
    columns = [name for name in next(iter(rows.values())) if any(row[name] != "-" for row in rows.values())]
    shown = Table("policy", *columns, title_style="bold")
    for name, row in rows.items():
        shown.add_row(name.replace("_", " "), *(row[column] for column in columns))
    shown.caption = "means and rates [95 % interval]"
    return shown


def returns_row(row: dict[str, Any]) -> dict[str, str]:
    """Column -> what stands in it, for one policy."""
    low, high = row["return"]["ci95"]
    interval = "" if low is None else f" [{low:.1f}, {high:.1f}]"
    return {
        "return": f"{row['return']['mean']:.1f}{interval}",
        "best reward": f"{row['best_reward']['mean']:.2f}",
        "success": "-" if row["success"] is None else percent(row["success"]),
        **{name: f"{found['mean']:.3g}" for name, found in row["outcomes"].items()},
        "ms/plan": f"{row['ms_per_plan'] or '-'}",
    }


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
