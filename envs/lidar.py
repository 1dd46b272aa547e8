"""A spinning LiDAR in a MuJoCo scene: one call of ``mj_multiRay`` per sweep.

Its frame has x ahead, y to the left and z up, m, and its origin in the sensor, so that flat ground lies at ``-height``.
Of a sweep (beams, azimuths, 2) the first row looks highest; columns go clockwise from behind, and straight ahead lies
between the two in the middle. The car stands still during a sweep: what a moving car's turn of 0.1 s smears is not
simulated.
"""

from __future__ import annotations

import mujoco
import numpy as np

NEAREST = 0.05  # m; noise brings nothing nearer, since a range of 0 means that nothing came back
CLEARNESS = 100.0  # m of air that leave 1/e of an echo's strength


class Lidar:
    """Where the rays go, what they meet, and what a sensor reports of that.

    Args:
        beams: rays above one another, >= 1; sensors have 32 or 64.
        azimuths: rays around, >= 1.
        elevations: of the highest and the lowest beam, degrees, -90 < lowest <= highest < 90; the others lie between at
            equal angles.
        height: of the sensor over the ground, m, > 0.
        max_range: what is farther does not come back, m, 0 < max_range < 2048, where float16 still counts metres.
        range_noise: standard deviation, m, >= 0.
        dropout: share of the echoes that are lost, 0 <= dropout < 1.

    Attributes:
        directions: float64 (beams, azimuths, 3), unit vectors in the sensor's frame.

    Raises:
        ValueError: an argument out of its bounds.
    """

    def __init__(
        self,
        beams: int = 32,
        azimuths: int = 512,
        elevations: tuple[float, float] = (3.0, -25.0),
        height: float = 1.7,
        max_range: float = 60.0,
        range_noise: float = 0.02,
        dropout: float = 0.02,
    ):
        for name, count in (("beams", beams), ("azimuths", azimuths)):
            if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
                raise ValueError(f"{name} must be a whole number >= 1, got {count!r}")
        highest, lowest = elevations
        if not -90 < lowest <= highest < 90:
            raise ValueError(f"elevations must be highest and lowest, in -90..90 degrees, got {elevations!r}")
        if not 0 < height < np.inf or not 0 < max_range < 2048:
            raise ValueError(f"height must be > 0 and max_range in 0..2048 m, got {height!r} and {max_range!r}")
        if not 0 <= range_noise < np.inf or not 0 <= dropout < 1:
            raise ValueError(f"range_noise must be >= 0 and dropout in [0, 1), got {range_noise!r} and {dropout!r}")
        self.beams, self.azimuths, self.height = int(beams), int(azimuths), float(height)
        self.max_range, self.range_noise, self.dropout = float(max_range), float(range_noise), float(dropout)
        elevation = np.radians(np.linspace(highest, lowest, self.beams))[:, None]
        azimuth = np.pi - (np.arange(self.azimuths) + 0.5) * (2 * np.pi / self.azimuths)
        level = np.cos(elevation)
        up = np.broadcast_to(np.sin(elevation), (self.beams, self.azimuths))
        self.directions = np.stack([level * np.cos(azimuth), level * np.sin(azimuth), up], -1)

    def cast(
        self, model: mujoco.MjModel, data: mujoco.MjData, x: float, y: float, heading: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the rays meet from (x, y, height) m, the sensor turned by ``heading`` rad; ``data`` holds geom poses.

        Returns:
            Ranges float64 (beams, azimuths), m, 0 where nothing is within ``max_range``; geoms int32, -1 there; cosines
            float64 of the angle between ray and surface normal, 0..1.
        """
        cos, sin = np.cos(heading), np.sin(heading)
        turned = self.directions @ np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
        count = self.beams * self.azimuths
        geoms, ranges, normals = np.empty(count, np.int32), np.empty(count), np.empty(3 * count)
        origin = np.array([x, y, self.height])
        # No cutoff: MuJoCo 3.8.1 takes an infinite plane for as far away as its origin, and the gain is small.
        mujoco.mj_multiRay(
            model, data, origin, turned.ravel(), None, 1, -1, geoms, ranges, normals, count, mujoco.mjMAXVAL
        )
        nothing = (geoms < 0) | (ranges > self.max_range)
        cosines = np.abs(np.einsum("nk,nk->n", turned.reshape(-1, 3), normals.reshape(-1, 3)))
        ranges[nothing], geoms[nothing], cosines[nothing] = 0.0, -1, 0.0
        shape = self.beams, self.azimuths
        return ranges.reshape(shape), geoms.reshape(shape), cosines.reshape(shape)

    def measure(
        self, ranges: np.ndarray, reflectivity: np.ndarray, cosines: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The sweep that a sensor reports of :meth:`cast`'s ranges and cosines, each (beams, azimuths).

        An echo's intensity is its material's ``reflectivity`` (beams, azimuths), 0..1, times the square root of
        Lambert's cosine (receivers compress), less what the air takes over the distance.

        Returns:
            float16 (beams, azimuths, 2): range, m, 0 where nothing came back, and intensity, 0..1. float16 adds an
            error of up to 1/64 m to ranges from 32 m on, half of that from 16 m on, and so forth.
        """
        sweep = np.zeros((*ranges.shape, 2), np.float16)
        noise = self.range_noise * rng.standard_normal(ranges.shape, np.float32)
        heard = (ranges > 0) & (rng.random(ranges.shape, np.float32) >= self.dropout)
        sweep[..., 0] = np.where(heard, np.clip(ranges + noise, NEAREST, self.max_range), 0.0)
        strength = reflectivity * np.sqrt(cosines) * np.exp(ranges / -CLEARNESS)
        sweep[..., 1] = np.where(heard, np.clip(strength, 0.0, 1.0), 0.0)
        return sweep

    def to_points(self, sweep: np.ndarray) -> np.ndarray:
        """float32 (N, 4): x, y, z in the sensor's frame, m, and intensity, 0..1, of what came back in ``sweep``.

        Points come in the order of the rays, row by row.

        Raises:
            ValueError: ``sweep`` is not (beams, azimuths, 2), not finite, or has a negative range.
        """
        sweep = np.asarray(sweep)
        if sweep.shape != (self.beams, self.azimuths, 2):
            raise ValueError(f"a sweep must be ({self.beams}, {self.azimuths}, 2), got {sweep.shape}")
        sweep = sweep.astype(np.float32)
        if not np.isfinite(sweep).all() or sweep[..., 0].min() < 0:
            raise ValueError("a sweep's ranges must be finite and >= 0, and its intensities finite")
        heard = sweep[..., 0] > 0
        points = np.empty((int(heard.sum()), 4), np.float32)
        points[:, :3] = self.directions[heard] * sweep[heard][:, :1]
        points[:, 3] = sweep[heard][:, 1]
        return points
