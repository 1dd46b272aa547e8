"""Human demonstrations of PushT: found, read from two formats, and imported into a store.

The demonstrations are those of Diffusion Policy (arXiv:2303.04137), 206 episodes at 10 Hz: as the zarr v2 group
``pusht_cchi_v7_replay.zarr``, or as the LeRobot dataset ``lerobot/pusht_keypoints``.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldjepa.datasets.store import EpisodeStore
from worldjepa.files import in_data
from worldjepa.types import Episode, GoalEnv

HUB_ID = "lerobot/pusht_keypoints"
ZARR_NAME = "pusht_cchi_v7_replay.zarr"
NAMES = (ZARR_NAME, "pusht_keypoints", "lerobot/pusht_keypoints")
"""What a folder of data sets may call them."""
HUB_SECONDS = 5.0
ACTION_SCALE = 100.0
"""px per unit of ``worldjepa/PushT-v0``'s relative action."""

# Vertices of the tee in its own frame, px, in the order of gym_pusht's PushTEnv.get_keypoints.
KEYPOINTS = np.array([(-60, 0), (60, 0), (60, 30), (-60, 30), (-15, 30), (15, 30), (15, 120), (-15, 120)], np.float64)
MAX_KEYPOINT_ERROR = 1.0
"""px; float32 keypoints of the real set fit to well under a tenth."""


@dataclass(frozen=True)
class Demonstrations:
    """Recorded episodes, end to end.

    Attributes:
        states: float64 (N,5) agent x, y, block x, y in px, block angle in rad.
        actions: float64 (N,2) absolute target of the agent in px; row t leads from state t to state t + 1.
        episode_ends: int64 (E,) one past the last row of each episode.
    """

    states: np.ndarray
    actions: np.ndarray
    episode_ends: np.ndarray

    def __post_init__(self) -> None:
        ends, rows = self.episode_ends, len(self.states)
        if self.states.shape != (rows, 5) or self.actions.shape != (rows, 2):
            raise ValueError(
                f"demonstrations need states (N,5) and actions (N,2), got {self.states.shape} and {self.actions.shape}"
            )
        if len(ends) == 0 or np.any(np.diff(ends, prepend=0) < 2) or ends[-1] != rows:
            raise ValueError(f"episode_ends must rise to {rows} in steps of at least 2 rows, got {ends}")
        if not (np.isfinite(self.states).all() and np.isfinite(self.actions).all()):
            raise ValueError("demonstrations must be finite, got NaN or infinity")

    def __len__(self) -> int:
        return len(self.episode_ends)

    def episode(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """States (L,5) and actions (L,2) of one episode."""
        first = int(self.episode_ends[index - 1]) if index > 0 else 0
        rows = slice(first, int(self.episode_ends[index]))
        return self.states[rows], self.actions[rows]

    @property
    def hash(self) -> str:
        digest = hashlib.sha256()
        for array in (self.states, self.actions, self.episode_ends):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:12]


def demonstration_group(index: int) -> str:
    """The group of demonstration ``index`` and of everything derived from it."""
    return f"human/{index}"


def find_demonstrations(place: str | os.PathLike | None = None) -> tuple[Path | str | None, str]:
    """Looks for demonstrations in ``place``, else in ``WORLDJEPA_DATA``, else on the hub when it answers.

    Args:
        place: a path (of a demonstration set, or of a folder that has one), a hub id, or None or ``auto`` to look.

    Returns:
        A path or hub id for :func:`load_pusht_demonstrations`, or None; and a sentence saying what was chosen.

    Raises:
        ValueError: ``place`` was given but has no demonstrations.
    """
    if place is not None and str(place) != "auto":
        found = _find_in(Path(place))
        if found is not None:
            return found, f"demonstrations from {found}"
        if not Path(place).exists() and _looks_like_hub_id(str(place)):
            return str(place), f"demonstrations from the hub, {place}"
        raise ValueError(
            f"no demonstrations at {place}: expected {ZARR_NAME}, a LeRobot dataset folder (with data/*.parquet), "
            f"a folder that has one of them, or a hub id such as {HUB_ID}"
        )
    tried = "WORLDJEPA_DATA is not set"
    if folder := in_data():
        found = _find_in(folder)
        if found is not None:
            return found, f"demonstrations from WORLDJEPA_DATA, {found}"
        tried = f"WORLDJEPA_DATA ({folder}) has no {ZARR_NAME}"
    problem = _hub_problem()
    if problem is None:
        return HUB_ID, f"demonstrations from the hub, {HUB_ID} ({tried})"
    return None, f"scripted players only: {tried}, and the hub {problem}"


