"""Pictures on disk: each one LZ4-compressed on its own, so that any of them is a few microseconds away.

A simulator's pictures shrink to a tenth, which is ten times the episodes on the same disk and in the same page cache.

    <column>.lz4: int64 offsets (num_frames + 1), counted from the first picture; then the pictures end to end
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numcodecs.lz4 import compress, decompress


class PictureColumn:
    """uint8 pictures (num_frames, height, width, channels) of a file; indexed like an array, decoded when asked for.

    ``column[i]`` and ``column[first:last:step]`` decode; :meth:`rows` does not.

    Args:
        file: written by :func:`write_pictures`.
        shape: (num_frames, height, width, channels).

    Raises:
        ValueError: the file is missing or shorter than its offsets say; at indexing, a picture that is damaged.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, file: Path, shape: tuple[int, ...]) -> None:
        self.file = file
        self.shape = tuple(shape)
        content = np.memmap(file, np.uint8, "r").view(np.ndarray)
        header = 8 * (shape[0] + 1)
        self._offsets = content[:header].view("<i8")
        self._data = content[header:]
        if len(self._offsets) != shape[0] + 1 or self._offsets[-1] != len(self._data):
            raise ValueError(f"{len(content)} bytes are not what its offsets say")

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def __getitem__(self, index: int | slice) -> np.ndarray:
        if not isinstance(index, slice):
            row = range(len(self))[index]
            return self._decode(range(row, row + 1))[0]
        return self._decode(range(*index.indices(len(self))))

    def rows(self, first: int, last: int) -> PictureColumn:
        """Rows ``first`` to ``last`` as a column of their own; nothing is decoded."""
        part = object.__new__(PictureColumn)
        part.file, part.shape = self.file, (last - first, *self.shape[1:])
        part._offsets, part._data = self._offsets[first : last + 1], self._data
        return part

    def _decode(self, rows: range) -> np.ndarray:
        pictures = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for picture, row in zip(pictures, rows, strict=True):
            try:
                decompress(self._data[self._offsets[row] : self._offsets[row + 1]], picture)
            except (RuntimeError, ValueError) as error:
                raise ValueError(
                    f"{self.file}: picture {row} is damaged ({error}); remove {self.file.parent} and collect again"
                ) from None
        return pictures


def write_pictures(file: Path, episodes: Iterable[np.ndarray]) -> str:
    """Writes each episode's uint8 pictures (num_frames, height, width, channels); returns their checksum."""
    digest, offsets, packed = hashlib.sha256(), [0], []
    for pictures in episodes:
        pictures = np.ascontiguousarray(pictures)
        digest.update(memoryview(pictures).cast("B"))
        for picture in pictures:
            packed.append(compress(picture))
            offsets.append(offsets[-1] + len(packed[-1]))
    with file.open("wb") as stream:
        stream.write(np.asarray(offsets, "<i8").tobytes())
        stream.writelines(packed)
        stream.flush()
        os.fsync(stream.fileno())
    return digest.hexdigest()
