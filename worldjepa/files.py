"""Files that are there whole or not at all, and where data of one's own lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place beside ``path``, with its suffix, to write to; renamed to ``path`` in the end, removed after an error.

    A kill leaves either the old file or the new one.
    """
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` whole or not at all."""
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


def in_data(name: str = "") -> Path | None:
    """``name`` in the folder that the environment variable ``WORLDJEPA_DATA`` names; None where it names none."""
    folder = os.environ.get("WORLDJEPA_DATA")
    return Path(folder) / name if folder else None
