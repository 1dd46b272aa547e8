"""Collects episodes of an environment into a store; see ``python scripts/collect.py --help``."""

import os
import sys

import hydra
from omegaconf import DictConfig, OmegaConf

from worldjepa.collection import prepare_store
from worldjepa.rollout import Factory
from worldjepa.runs import player_factory


@hydra.main(version_base="1.3", config_path="../configs", config_name="collect")
def main(config: DictConfig) -> None:
    env, plan = config.env, config.env.collect
    try:
        store, sentence = prepare_store(
            path=config.store,
            env=Factory("gymnasium.make", {"id": env.id, **OmegaConf.to_container(env.kwargs, resolve=True)}),
            scripted=player_factory(plan.scripted),
            replay=plan.replay,
            replay_fraction=plan.replay_fraction,
            demonstrations=config.data.demonstrations,
            num_episodes=config.num_episodes,
            num_frames=plan.num_frames,
            episodes_per_shard=plan.episodes_per_shard,
            seed=config.seed,
            num_workers=config.workers or os.cpu_count(),
            progress=True,
        )
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command collects the rest")
    print(sentence)
    counts = ", ".join(f"{store.policies.count(name)} {name}" for name in sorted(set(store.policies)))
    size = store.num_bytes / 1e9
    print(f"{store.path}: {counts}; {store.num_frames:,} frames, {size:.2f} GB, hash {store.hash}")


if __name__ == "__main__":
    main()
