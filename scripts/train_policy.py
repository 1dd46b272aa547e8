"""Trains a policy on a world model's latents, or with Stable-Baselines3; see ``scripts/train_policy.py --help``."""

import sys
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from worldjepa.checkpoint import CONFIG_FILE
from worldjepa.config import TrainSettings, checked_main
from worldjepa.rollout import Factory
from worldjepa.runs import env_factory, open_run
from worldjepa.training import Interrupted, is_trained, launch, pick_processes

CONFIGS = Path(__file__).parent.parent / "configs"
ConfigStore.instance().store("base_train_policy", {"train": TrainSettings})


@hydra.main(version_base="1.3", config_path="../configs", config_name="train_policy")
def main(config: DictConfig) -> None:
    learners = {"behavior_cloning": clone, "sb3": learn_by_reward}
    try:
        if config.policy.name not in learners:
            raise ValueError(f"policy must be one of {', '.join(learners)} to be trained, got {config.policy.name!r}")
        folder = Path(config.out)
        if is_trained(folder):
            print(f"{folder} holds a trained policy already; give this one a place of its own with out=<folder>")
        else:
            learners[config.policy.name](config, folder)
        print(f"judge it: python scripts/evaluate.py {judged_by(config, folder)}")
    except (ValueError, FloatingPointError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    except (Interrupted, KeyboardInterrupt) as stop:
        sys.exit(str(stop) or "stopped; repeat the command to go on")


def clone(config: DictConfig, folder: Path) -> None:
    from policies.behavior_cloning import train_cloning

    if config.run is None:
        raise ValueError("behaviour cloning learns on a world model's latents: give run=<folder of a trained run>")
    OmegaConf.resolve(config)
    open_run(folder, OmegaConf.create({"world_model": config.run, "policy": config.policy, "train": config.train}))
    launch(train_cloning, (str(folder),), pick_processes(TrainSettings(**config.train)))


def learn_by_reward(config: DictConfig, folder: Path) -> None:
    from policies.sb3 import train_agent

    if config.get("env") is None and config.run is None:
        raise ValueError("give env=<environment>, such as env=reacher, or run=<folder of a trained world model>")
    settings = OmegaConf.to_container(config.policy, resolve=True)
    env = env_factory(config if config.get("env") is not None else OmegaConf.load(Path(config.run) / CONFIG_FILE))
    if "pixels" not in settings["observes"]:
        env = Factory(env.target, {**env.params, "pixels": False})
    train_agent(
        env,
        folder,
        algorithm=settings["algorithm"],
        observes=settings["observes"],
        world_model=settings["world_model"] or (config.run if "pixels" in settings["observes"] else None),
        steps=settings["steps"],
        num_envs=settings["num_envs"],
        seed=config.seed,
        **settings["arguments"],
    )


def judged_by(config: DictConfig, folder: Path) -> str:
    """The arguments that judge what was trained."""
    place = f"run={config.run}" if config.run is not None else f"env={config.env.name}"
    measure = " measure=return" if config.policy.name == "sb3" else ""
    return f"{place} policy={config.policy.name} policy.make.path={folder}{measure}"


if __name__ == "__main__":
    checked_main("train_policy", CONFIGS)
    main()
