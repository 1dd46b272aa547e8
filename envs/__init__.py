"""Gymnasium environments of this repository; importing registers them and loads no simulator."""

from gymnasium.envs.registration import register

# The checker that gymnasium wraps around environments costs more than our picture; tests/envs runs it once instead.
register("worldjepa/PushT-v0", entry_point="envs.pusht:PushT", max_episode_steps=300, disable_env_checker=True)
register("worldjepa/TwoRoom-v0", entry_point="envs.two_room:TwoRoom", max_episode_steps=200, disable_env_checker=True)
register(
    "worldjepa/ObjectViews-v0",
    entry_point="envs.object_views:ObjectViews",
    max_episode_steps=1000,
    disable_env_checker=True,
)
register(
    "worldjepa/MovingShapes-v0",
    entry_point="envs.moving_shapes:MovingShapes",
    max_episode_steps=1000,
    disable_env_checker=True,
)
register("worldjepa/Street-v0", entry_point="envs.street:Street", max_episode_steps=400, disable_env_checker=True)
for name in ("Saccades", "Augmentations"):
    register(
        f"worldjepa/{name}-v0",
        entry_point=f"envs.picture_views:{name}",
        max_episode_steps=1000,
        disable_env_checker=True,
    )

CONTROL_TASKS = (
    "reacher-easy",
    "point_mass-easy",
    "cartpole-swingup",
    "cheetah-run",
    "finger-spin",
    "ball_in_cup-catch",
    "walker-walk",
)
MUJOCO_SOURCES = (
    "gym-reacher",
    "gym-pusher",
    "gym-half_cheetah",
    "fetch-push",
    "point_maze-umaze",
    "ogbench-cube",
    "ogbench-pointmaze",
    "aloha-transfer_cube",
    "metaworld-push",
)
for entry_point, argument, names in (
    ("envs.control:Control", "task", CONTROL_TASKS),
    ("envs.mujoco:Mujoco", "name", MUJOCO_SOURCES),
):
    for name in names:
        register(
            f"worldjepa/{name}-v0",
            entry_point=entry_point,
            kwargs={argument: name},
            max_episode_steps=1000,
            disable_env_checker=True,
        )
