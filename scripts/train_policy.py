"""Trains a policy from demonstrations, on a world model's latents or by reward; see ``--help``."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import hydra
from accelerate import PartialState
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from worldjepa.checkpoint import CONFIG_FILE
from worldjepa.config import TrainSettings, checked_main
from worldjepa.rollout import Factory
from worldjepa.runs import check_init, env_factory, open_run, open_store
from worldjepa.training import Interrupted, is_trained, launch, pick_device, pick_processes

CONFIGS = Path(__file__).parent.parent / "configs"
IMITATORS = ("act_jepa", "act", "behavior_cloning", "driver", "diffusion")
ConfigStore.instance().store("base_train_policy", {"train": TrainSettings})


@hydra.main(version_base="1.3", config_path="../configs", config_name="train_policy")
def main(config: DictConfig) -> None:
    learners = {**dict.fromkeys(IMITATORS, imitate), "goal_cloning": clone, "sb3": learn_by_reward}
    try:
        if config.policy.name not in learners:
            raise ValueError(f"policy must be one of {', '.join(learners)} to be trained, got {config.policy.name!r}")
        folder = Path(config.out)
        if is_trained(folder):
            print(f"{folder} holds a trained policy already; give this one a place of its own with out=<folder>")
        else:
            learners[config.policy.name](config, folder)
        if config.get("env") is None or config.env.id is not None:
            print(f"judge it: python scripts/evaluate.py {judged_by(config, folder)}")
    except (ValueError, FloatingPointError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    except (Interrupted, KeyboardInterrupt) as stop:
        sys.exit(str(stop) or "stopped; repeat the command to go on")


def imitate(config: DictConfig, folder: Path) -> None:
    from policies.imitation import imitation_config, prepare_imitation, train_imitation

    check_overrides(config)
    if config.policy.name == "diffusion" and not find_spec("lerobot"):
        raise ValueError("policy=diffusion is LeRobot's: pip install -e '.[lerobot]' -e lerobot_plugin")
    made = imitation_config(config)
    check_init(folder, made.policy.encoder)
    with PartialState(cpu=pick_device(config.train.device) == "cpu").main_process_first():
        if int(os.environ.get("RANK", 0)) == 0:  # under `accelerate launch` every process comes here
            if made.env.id is not None:  # else the store is all there is
                store, sentence = open_store(made)
                print(sentence)
                prepare_imitation(made, store)
            open_run(folder, made)
    num_processes = pick_processes(TrainSettings(**config.train))
    if (made.policy.get("dagger") or {}).get("rounds"):
        from policies.dagger import train_rounds

        train_rounds(folder, made, num_processes)
    else:
        launch(train_imitation, (str(folder),), num_processes)


def check_overrides(config: DictConfig) -> None:
    """Refuses ``env.x=..`` where imitation has an x of its own, which would win."""
    for word in HydraConfig.get().overrides.task:
        key = word.lstrip("+").partition("=")[0].removeprefix("env.")
        own = OmegaConf.select(config, f"env.imitation.{key}") is not None if config.get("env") is not None else False
        if word.lstrip("+").startswith("env.") and own:
            raise ValueError(f"env.{key}: policies that imitate have a value of their own; set env.imitation.{key}")


def clone(config: DictConfig, folder: Path) -> None:
    from policies.goal_cloning import train_cloning

    if config.run is None:
        raise ValueError("goal_cloning learns on a world model's latents: give run=<folder of a trained run>")
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
    judged = f"policy={config.policy.name} policy.make.path={folder}"
    if config.policy.name in IMITATORS:
        return f"{judged} measure=return"
    place = f"run={config.run}" if config.run is not None else f"env={config.env.name}"
    return f"{place} {judged}" + (" measure=return" if config.policy.name == "sb3" else "")


if __name__ == "__main__":
    checked_main("train_policy", CONFIGS)
    main()
