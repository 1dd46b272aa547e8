"""Pre-trains a static JEPA and probes it; see ``python scripts/pretrain.py --help``."""

from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from worldjepa.config import checked_main
from worldjepa.pretraining import PretrainSettings, pretrain_run

CONFIGS = Path(__file__).parent.parent / "configs"
ConfigStore.instance().store("base_pretrain", {"train": PretrainSettings})


@hydra.main(version_base="1.3", config_path="../configs", config_name="pretrain")
def main(config: DictConfig) -> None:
    result = pretrain_run(config)
    print(
        f"linear probe on held-out pictures: {result['probe_accuracy']:.3f}, untrained encoder "
        f"{result['random_probe_accuracy']:.3f}; RankMe {result['rankme']:.1f}, untrained "
        f"{result['random_rankme']:.1f}; {result['seconds']:.0f} s; written to {config.run_dir}"
    )


if __name__ == "__main__":
    checked_main("pretrain", CONFIGS)
    main()
