"""What a configuration of a street has to fit, before hours are spent on it."""

from __future__ import annotations

from omegaconf import DictConfig

from worldjepa.types import EnvSpec


def check_driving(config: DictConfig, spec: EnvSpec) -> None:
    """Refuses what a world model of a street cannot learn from, before anything is collected.

    Args:
        spec: of the configuration's environment.

    Raises:
        ValueError: no pre-trained encoder, or settings that are not the environment's.
    """
    if config.encoder.init is None:
        raise ValueError(
            "a world model of a street predicts latents that were learned before: give encoder.init=<run of "
            "scripts/pretrain.py model=ad_l_jepa env=street>"
        )
    if not {"sweep", "proprioception", "route"} <= set(spec.fields) & set(config.observations):
        raise ValueError(
            f"model=bev_world drives by sweeps, proprioception and a route; {spec.env_id} shows "
            f"{', '.join(spec.fields)}, and observations are {', '.join(config.observations)}: give env=street without "
            "model=, it brings what it needs"
        )
    check_sensor(config, spec.fields["sweep"].shape)
    step = config.env.frameskip / spec.frame_rate
    if abs(config.vehicle.step - step) > 1e-6:
        raise ValueError(
            f"{spec.env_id} shows a sweep every {step:g} s, the model expects one every {config.vehicle.step:g} s; set "
            "vehicle.step"
        )


def check_sensor(config: DictConfig, sweep: tuple[int, ...]) -> None:
    """Refuses an environment whose LiDAR is not the model's.

    Args:
        sweep: shape of its sweeps, (beams,azimuths,2).

    Raises:
        ValueError: other rays than the model expects.
    """
    sensor = config.sensor.beams, config.sensor.azimuths
    if sweep[:2] != sensor:
        raise ValueError(
            f"{config.env.id} shows sweeps of {sweep[:2]} rays, the model expects {sensor}; set sensor.beams and "
            "sensor.azimuths"
        )
