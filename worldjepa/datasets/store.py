"""Episodes on disk: append-only shards of one file per column, read through memory maps.

    <store>/spec.json                         the environment's specification
    <store>/shards/scripted-00012/action.npy  all episodes of the shard end to end
    <store>/shards/scripted-00012/pixels.lz4  pictures are compressed one by one, see ``worldjepa.datasets.pictures``
    <store>/shards/scripted-00012/episodes.json

A shard is written beside its place and renamed when whole, so whatever a reader sees is complete, while the store
grows and after a kill at any moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldjepa.datasets.pictures import PictureColumn, write_pictures
from worldjepa.files import write_text
from worldjepa.types import EnvSpec, Episode

FORMAT = 2
HELD_OUT_FRACTION = 0.15
ASSUMED_COMPRESSION = 4
"""Of pictures, before any are there to be measured; a simulator's shrink more."""


def is_held_out(group: str, fraction: float = HELD_OUT_FRACTION) -> bool:
    """Whether ``group`` belongs to the held-out data: decided by its name's hash, so for good and everywhere alike."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) < fraction * 2**64


@dataclass(frozen=True)
class Shard:
    """One whole shard: its name, ``episodes.json`` and memory-mapped columns, each with ``num_frames`` rows."""

    name: str
    meta: dict[str, Any]
    columns: dict[str, np.ndarray | PictureColumn]


class EpisodeStore:
    """A folder of episodes of one environment. Make one with :meth:`create` or :meth:`open`.

    Episodes are numbered by shard name at opening; :meth:`refresh` numbers new ones after those already known, so an
    index stays valid for the life of the object.

    Attributes:
        lengths: int64 (num_episodes,) frames of each episode.
        groups: the group of each episode, see :class:`~worldjepa.types.Episode`.
        policies: who acted in each episode.
    """

    def __init__(self, path: Path, spec: EnvSpec) -> None:
        self.path = path
        self.spec = spec
        self._shards: dict[str, Shard] = {}
        self._places: list[tuple[Shard, int]] = []
        self.lengths = np.zeros(0, np.int64)
        self.groups: list[str] = []
        self.policies: list[str] = []

    @classmethod
    def create(cls, path: str | os.PathLike, spec: EnvSpec) -> EpisodeStore:
        """Opens the store at ``path`` for writing, or starts one, and removes what dead writers left half done.

        Raises:
            ValueError: the folder cannot be written, or holds another environment's episodes.
        """
        path = Path(path).absolute()
        for name in spec.fields:
            _check_name(name, "column")
        try:
            (path / "shards").mkdir(parents=True, exist_ok=True)
            probe = path / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ValueError(f"cannot write to the store {path}: {error.strerror}; choose another folder") from error
        if not (path / "spec.json").exists():
            content = {"format": FORMAT, "hash": spec.hash, "spec": spec.to_dict()}
            _write_json(path / "spec.json", content)
        _remove_leftovers(path / "shards")
        return cls.open(path, spec)

    @classmethod
    def open(cls, path: str | os.PathLike, spec: EnvSpec | None = None) -> EpisodeStore:
        """Opens an existing store and checks every shard but for the pictures' content.

        Args:
            path: the store's folder.
            spec: what the reader expects; None takes whatever the store holds.

        Raises:
            ValueError: no store, another format or environment, or a damaged shard; names the file.
        """
        path = Path(path).absolute()
        file = path / "spec.json"
        if not file.is_file():
            raise ValueError(f"no episode store at {path}: expected {file}; make one with scripts/collect.py")
        content = _read_json(file)
        if content.get("format") != FORMAT:
            raise ValueError(f"{file}: expected store format {FORMAT}, got {content.get('format')}; collect it again")
        try:
            stored = EnvSpec.from_dict(content["spec"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{file}: expected an environment specification, {error!r} is missing or wrong") from error
        if stored.hash != content.get("hash"):
            raise ValueError(f"{file}: the specification has hash {stored.hash}, expected {content.get('hash')}")
        if spec is not None and spec != stored:
            raise ValueError(
                f"{file} describes another environment: {'; '.join(stored.differences(spec))}; use another store"
            )
        store = cls(path, stored)
        store.refresh()
        return store

    def __repr__(self) -> str:
        return f"EpisodeStore({self.path}, {self.num_episodes} episodes, {self.num_frames} frames)"

    @property
    def num_episodes(self) -> int:
        return len(self._places)

    @property
    def num_frames(self) -> int:
        return int(self.lengths.sum())

    @property
    def num_bytes(self) -> int:
        """On disk, of the episodes that this object knows."""
        return sum(file.stat().st_size for name in self._shards for file in (self.path / "shards" / name).iterdir())

    @property
    def bytes_per_frame(self) -> float:
        """On disk; before there are episodes, an estimate."""
        if self.num_frames:
            return self.num_bytes / self.num_frames
        sizes = {name: np.dtype(f.dtype).itemsize * int(np.prod(f.shape)) for name, f in self.spec.fields.items()}
        return sum(
            size / ASSUMED_COMPRESSION if self.spec.fields[name].is_picture else size for name, size in sizes.items()
        )

    @property
    def hash(self) -> str:
        """Sixteen hex digits of all contents, whatever the order in which shards were written."""
        manifest = {name: shard.meta for name, shard in self._shards.items()}
        text = json.dumps([self.spec.hash, manifest], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def refresh(self) -> int:
        """Takes in shards that appeared since; returns the number of new episodes."""
        before = self.num_episodes
        lengths = [self.lengths]
        for folder in sorted((self.path / "shards").iterdir()):
            if folder.name.startswith(".") or folder.name in self._shards:
                continue
            shard = self._load(folder)
            self._shards[shard.name] = shard
            ends = np.cumsum(shard.meta["lengths"])
            self._places += [(shard, int(first)) for first in np.r_[0, ends[:-1]]]
            lengths.append(np.asarray(shard.meta["lengths"], np.int64))
            self.groups += shard.meta["groups"]
            self.policies += shard.meta["policies"]
        self.lengths = np.concatenate(lengths)
        return self.num_episodes - before

    def episode(self, index: int) -> Episode:
        """Episode ``index`` as read-only memory-mapped views; pictures are decoded where they are indexed."""
        shard, first = self._places[index]
        last = first + int(self.lengths[index])
        arrays = {
            name: column.rows(first, last) if isinstance(column, PictureColumn) else column[first:last]
            for name, column in shard.columns.items()
        }
        return Episode(arrays, self.groups[index], self.policies[index])

    def place(self, index: int) -> tuple[dict[str, np.ndarray | PictureColumn], int]:
        """The columns of the shard that holds episode ``index``, and the row of its first frame."""
        shard, first = self._places[index]
        return shard.columns, first

    def shards(self) -> Iterator[tuple[str, int, range]]:
        """Source, number within it, and the numbers of its episodes, of every shard."""
        first = 0
        for name, shard in self._shards.items():
            source, index = name.rsplit("-", 1)
            episodes = range(first, first + len(shard.meta["lengths"]))
            yield source, int(index), episodes
            first = episodes.stop

    def check_room(self, num_frames: int) -> None:
        """Raises ValueError unless the disk has room for ``num_frames`` more frames."""
        needed = num_frames * self.bytes_per_frame
        free = shutil.disk_usage(self.path).free
        if needed * 1.02 > free:
            raise ValueError(
                f"{self.path} needs {needed / 1e9:.2f} GB for {num_frames} frames, but the disk has only "
                f"{free / 1e9:.2f} GB left; free some, choose another store or collect fewer episodes"
            )

    def has_shard(self, source: str, index: int) -> bool:
        return (self.path / "shards" / _shard_name(source, index)).is_dir()

    def recipe(self, source: str, index: int) -> dict[str, Any]:
        """How shard ``index`` of ``source`` was made, as given to :meth:`write_shard`."""
        return _read_json(self.path / "shards" / _shard_name(source, index) / "episodes.json")["recipe"]

    def write_shard(
        self, source: str, index: int, episodes: Sequence[Episode], recipe: dict[str, Any] | None = None
    ) -> None:
        """Writes a shard in full and then moves it into place; a shard that is there already is kept.

        Args:
            source: lower-case name, such as ``scripted``.
            index: number of the shard within its source.
            episodes: what to write; each column of the specification, finite, one length per episode.
            recipe: how they were made (JSON values), to recognise a shard made with other settings.

        Raises:
            ValueError: an episode that does not fit the specification, or has values that are not finite.
        """
        name = _shard_name(source, index)
        if not episodes:
            raise ValueError(f"shard {name} has no episodes; expected at least one")
        for number, episode in enumerate(episodes):
            self._check_episode(episode, f"episode {number} of shard {name}")
        shards = self.path / "shards"
        temporary = shards / f".tmp-{os.getpid()}-{name}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            checksums = {column: self._write_column(temporary, column, episodes) for column in self.spec.fields}
            meta = {
                "format": FORMAT,
                "spec_hash": self.spec.hash,
                "num_frames": sum(len(episode) for episode in episodes),
                "lengths": [len(episode) for episode in episodes],
                "groups": [episode.group for episode in episodes],
                "policies": [episode.policy for episode in episodes],
                "checksums": checksums,
                "recipe": recipe or {},
            }
            _write_json(temporary / "episodes.json", meta)
            _sync_folder(temporary)
            try:
                temporary.rename(shards / name)
            except OSError:
                # Another writer was first, or this is a repeat; shards are deterministic, so the older one stands.
                if not self.has_shard(source, index):
                    raise
            _sync_folder(shards)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _write_column(self, folder: Path, column: str, episodes: Sequence[Episode]) -> str:
        """Writes one column and returns the checksum of its content."""
        field = self.spec.fields[column]
        if field.is_picture:
            return write_pictures(folder / f"{column}.lz4", (episode.arrays[column] for episode in episodes))
        digest = hashlib.sha256()
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(field.dtype)),
            "fortran_order": False,
            "shape": (sum(len(episode) for episode in episodes), *field.shape),
        }
        with (folder / f"{column}.npy").open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for episode in episodes:
                content = memoryview(np.ascontiguousarray(episode.arrays[column])).cast("B")
                digest.update(content)
                stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        return digest.hexdigest()

    def _check_episode(self, episode: Episode, where: str) -> None:
        if set(episode.arrays) != set(self.spec.fields):
            raise ValueError(f"{where}: expected columns {sorted(self.spec.fields)}, got {sorted(episode.arrays)}")
        for column, field in self.spec.fields.items():
            array = episode.arrays[column]
            expected = (len(episode), *field.shape)
            if str(array.dtype) != field.dtype or array.shape != expected:
                raise ValueError(
                    f"{where}: column {column} must be {field.dtype} {expected}, got {array.dtype} {array.shape}"
                )
            if not _is_finite(array):
                raise ValueError(f"{where}: column {column} must be finite, got NaN or infinity")

    def _load(self, folder: Path) -> Shard:
        """Maps a shard's columns, checked; the content of pictures is not read."""
        file = folder / "episodes.json"
        meta = _read_json(file)
        keys = ("format", "spec_hash", "num_frames", "lengths", "groups", "policies", "checksums", "recipe")
        missing = [key for key in keys if key not in meta]
        if missing:
            raise ValueError(f"{file}: expected the keys {', '.join(missing)}; remove {folder} and collect again")
        if meta["format"] != FORMAT:
            raise ValueError(f"{file}: expected store format {FORMAT}, got {meta['format']}")
        if meta["spec_hash"] != self.spec.hash:
            raise ValueError(
                f"{file}: holds episodes of another environment's specification ({meta['spec_hash']}), "
                f"expected {self.spec.hash} ({self.spec.env_id}); remove {folder}"
            )
        counts = {len(meta[key]) for key in ("lengths", "groups", "policies")}
        if len(counts) != 1 or sum(meta["lengths"]) != meta["num_frames"]:
            raise ValueError(f"{file}: lengths, groups and policies must be of {meta['num_frames']} frames in all")
        columns = {column: self._map_column(folder, column, meta) for column in self.spec.fields}
        return Shard(folder.name, meta, columns)

    def _map_column(self, folder: Path, column: str, meta: dict[str, Any]) -> np.ndarray | PictureColumn:
        field = self.spec.fields[column]
        file = folder / f"{column}.{'lz4' if field.is_picture else 'npy'}"
        shape = (meta["num_frames"], *field.shape)
        expected = f"expected {field.dtype} {shape}"
        repair = f"remove {folder} and collect again"
        try:
            if field.is_picture:
                return PictureColumn(file, shape)
            # A plain view: np.memmap's own slicing costs several microseconds each time.
            array = np.load(file, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        except (OSError, ValueError) as error:
            raise ValueError(f"{file}: truncated or unreadable ({error}), {expected}; {repair}") from error
        if str(array.dtype) != field.dtype or array.shape != shape:
            raise ValueError(f"{file}: {expected}, got {array.dtype} {array.shape}; {repair}")
        if not _is_finite(array):
            raise ValueError(f"{file}: expected finite numbers, got NaN or infinity; {repair}")
        if hashlib.sha256(array.tobytes()).hexdigest() != meta["checksums"].get(column):
            raise ValueError(f"{file}: the content differs from the checksum in episodes.json; {repair}")
        return array


def _is_finite(array: np.ndarray) -> bool:
    return not np.issubdtype(array.dtype, np.floating) or bool(np.isfinite(array).all())


def _check_name(name: str, what: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"a {what} name must be lower-case letters, digits and underscores, got {name!r}")


def _shard_name(source: str, index: int) -> str:
    _check_name(source, "source")
    return f"{source}-{index:05d}"


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: missing or not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected a JSON object, got {type(content).__name__}")
    return content


def _write_json(file: Path, content: dict[str, Any]) -> None:
    write_text(file, json.dumps(content, indent=1, sort_keys=True))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(shards: Path) -> None:
    """Removes half-written shards whose writer, on this machine, is no longer alive."""
    for folder in shards.glob(".tmp-*"):
        writer = int(folder.name.split("-")[1])
        try:
            os.kill(writer, 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except PermissionError:
            pass  # alive, and another user's
