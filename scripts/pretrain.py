"""Pre-trains without labels and probes what was learned: a static JEPA on pictures, or on views of things (env=...).

python scripts/pretrain.py model=i_jepa data=digits
python scripts/pretrain.py model=seq_jepa env=object_views
"""

import sys
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from worldjepa.config import RUN_SCHEMA, TrainSettings, checked_main
from worldjepa.evaluation.report import write_report
from worldjepa.evaluation.views import VIEWS_FILE, summary_of
from worldjepa.pretraining import PretrainSettings, pretrain_run
from worldjepa.runs import judge_views, machine, open_run, open_store, read_json, train_run, view_world
from worldjepa.training import Interrupted, is_trained, launch, pick_processes

CONFIGS = Path(__file__).parent.parent / "configs"
ConfigStore.instance().store("base_pretrain", {"train": PretrainSettings})
ConfigStore.instance().store("base_train_world_model", RUN_SCHEMA)
# Pictures that fit in memory and episodes of a world are trained on by different settings.
CONFIG = "pretrain_views" if any(word.startswith("env=") for word in sys.argv[1:]) else "pretrain"


@hydra.main(version_base="1.3", config_path="../configs", config_name=CONFIG)
def main(config: DictConfig) -> None:
    try:
        run_views(config, Path(config.run_dir)) if CONFIG == "pretrain_views" else run_pictures(config)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except (Interrupted, KeyboardInterrupt) as stop:
        sys.exit(str(stop) or "stopped; repeat the command to go on")


def run_pictures(config: DictConfig) -> None:
    result = pretrain_run(config)
    print(
        f"linear probe on held-out pictures: {result['probe_accuracy']:.3f}, untrained encoder "
        f"{result['random_probe_accuracy']:.3f}; RankMe {result['rankme']:.1f}, untrained "
        f"{result['random_rankme']:.1f}; {result['seconds']:.0f} s; written to {config.run_dir}"
    )


def run_views(config: DictConfig, run_dir: Path) -> None:
    view_world(config)  # says at once where there is none
    open_run(run_dir, config)
    store, sentence = open_store(config)
    print(sentence)
    if not is_trained(run_dir):
        launch(train_run, (str(run_dir),), pick_processes(TrainSettings(**config.train)))
    if not (run_dir / VIEWS_FILE).is_file():
        judge_views(run_dir, config, {"data": sentence, "store_hash": store.hash, "seed": config.seed, **machine()})
    page = write_report(run_dir)
    print(summary_of(read_json(run_dir / VIEWS_FILE), list(config.views.lengths)))
    print(f"open {page}")


if __name__ == "__main__":
    checked_main(CONFIG, CONFIGS)
    main()
