"""Sweeps of a spinning LiDAR, as range pictures and as clouds of points.

A sweep (beams, azimuths, 2) holds range, m, 0 where nothing came back, and intensity, 0..1. Its first row looks
highest; columns go clockwise from behind. Points are in the sensor's frame, x ahead, y to the left, z up.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from worldjepa.types import Observation


class RangeImage:
    """Where the rays of a sensor point.

    Args:
        beams, azimuths: rays above one another and around.
        elevations: of the highest and the lowest beam, degrees; the others lie between at equal angles.

    Raises:
        ValueError: no rays, or elevations that are not highest and lowest.
    """

    def __init__(self, beams: int = 32, azimuths: int = 512, elevations: tuple[float, float] = (3.0, -25.0)):
        highest, lowest = elevations
        if beams < 1 or azimuths < 1 or not -90 < lowest <= highest < 90:
            raise ValueError(
                "a sensor has beams and azimuths >= 1 and elevations (highest, lowest) in -90..90 degrees, got "
                f"{beams}, {azimuths} and {tuple(elevations)}"
            )
        up = torch.linspace(highest, lowest, beams, dtype=torch.float64).deg2rad()[:, None].expand(beams, azimuths)
        around = math.pi - (torch.arange(azimuths, dtype=torch.float64) + 0.5) * (2 * math.pi / azimuths)
        self.directions = torch.stack([up.cos() * around.cos(), up.cos() * around.sin(), up.sin()], -1).float()
        """float32 (beams, azimuths, 3), unit vectors."""

    def points(self, sweep: Tensor) -> Tensor:
        """One sweep (beams, azimuths, 2) -> float32 (N,4) x, y, z, m, and intensity of what came back, row by row.

        Raises:
            ValueError: a sweep of another sensor.
        """
        if sweep.shape != (*self.directions.shape[:2], 2):
            raise ValueError(
                f"expected a sweep {(*self.directions.shape[:2], 2)}, got {tuple(sweep.shape)}; the model's sensor and "
                "the environment's must be the same"
            )
        sweep = sweep.float()
        heard = sweep[..., 0] > 0
        directions = self.directions.to(sweep.device)[heard]
        return torch.cat([directions * sweep[heard][:, :1], sweep[heard][:, 1:]], 1)


def clouds_of(observation: Observation, sensor: RangeImage) -> list[Tensor]:
    """The B T clouds (N_i,4) of an observation, in order.

    Args:
        observation: with ``points`` float32 (B,T,N,4), where rows with NaN are padding, or ``sweep`` (B,T,...).
        sensor: of the sweeps.

    Raises:
        ValueError: there is neither.
    """
    if "points" in observation:
        return [cloud[~cloud.isnan().any(1)] for cloud in observation["points"].flatten(0, 1)]
    if "sweep" in observation:
        return [sensor.points(sweep) for sweep in observation["sweep"].flatten(0, 1)]
    raise ValueError(f"expected an observation with points or a sweep, got {sorted(observation)}")
