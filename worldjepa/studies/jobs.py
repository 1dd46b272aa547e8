"""The main job in a process of its own, as studies run it: what came out is kept, so that a repeated study goes on."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worldjepa.files import write_text
from worldjepa.training import read_metrics


def run_job(run_dir: Path, words: Sequence[str], one_thread: bool = False) -> dict[str, Any]:
    """Runs ``scripts/train_world_model.py`` with ``words``, unless ``run_dir`` holds what came out of it.

    Args:
        run_dir: folder of the run; ``summary.json`` is written there in the end.
        words: of the command line, beside ``run_dir``.
        one_thread: for jobs that run side by side, one per core; they say nothing.

    Returns:
        ``planning`` (the table of success rates), ``facts`` (minutes and memory), ``probes`` (the last ones) and
        ``images_per_s`` (median, of training).
    """
    summary = run_dir / "summary.json"
    if not summary.is_file():
        print(f"{run_dir} ...", flush=True)
        subprocess.run(
            [sys.executable, "scripts/train_world_model.py", *words, f"run_dir={run_dir}"],
            check=True,
            stdout=subprocess.DEVNULL if one_thread else None,
            env={**os.environ, "OMP_NUM_THREADS": "1"} if one_thread else None,
        )
        rows = read_metrics(run_dir)
        outcome = {
            "planning": json.loads((run_dir / "planning.json").read_text()),
            "facts": json.loads((run_dir / "facts.json").read_text()),
            "probes": next(row for row in reversed(rows) if "eval/rankme" in row),
            "images_per_s": statistics.median(row["images_per_s"] for row in rows if "images_per_s" in row),
        }
        write_text(summary, json.dumps(outcome, indent=1))
    return json.loads(summary.read_text())


def outcomes(jobs: Sequence[dict[str, Any]], split: str, player: str, measure: str) -> list[tuple[int, int]]:
    """(successes, pairs) of each job that has the split."""
    entries = [job["planning"][split][player][measure] for job in jobs if split in job["planning"]]
    return [(entry["successes"], entry["n"]) for entry in entries]
