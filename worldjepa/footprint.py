"""What a run costs: time per stage, and the peak memory of a process with all its children."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from worldjepa.files import write_text

FACTS_FILE = "facts.json"


class Footprint:
    """Adds up seconds per stage and the peak memory in a run's ``facts.json``, over all sittings of the run."""

    def __init__(self, run_dir: Path):
        self.path = run_dir / FACTS_FILE
        self.facts: dict[str, object] = json.loads(self.path.read_text()) if self.path.is_file() else {}

    def note(self, **facts: object) -> None:
        """Writes down facts, atomically."""
        self.facts.update(facts)
        write_text(self.path, json.dumps(self.facts, indent=1))

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures a stage; a stage that is repeated or resumed adds to what it took before."""
        began = time.monotonic()
        with PeakMemory() as memory:
            try:
                yield
            finally:
                minutes = f"minutes_{name}"
                self.note(
                    **{
                        minutes: round(float(self.facts.get(minutes, 0.0)) + (time.monotonic() - began) / 60, 3),
                        "peak_memory_gb": round(max(float(self.facts.get("peak_memory_gb", 0.0)), memory.peak_gb), 3),
                    }
                )

    @property
    def minutes(self) -> float:
        """Minutes of all stages together."""
        return round(sum(float(value) for key, value in self.facts.items() if key.startswith("minutes_")), 2)


class PeakMemory:
    """Watches this process and its children. Pages that several of them share, or that are mapped from a file, are
    counted once: each process adds its proportional share (PSS), where the system tells it."""

    def __init__(self, interval: float = 1.0):
        self.interval = interval
        self.peak_gb = 0.0

    def __enter__(self) -> PeakMemory:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        this = psutil.Process()
        while True:
            total = 0
            for process in [this, *this.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    memory = process.memory_full_info()
                    total += getattr(memory, "pss", 0) or memory.rss
            self.peak_gb = max(self.peak_gb, total / 1e9)
            if self._stop.wait(self.interval):
                return
