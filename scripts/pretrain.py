"""Pre-trains without labels and probes what was learned: from samples, or in an environment (env=...).

python scripts/pretrain.py model=i_jepa data=digits
python scripts/pretrain.py model=seq_jepa env=object_views
python scripts/pretrain.py model=mc_jepa env=moving_shapes
python scripts/pretrain.py model=ad_l_jepa env=street
"""

import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig
from omegaconf.errors import InterpolationKeyError

from worldjepa.config import RUN_SCHEMA, LoopSettings, TrainSettings, checked_main
from worldjepa.evaluation.bev import SCANS_FILE
from worldjepa.evaluation.frozen import SAMPLES_FILE
from worldjepa.evaluation.motion import MOTION_FILE
from worldjepa.evaluation.report import write_report
from worldjepa.evaluation.views import VIEWS_FILE, summary_of
from worldjepa.judging import (
    judge_motion,
    judge_samples,
    judge_scans,
    judge_views,
    motion_world,
    scan_world,
    view_world,
)
from worldjepa.runs import read_json, train_whole_run
from worldjepa.training import Interrupted

CONFIGS = Path(__file__).parent.parent / "configs"
ConfigStore.instance().store("base_pretrain", {"train": LoopSettings})
ConfigStore.instance().store("base_train_world_model", RUN_SCHEMA)
ConfigStore.instance().store("base_pretrain_episodes", {"train": TrainSettings})


def config_for(words: list[str]) -> str:
    """Samples that fit in memory, views of things, pictures that move and scans have settings of their own."""
    for model, name in (("mc_jepa", "pretrain_motion"), ("ad_l_jepa", "pretrain_scans")):
        if f"model={model}" in words:
            return name
    return "pretrain_views" if any(word.startswith("env=") for word in words) else "pretrain"


CONFIG = config_for(sys.argv[1:])


@hydra.main(version_base="1.3", config_path="../configs", config_name=CONFIG)
def main(config: DictConfig) -> None:
    try:
        {
            "pretrain": run_samples,
            "pretrain_views": run_views,
            "pretrain_motion": run_motion,
            "pretrain_scans": run_scans,
        }[CONFIG](config)
    except InterpolationKeyError as error:
        key = str(error).splitlines()[0].removeprefix("Interpolation key ").removesuffix(" not found")
        sys.exit(f"error: the model asks for {key}, which its data do not have; choose data= of its kind")
    except (ValueError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    except (Interrupted, KeyboardInterrupt) as stop:
        sys.exit(str(stop) or "stopped; repeat the command to go on")


def run_samples(config: DictConfig) -> None:
    run_world(config, SAMPLES_FILE, judge_samples, numbers)


def run_views(config: DictConfig) -> None:
    view_world(config)  # says at once where there is none
    run_world(config, VIEWS_FILE, judge_views, lambda found: summary_of(found, list(config.views.lengths)))


def run_motion(config: DictConfig) -> None:
    motion_world(config)  # says at once what cannot be judged
    run_world(config, MOTION_FILE, judge_motion, numbers)


def run_scans(config: DictConfig) -> None:
    scan_world(config)  # says at once what shows no scans
    run_world(config, SCANS_FILE, judge_scans, numbers)


def numbers(found: dict[str, float]) -> str:
    return "; ".join(f"{name} {value:.3g}" for name, value in found.items())


def run_world(config: DictConfig, measured: str, judge: Callable, summary: Callable[[dict], str]) -> None:
    """Trains, judges unless the file ``measured`` is there, and shows it."""
    run_dir = Path(config.run_dir)
    footprint = train_whole_run(run_dir, config)
    if footprint is None:
        return
    if not (run_dir / measured).is_file():
        with footprint.stage("judging"):
            judge(run_dir, config)
    page = write_report(run_dir)
    print(summary(read_json(run_dir / measured)))
    print(f"{footprint.minutes:.1f} minutes in all; open {page}")


def check_model() -> None:
    """A model that learns from episodes needs an environment."""
    models = [word.removeprefix("model=") for word in sys.argv[1:] if word.startswith("model=")]
    for path in (CONFIGS / "model" / f"{name}.yaml" for name in models):
        if CONFIG == "pretrain" and path.is_file() and "/encoder:" in path.read_text():
            crops = "; of pictures, model=lejepa_crops data=digits" if path.stem == "lejepa" else ""
            sys.exit(f"{path.stem} learns from views of things: add env=object_views, saccades or augmentations{crops}")


if __name__ == "__main__":
    check_model()
    checked_main(CONFIG, CONFIGS)
    main()
