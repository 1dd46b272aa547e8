"""The files of a LeRobot dataset (v3), episode by episode, every value checked; parquet files and videos hold many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from worldjepa.types import EnvSpec

COLUMNS = {
    "proprioception": "observation.state",
    "action": "action",
    "reward": "next.reward",
    "state": "simulator_state",
}
"""Of a store -> feature of a dataset: all numbers that are written as they are."""
TASK = "task_index"
"""Of the column ``task``; LeRobot writes it itself, from each frame's words."""
TIME_TOLERANCE = 1e-3
"""s, by which a frame's time may differ from its number over the frame rate."""


class EpisodeReader:
    """Columns of single episodes; parquet files and videos hold many."""

    def __init__(self, meta: Any, root: Path) -> None:
        self.meta, self.root = meta, root
        self._task_words = {int(row[TASK]): str(text) for text, row in meta.tasks.iterrows()}
        self._file: Path | None = None

    def numbers(self, index: int, spec: EnvSpec) -> dict[str, np.ndarray]:
        """All columns of an episode but its pictures, checked."""
        table, file = self._table(index)
        arrays = {}
        for name, field in spec.fields.items():
            if field.is_picture:
                continue
            key = TASK if name == "task" else COLUMNS[name]
            if name == "state" and key not in self.meta.features:
                key = "observation.state"
            where = f"{file}: episode {index}, feature {key}"
            if key not in table.column_names:
                raise ValueError(f"{where}: missing; the file has {', '.join(table.column_names)}")
            try:
                values = np.array(table[key].to_pylist(), np.float32)
            except (ValueError, TypeError) as error:  # rows of several lengths, or none
                raise ValueError(f"{where}: expected shape {field.shape} per frame ({error})") from error
            if values.reshape(len(values), -1).shape[1] != int(np.prod(field.shape)):
                raise ValueError(f"{where}: expected shape {field.shape} per frame, got {values.shape[1:]}")
            values = values.reshape(len(values), *field.shape)
            if not np.isfinite(values).all():
                raise ValueError(f"{where}: expected finite numbers, got NaN or infinity")
            arrays[name] = self._tasks(values, spec, where) if name == "task" else values
        wanted = int(self.meta.episodes[index]["length"])
        if len(arrays["action"]) != wanted or wanted < 2:
            raise ValueError(
                f"{file}: episode {index} has {len(arrays['action'])} frames, expected {wanted} and at least 2"
            )
        times = np.array(table["timestamp"].to_pylist(), np.float64).ravel()
        if np.abs(times - np.arange(wanted) / self.meta.fps).max() > TIME_TOLERANCE:
            raise ValueError(
                f"{file}: episode {index}, feature timestamp: expected {self.meta.fps} frames per second as "
                "meta/info.json says, got other times"
            )
        arrays["action"][-1] = 0
        if "reward" in arrays:
            arrays["reward"][-1] = 0
        return arrays

    def _tasks(self, values: np.ndarray, spec: EnvSpec, where: str) -> np.ndarray:
        """The dataset's numbers of tasks (L,) as the specification's."""
        words = [self._task_words.get(int(i), f"number {int(i)}") for i in values]
        unknown = sorted(set(words) - set(spec.tasks))
        if unknown:
            raise ValueError(f"{where}: expected tasks among {', '.join(spec.tasks)}, got {', '.join(unknown)}")
        return np.array([spec.tasks.index(text) for text in words], np.int64)

    def pictures(self, index: int, key: str, length: int, image_size: int | None) -> np.ndarray:
        """uint8 (length,height,width,3) of one camera."""
        if key in self.meta.video_keys:
            frames, file = self._video(index, key, length)
        else:
            frames, file = self._images(index, key)
        if len(frames) != length or frames.shape[-1] != 3:
            raise ValueError(
                f"{file}: episode {index}, feature {key}: expected {length} pictures of 3 channels, got {frames.shape}"
            )
        if image_size is None or frames.shape[1:3] == (image_size, image_size):
            return frames
        resized = [cv2.resize(frame, (image_size, image_size), interpolation=cv2.INTER_AREA) for frame in frames]
        return np.stack(resized)

    def _table(self, index: int) -> tuple[Any, Path]:
        import pyarrow.compute
        import pyarrow.parquet

        file = self.root / self.meta.get_data_file_path(index)
        if file != self._file:
            try:
                self._content = pyarrow.parquet.read_table(file)
            except (OSError, pyarrow.ArrowException) as error:
                raise ValueError(f"{file}: episode {index}: truncated or no parquet file ({error})") from error
            self._file = file
        return self._content.filter(pyarrow.compute.field("episode_index") == index), file

    def _video(self, index: int, key: str, length: int) -> tuple[np.ndarray, Path]:
        from lerobot.datasets.video_utils import decode_video_frames

        file = self.root / self.meta.get_video_file_path(index, key)
        begin = float(self.meta.episodes[index][f"videos/{key}/from_timestamp"])
        times = [begin + frame / self.meta.fps for frame in range(length)]
        try:
            frames = decode_video_frames(file, times, 0.5 / self.meta.fps, backend="pyav", return_uint8=True)
        except Exception as error:  # FFmpeg's, PyAV's or LeRobot's own
            raise ValueError(f"{file}: episode {index}, feature {key}: truncated or no video ({error})") from error
        return frames.permute(0, 2, 3, 1).contiguous().numpy(), file

    def _images(self, index: int, key: str) -> tuple[np.ndarray, Path]:
        table, file = self._table(index)
        rows = [_decoded(row) for row in table[key].to_pylist()]
        if any(row is None for row in rows):
            raise ValueError(f"{file}: episode {index}, feature {key}: a picture cannot be decoded")
        return np.stack([row[..., ::-1] for row in rows]), file


def _decoded(row: dict[str, Any] | None) -> np.ndarray | None:
    """(height,width,3) blue first, or None for what is no picture."""
    content = row and row.get("bytes")
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
