"""From nothing to a planner that works; see ``python scripts/train_world_model.py --help``."""

import sys
from pathlib import Path

import hydra
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from policies.judging import draw_figures, judge_run, returns_summary, summary
from worldjepa.checkpoint import kind_of
from worldjepa.config import RUN_SCHEMA, checked_main
from worldjepa.evaluation.driving import RETURNS_FILE
from worldjepa.evaluation.report import write_report
from worldjepa.footprint import Footprint
from worldjepa.runs import PLANNING_FILE, read_json, train_whole_run
from worldjepa.training import Interrupted

CONFIGS = Path(__file__).parent.parent / "configs"
ConfigStore.instance().store("base_train_world_model", RUN_SCHEMA)


@hydra.main(version_base="1.3", config_path="../configs", config_name="train_world_model")
def main(config: DictConfig) -> None:
    try:
        run(config, Path(config.run_dir))
    except ValueError as error:
        sys.exit(f"error: {error}")
    except (Interrupted, KeyboardInterrupt) as stop:
        sys.exit(str(stop) or "stopped; repeat the command to go on")


def run(config: DictConfig, run_dir: Path) -> None:
    footprint = train_whole_run(run_dir, config)
    if footprint is not None:
        show(config, run_dir, footprint)


def show(config: DictConfig, run_dir: Path, footprint: Footprint) -> None:
    torch.set_num_threads(1)  # judging runs one process per core
    measured, said = (RETURNS_FILE, returns_summary) if kind_of(config) == "driving" else (PLANNING_FILE, summary)
    if not (run_dir / measured).is_file():
        with footprint.stage("judging"):
            judge_run(run_dir, config)
    with footprint.stage("report"):
        draw_figures(run_dir, config)
    footprint.note(minutes=footprint.minutes)
    page = write_report(run_dir)
    print(said(read_json(run_dir / measured)))
    print(f"{footprint.minutes:.1f} minutes in all; open {page}")


def pick_experiment() -> None:
    """What was found to work for the environment, or on a GPU its full size, unless the command says otherwise."""
    if any(word.lstrip("+").startswith("experiment=") for word in sys.argv[1:]):
        return
    if any(word.startswith("model=") and word != "model=world_model" for word in sys.argv[1:]):
        return  # it was found with the default model, whose parts it sizes
    env = next((word.removeprefix("env=") for word in sys.argv[1:] if word.startswith("env=")), "pusht")
    for name in (f"{env}_gpu", env) if torch.cuda.is_available() else (env,):
        if (CONFIGS / "experiment" / f"{name}.yaml").is_file():
            print(f"+experiment={name}: see configs/experiment; what the command sets wins, and a named experiment too")
            # Beside the other overrides: argparse refuses some before an option and some after it.
            overrides = (i for i, word in enumerate(sys.argv) if i and "=" in word and not word.startswith("-"))
            sys.argv.insert(next(overrides, len(sys.argv)), f"+experiment={name}")
            return


if __name__ == "__main__":
    pick_experiment()
    checked_main("train_world_model", CONFIGS)
    main()
