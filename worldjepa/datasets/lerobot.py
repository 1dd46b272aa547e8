"""LeRobot datasets (v3) into episode stores and back; LeRobot itself is imported where it is used.

| store | LeRobot dataset |
|---|---|
| ``pixels``, ``pixels_<camera>`` | ``observation.image``; several: ``observation.images.<camera>`` |
| ``proprioception`` | ``observation.state`` |
| ``action`` | ``action``; a dataset's last action of an episode leads nowhere and is zero in a store |
| ``state`` | ``simulator_state`` (no policy sees it); without one the proprioception stands in |
| ``reward`` | ``next.reward`` |
| ``task``, where there are several | ``task_index`` |

What a dataset of LeRobot has no place for (groups, who acted, bounds) goes into ``meta/worldjepa.json``.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from worldjepa.datasets.lerobot_files import COLUMNS, EpisodeReader
from worldjepa.datasets.store import EpisodeStore
from worldjepa.files import write_text
from worldjepa.types import EnvSpec, Episode, FieldSpec

SIDECAR = Path("meta") / "worldjepa.json"
CAMERA, CAMERAS = "observation.image", "observation.images."


# ---- out --------------------------------------------------------------------------------------------------------


def export_lerobot(
    store: EpisodeStore,
    root: Path,
    repo_id: str = "local/worldjepa",
    episodes: list[int] | None = None,
    task: str | None = None,
    videos: bool = True,
    episodes_per_part: int = 25,
    progress: bool = False,
) -> None:
    """Writes episodes of ``store`` as a LeRobot dataset, complete or not at all; a repeat goes on where it stopped.

    Actions and states keep every bit of float32; pictures do too as images, and are within the codec's error as video.

    Args:
        root: folder of the dataset, which must not be there yet.
        repo_id: its name.
        episodes: which ones, in this order; None takes all.
        task: what is done, in words; None takes the store's own.
        videos: pictures as AV1 video, or as PNG.
        episodes_per_part: what is kept after a kill is a multiple of this.
        progress: show a bar.

    Raises:
        ValueError: the folder exists, an episode does not, or a task is given where the store has several.
    """
    from lerobot.datasets.aggregate import aggregate_datasets
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    root = Path(root)
    if root.exists():
        raise ValueError(f"{root} exists already; give another folder, or remove it")
    chosen = list(range(store.num_episodes)) if episodes is None else list(episodes)
    if not chosen or not 0 <= min(chosen) <= max(chosen) < store.num_episodes:
        raise ValueError(f"episodes must be some of 0..{store.num_episodes - 1}, got {chosen}")
    if task is not None and len(store.spec.tasks) > 1:
        raise ValueError(f"{store.path} has {len(store.spec.tasks)} tasks of its own; leave task out, got {task!r}")
    parts = root.with_name(f".{root.name}.parts")
    pieces = [chosen[i : i + episodes_per_part] for i in range(0, len(chosen), episodes_per_part)]
    plan = {"store": store.hash, "episodes": chosen, "task": task, "videos": videos, "per_part": episodes_per_part}
    if (parts / "plan.json").is_file() and json.loads((parts / "plan.json").read_text()) != plan:
        shutil.rmtree(parts)
    parts.mkdir(parents=True, exist_ok=True)
    write_text(parts / "plan.json", json.dumps(plan))
    features = _features(store.spec, videos)
    with _bar("exporting", len(chosen), progress) as advance:
        for number, piece in enumerate(pieces):
            folder = parts / f"{number:05d}"
            if not folder.is_dir():
                beside = parts / "writing"
                shutil.rmtree(beside, ignore_errors=True)
                fps = _frame_rate(store.spec)
                data = LeRobotDataset.create(
                    repo_id, fps, features, root=beside, use_videos=videos, video_backend="pyav"
                )
                for index in piece:
                    _add_episode(data, store, index, task)
                    advance(1)
                data.finalize()
                beside.rename(folder)
            else:
                advance(len(piece))
    made = parts / "whole"
    shutil.rmtree(made, ignore_errors=True)
    folders = [parts / f"{number:05d}" for number in range(len(pieces))]
    aggregate_datasets([repo_id] * len(folders), repo_id, roots=folders, aggr_root=made)
    rows = [{"group": store.groups[index], "policy": store.policies[index]} for index in chosen]
    write_text(made / SIDECAR, json.dumps({"spec": store.spec.to_dict(), "episodes": rows}))
    made.rename(root)
    shutil.rmtree(parts)


def _cameras(spec: EnvSpec) -> dict[str, str]:
    """Column -> feature, of all pictures."""
    columns = [name for name, field in spec.fields.items() if field.is_picture]
    if columns == ["pixels"]:
        return {"pixels": CAMERA}
    return {name: CAMERAS + (name.removeprefix("pixels_") if name != "pixels" else "main") for name in columns}


def _features(spec: EnvSpec, videos: bool) -> dict[str, dict[str, Any]]:
    cameras = _cameras(spec)
    features = {}
    for name, field in spec.fields.items():
        if name in cameras:
            names = ["height", "width", "channels"]
            features[cameras[name]] = {
                "dtype": "video" if videos else "image",
                "shape": tuple(field.shape),
                "names": names,
            }
        elif name in COLUMNS:
            names = list(spec.state_names) if name == "state" else None
            features[COLUMNS[name]] = {"dtype": field.dtype, "shape": tuple(field.shape) or (1,), "names": names}
    return features


def _frame_rate(spec: EnvSpec) -> int:
    if spec.frame_rate != round(spec.frame_rate):
        raise ValueError(f"LeRobot wants whole frames per second, {spec.env_id} has {spec.frame_rate}")
    return round(spec.frame_rate)


def _add_episode(data: Any, store: EpisodeStore, index: int, task: str | None) -> None:
    arrays = {name: np.asarray(array) for name, array in store.episode(index).arrays.items()}
    arrays["action"] = arrays["action"].copy()
    arrays["action"][-1] = arrays["action"][-2]  # zero would be a command like any other in a dataset of LeRobot
    cameras, tasks = _cameras(store.spec), store.spec.tasks or ("",)
    which = arrays.get("task", np.zeros(len(arrays["action"]), np.int64))
    for row in range(len(arrays["action"])):
        frame = {feature: arrays[name][row] for name, feature in cameras.items()}
        frame |= {
            feature: np.atleast_1d(arrays[name][row]) for name, feature in COLUMNS.items() if name in store.spec.fields
        }
        data.add_frame({**frame, "task": tasks[which[row]] if task is None else task})
    data.save_episode()


# ---- in ---------------------------------------------------------------------------------------------------------


def import_lerobot(
    source: str | Path,
    path: Path,
    image_size: int | None = None,
    cameras: list[str] | None = None,
    shard_bytes: int = 500_000_000,
    progress: bool = False,
) -> EpisodeStore:
    """Reads a LeRobot dataset into the episode store at ``path``; a repeat goes on where it stopped.

    Args:
        source: folder of the dataset, or a hub id.
        path: folder of the store.
        image_size: height and width that pictures are resized to (by area); None keeps theirs.
        cameras: features to take as pictures, the first one as ``pixels``; None takes all.
        shard_bytes: of pictures and numbers that are held in memory at a time, and then written as a shard.
        progress: show a bar.

    Raises:
        ValueError: no dataset, a feature that is missing or of another kind, values that are not finite, times that do
            not fit the frame rate, a file that is truncated; says which file, episode and feature.
    """
    meta = _metadata(source)
    root = Path(meta.root)
    chosen = list(meta.camera_keys) if cameras is None else list(cameras)
    for name in (*chosen, "action", "observation.state"):
        if name not in meta.features:
            raise ValueError(f"{root}: expected the feature {name}, it has {', '.join(sorted(meta.features))}")
    sidecar = json.loads((root / SIDECAR).read_text()) if (root / SIDECAR).is_file() else None
    columns = {_column(name, chosen): name for name in chosen}
    if len(columns) < len(chosen):
        raise ValueError(f"{root}: the cameras {', '.join(chosen)} would share a column; take some with cameras=")
    spec = _spec(meta, source, columns, image_size, sidecar)
    store = EpisodeStore.create(path, spec)
    reader = EpisodeReader(meta, root)
    recipe = {"source": str(source), "image_size": image_size, "cameras": chosen, "episodes": meta.total_episodes}
    row_bytes = sum(np.dtype(field.dtype).itemsize * int(np.prod(field.shape)) for field in spec.fields.values())
    with _bar("importing", meta.total_episodes, progress) as advance:
        for number, indices in enumerate(_shards(meta, shard_bytes // row_bytes)):
            if store.has_shard("lerobot", number):
                if store.recipe("lerobot", number) != {**recipe, "shard": indices}:
                    raise ValueError(f"{store.path} has another import (shard lerobot-{number:05d}); use another store")
                advance(len(indices))
                continue
            episodes = []
            for index in indices:
                row = sidecar["episodes"][index] if sidecar else {"group": f"lerobot/{index}", "policy": "lerobot"}
                arrays = reader.numbers(index, spec)
                length = len(arrays["action"])
                arrays |= {name: reader.pictures(index, key, length, image_size) for name, key in columns.items()}
                episodes.append(Episode(arrays, row["group"], row["policy"]))
                advance(1)
            store.write_shard("lerobot", number, episodes, {**recipe, "shard": indices})
    store.refresh()
    return store


def _shards(meta: Any, max_frames: int) -> list[list[int]]:
    """Episodes in order, so many together as ``max_frames`` allow, at least one."""
    shards: list[list[int]] = []
    frames = 0
    for index in range(meta.total_episodes):
        length = int(meta.episodes[index]["length"])
        if not shards or frames + length > max_frames:
            shards.append([])
            frames = 0
        shards[-1].append(index)
        frames += length
    return shards


def _metadata(source: str | Path) -> Any:
    from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    folder = Path(source)
    if (folder / "meta" / "info.json").is_file():
        try:
            return LeRobotDatasetMetadata("local/" + folder.name, root=folder)
        except Exception as error:  # of LeRobot, pyarrow or JSON: each says it in its own way
            raise ValueError(f"{folder / 'meta'}: not the metadata of a LeRobot dataset v3 ({error})") from error
    if folder.exists() or str(source).count("/") != 1:
        raise ValueError(f"{source}: expected a LeRobot dataset's folder (with meta/info.json) or a hub id")
    try:
        return LeRobotDataset(str(source)).meta
    except Exception as error:  # network, permission, unknown id: the hub's own message is the best there is
        raise ValueError(f"cannot get the dataset {source} from the hub: {error}; give a local folder") from error


def _column(camera: str, chosen: list[str]) -> str:
    """``pixels`` for the first camera, for others what their names say beyond ``observation.images.``."""
    short = camera.removeprefix(CAMERAS).removeprefix("observation.")
    return "pixels" if camera == chosen[0] else "pixels_" + re.sub(r"[^a-z0-9]+", "_", short.lower())


def _spec(
    meta: Any, source: str | Path, columns: dict[str, str], image_size: int | None, sidecar: dict | None
) -> EnvSpec:
    if sidecar and image_size is None and list(columns.values()) == list(meta.camera_keys):
        return EnvSpec.from_dict(sidecar["spec"])
    fields = {}
    for column, name in columns.items():
        feature = meta.features[name]
        last = (feature.get("names") or [""] * 3)[2]
        height, width = feature["shape"][:2] if last in ("channel", "channels") else feature["shape"][-2:]
        size = (image_size, image_size) if image_size else (height, width)
        fields[column] = FieldSpec("uint8", (*size, 3))
    shapes = {name: tuple(meta.features[name]["shape"]) for name in ("observation.state", "action")}
    fields["proprioception"] = FieldSpec("float32", shapes["observation.state"])
    fields["action"] = FieldSpec("float32", shapes["action"])
    state = "simulator_state" if "simulator_state" in meta.features else "observation.state"
    fields["state"] = FieldSpec("float32", tuple(meta.features[state]["shape"]))
    if "next.reward" in meta.features:
        fields["reward"] = FieldSpec("float32", ())
    tasks = tuple(str(text) for text in meta.tasks.index)
    if len(tasks) > 1:
        fields["task"] = FieldSpec("int64", ())
    names = meta.features[state].get("names")
    size = fields["state"].shape[0]
    names = tuple(names) if isinstance(names, list) and len(names) == size else tuple(f"s{i}" for i in range(size))
    if not meta.stats or "action" not in meta.stats:
        raise ValueError(f"{meta.root}: expected statistics of the feature action in meta/stats.json, found none")
    low, high = ([float(x) for x in np.ravel(meta.stats["action"][name])] for name in ("min", "max"))
    name = f"lerobot/{Path(source).name}"
    return EnvSpec(name, fields, tuple(low), tuple(high), names, float(meta.fps), tasks if any(tasks) else ())


@contextmanager
def _bar(what: str, total: int, visible: bool) -> Iterator[Any]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("episodes"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), disable=not visible) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)
