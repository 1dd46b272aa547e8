"""A trained worldjepa run as a folder that ``lerobot-eval --policy.path`` takes.

python -m lerobot_policy_worldjepa.convert --run runs/pusht --goal goal.png --out runs/pusht-lerobot
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.factory import make_pre_post_processors

from lerobot_policy_worldjepa.configuration_mpc import WorldjepaMpcConfig
from lerobot_policy_worldjepa.modeling_mpc import WorldjepaMpcPolicy
from worldjepa.checkpoint import load_world_model


def convert(run: str, goal: str, out: str, camera: str = "observation.image", **settings) -> WorldjepaMpcPolicy:
    """Writes the policy and its processors.

    Args:
        run: folder of a trained worldjepa run.
        goal: picture file of what the policy shall bring about.
        out: folder to write.
        camera: the environment's picture, by LeRobot's name.
        settings: of :class:`WorldjepaMpcConfig`.

    Raises:
        ValueError: no such run or picture.
    """
    model, config = load_world_model(run)
    size = config["env"]["image_size"]
    features = {camera: PolicyFeature(FeatureType.VISUAL, (3, size, size))}
    # Only where actions are relative to it is the state looked at.
    features["observation.state"] = PolicyFeature(FeatureType.STATE, (model.raw_action_dim,))
    made = WorldjepaMpcConfig(
        input_features=features,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (model.raw_action_dim,))},
        device="cpu",
        push_to_hub=False,
        run=run,
        goal=goal,
        **settings,
    )
    policy = WorldjepaMpcPolicy(made)
    made.run = None  # the weights go along
    policy.save_pretrained(out)
    for processor in make_pre_post_processors(made):
        processor.save_pretrained(out)
    return policy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="folder of a trained worldjepa run")
    parser.add_argument("--goal", required=True, help="picture file of the goal")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--camera", default="observation.image", help="the environment's picture, by LeRobot's name")
    arguments = parser.parse_args()
    if Path(arguments.out).exists():
        parser.error(f"{arguments.out} exists already; give another folder")
    try:
        convert(**vars(arguments))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
