"""Turns LeRobot datasets into episode stores and back; see ``python scripts/convert.py --help``."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from worldjepa.config import checked_main
from worldjepa.datasets.lerobot import export_lerobot, import_lerobot
from worldjepa.datasets.splits import split_episodes
from worldjepa.datasets.store import EpisodeStore

CONFIGS = Path(__file__).parent.parent / "configs"


@hydra.main(version_base="1.3", config_path="../configs", config_name="convert")
def main(config: DictConfig) -> None:
    try:
        if config.to not in ("store", "lerobot"):
            raise ValueError(f"to must be store or lerobot, got {config.to!r}")
        if None in (config.store, config.dataset):
            raise ValueError("give store=<folder of a store> and dataset=<folder of a LeRobot dataset, or a hub id>")
        if config.to == "store":
            cameras = None if config.cameras is None else list(config.cameras)
            store = import_lerobot(config.dataset, config.store, config.image_size, cameras, progress=True)
            print(f"{store.path}: {store.num_episodes} episodes, {store.num_frames:,} frames, hash {store.hash}")
            return
        store = EpisodeStore.open(config.store)
        policies = None if config.policies is None else list(config.policies)
        episodes = split_episodes(store, config.split, policies).tolist()
        export_lerobot(
            store,
            Path(config.dataset),
            config.repo_id,
            episodes,
            task=config.task,
            videos=config.videos,
            progress=True,
        )
        flags = f"--dataset.repo_id={config.repo_id} --dataset.root={config.dataset}"
        print(f"{config.dataset}: {len(episodes)} episodes; lerobot-train {flags}")
    except (ValueError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command does the rest")


if __name__ == "__main__":
    checked_main("convert", CONFIGS)
    main()
