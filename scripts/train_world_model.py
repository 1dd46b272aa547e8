"""From nothing to a planner that works; see ``python scripts/train_world_model.py --help``."""

import sys
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from worldjepa.config import TrainSettings, checked_main
from worldjepa.runs import open_run, open_store, train_run
from worldjepa.training import launch, pick_processes, is_trained

CONFIGS = Path(__file__).parent.parent / "configs"
ConfigStore.instance().store("base_train_world_model", {"train": TrainSettings})


@hydra.main(version_base="1.3", config_path="../configs", config_name="train_world_model")
def main(config: DictConfig) -> None:
    run_dir = Path(config.run_dir)
    open_run(run_dir, config)
    store, sentence = open_store(config)
    print(sentence)
    if not is_trained(run_dir):
        launch(train_run, (str(run_dir),), pick_processes(TrainSettings(**config.train)))


if __name__ == "__main__":
    checked_main("train_world_model", CONFIGS)
    main()