def load_pusht_demonstrations(place: str | os.PathLike) -> Demonstrations:
    """Reads demonstrations from a zarr group, a LeRobot dataset folder or a hub id.

    Raises:
        ValueError: neither, or the content is not what PushT demonstrations hold.
    """
    path = Path(place)
    if (path / ".zgroup").is_file() or (path / "zarr.json").is_file():
        return _load_zarr(path)
    if (path / "data").is_dir() and next(path.glob("data/**/*.parquet"), None) is not None:
        return _load_parquet(path)
    if not path.exists() and _looks_like_hub_id(str(place)):
        return _load_parquet(_download(str(place)))
    raise ValueError(f"{place}: expected a zarr group, a LeRobot dataset folder (with data/*.parquet) or a hub id")


def import_demonstrations(
    store: EpisodeStore, demonstrations: Demonstrations, env: GoalEnv, episodes_per_shard: int = 100
) -> int:
    """Adds the recorded episodes, drawn by ``env``, as policy and source ``human``.

    Actions are in the environment's mode: relative ones are ``clip((target - agent) / 100, -1, 1)``, absolute ones the
    recorded targets. Shards that are there are kept.

    Returns:
        How many episodes were added; :meth:`EpisodeStore.refresh` has been called.
    """
    env = env.unwrapped
    if tuple(env.state_names[:5]) != ("agent_x", "agent_y", "block_x", "block_y", "block_angle"):
        raise ValueError(f"demonstrations are of PushT's states, the environment's are {env.state_names}")
    for index, first in enumerate(range(0, len(demonstrations), episodes_per_shard)):
        recipe = {"demonstrations": demonstrations.hash, "episodes_per_shard": episodes_per_shard}
        if store.has_shard("human", index):
            if store.recipe("human", index) != recipe:
                raise ValueError(f"{store.path} has other demonstrations (shard human-{index:05d}); use another store")
            continue
        numbers = range(first, min(first + episodes_per_shard, len(demonstrations)))
        store.write_shard("human", index, [_draw_episode(demonstrations, i, env) for i in numbers], recipe)
    return store.refresh()


def _draw_episode(demonstrations: Demonstrations, index: int, env: GoalEnv) -> Episode:
    states, targets = demonstrations.episode(index)
    full = np.zeros((len(states), len(env.state_names)))
    full[:, :5] = states  # velocities, if the environment's state has them, are not recorded
    observations = [env.observe_state(state) for state in full]
    arrays = {name: np.stack([o[name] for o in observations]) for name in observations[0]}
    action = targets if env.action_mode == "absolute" else (targets - states[:, :2]) / ACTION_SCALE
    action = np.clip(action, env.action_space.low, env.action_space.high).astype(np.float32)
    action[-1] = 0
    arrays |= {"action": action, "state": full.astype(np.float32)}
    if env.rewarded:
        arrays["reward"] = np.array([*(env.reward_at(state) for state in full[1:]), 0.0], np.float32)
    return Episode(arrays, demonstration_group(index), "human")


# ---- finding ----------------------------------------------------------------------------------------------------


def _is_demonstrations(path: Path) -> bool:
    return (path / "data" / "state").is_dir() or next(path.glob("data/**/*.parquet"), None) is not None


def _find_in(folder: Path) -> Path | None:
    for path in (folder, *(folder / name for name in NAMES)):
        if path.is_dir() and _is_demonstrations(path):
            return path
    return None


def _looks_like_hub_id(place: str) -> bool:
    return place.count("/") == 1 and not place.startswith((".", "/", "~"))


