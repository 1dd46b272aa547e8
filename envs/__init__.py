"""Gymnasium environments of this repository; importing registers them and loads no simulator."""

from gymnasium.envs.registration import register

# The checker that gymnasium wraps around environments costs more than our picture; tests/envs runs it once instead.
register("worldjepa/PushT-v0", entry_point="envs.pusht:PushT", max_episode_steps=300, disable_env_checker=True)
register("worldjepa/TwoRoom-v0", entry_point="envs.two_room:TwoRoom", max_episode_steps=200, disable_env_checker=True)