def _hub_problem() -> str | None:
    """Why the hub's demonstrations cannot be had, or None when they can; decided within a few seconds."""
    from huggingface_hub import HfApi, constants, try_to_load_from_cache

    if try_to_load_from_cache(HUB_ID, "meta/info.json", repo_type="dataset"):
        return None
    if constants.HF_HUB_OFFLINE:
        return "is switched off (HF_HUB_OFFLINE)"
    try:
        HfApi().dataset_info(HUB_ID, timeout=HUB_SECONDS)
    except Exception as error:  # any failure, of the network or of the hub, means the same here: do without
        return f"cannot be reached ({type(error).__name__})"
    return None


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["data/**", "meta/**"]
    try:
        folder = snapshot_download(
            hub_id, repo_type="dataset", allow_patterns=patterns, etag_timeout=HUB_SECONDS, max_workers=1
        )
    except Exception as error:  # network, permission, unknown id: the hub's own message is the best there is
        raise ValueError(
            f"cannot get the demonstrations {hub_id} from the hub: {error}; give a local path, or `data=none` for "
            "scripted data only"
        ) from error
    return Path(folder)


# ---- formats ----------------------------------------------------------------------------------------------------


def _load_zarr(path: Path) -> Demonstrations:
    import zarr

    group = zarr.open_group(str(path), mode="r")
    names = ("data/state", "data/action", "meta/episode_ends")
    missing = [name for name in names if name not in group]
    if missing:
        raise ValueError(f"{path}: expected the arrays {', '.join(names)}; {', '.join(missing)} missing")
    states, actions, ends = (np.asarray(group[name][:]) for name in names)
    try:
        return Demonstrations(states.astype(np.float64), actions.astype(np.float64), ends.astype(np.int64))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _load_parquet(path: Path) -> Demonstrations:
    import pyarrow
    import pyarrow.parquet

    files = sorted(path.glob("data/**/*.parquet"))
    if not files:
        raise ValueError(f"{path}: expected a LeRobot dataset with data/**/*.parquet, found none")
    names = ["observation.environment_state", "observation.state", "action", "episode_index", "frame_index"]
    present = pyarrow.parquet.read_schema(files[0]).names
    if missing := [name for name in names if name not in present]:
        hint = f"; the block's pose is only in {HUB_ID}, not in lerobot/pusht" if names[0] in missing else ""
        raise ValueError(f"{files[0]}: expected the columns {', '.join(names)}; {', '.join(missing)} missing{hint}")
    table = pyarrow.concat_tables([pyarrow.parquet.read_table(file, columns=names) for file in files])
    table = table.sort_by([("episode_index", "ascending"), ("frame_index", "ascending")])
    keypoints, agents, actions = (np.array(table[name].to_pylist(), np.float64) for name in names[:3])
    if keypoints.shape[1:] != (16,) or agents.shape[1:] != (2,) or actions.shape[1:] != (2,):
        raise ValueError(
            f"{path}: expected {names[0]} (16,), {names[1]} (2,) and action (2,), got {keypoints.shape[1:]}, "
            f"{agents.shape[1:]} and {actions.shape[1:]}"
        )
    try:
        poses = fit_poses(keypoints.reshape(-1, 8, 2))
        episodes = table["episode_index"].to_numpy()
        ends = np.append(np.flatnonzero(np.diff(episodes)) + 1, len(episodes)).astype(np.int64)
        return Demonstrations(np.concatenate([agents, poses], 1), actions, ends)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def fit_poses(keypoints: np.ndarray) -> np.ndarray:
    """Poses (N,3) x, y in px and angle in [0, 2 pi) of tees whose eight vertices are ``keypoints`` (N,8,2).

    Least squares over rotations and shifts, in closed form with points as complex numbers.

    Raises:
        ValueError: the points are not the tee's vertices in gym_pusht's order.
    """
    if not np.isfinite(keypoints).all():
        raise ValueError("observation.environment_state must be finite, got NaN or infinity")
    local = KEYPOINTS[:, 0] + 1j * KEYPOINTS[:, 1]
    world = keypoints[..., 0] + 1j * keypoints[..., 1]
    centre, middle = world.mean(-1), local.mean()
    turn = ((world - centre[:, None]) * (local - middle).conj()).sum(-1)
    turn = turn / np.maximum(np.abs(turn), 1e-12)
    origin = centre - turn * middle
    error = np.abs(origin[:, None] + turn[:, None] * local - world).max(initial=0)
    if error > MAX_KEYPOINT_ERROR:
        raise ValueError(
            f"observation.environment_state is not the tee's 8 vertices in gym_pusht's order: a rigid tee misses them "
            f"by up to {error:.1f} px, expected at most {MAX_KEYPOINT_ERROR}"
        )
    return np.stack([origin.real, origin.imag, np.angle(turn) % (2 * np.pi)], -1)
