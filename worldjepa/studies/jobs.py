"""Jobs of studies, each in a process of its own; what came out is kept, so that a repeated study goes on."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from worldjepa.files import write_text
from worldjepa.training import num_cores, read_metrics


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
            env=_environment(one_thread),
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


def in_turns(jobs: Mapping[str, Callable[[bool], Any]]) -> dict[str, Any]:
    """What every job returned. Without a GPU each core does a job of its own, which takes two thirds of the time of one
    after the other; with one, they are done one by one.

    Args:
        jobs: name -> function; it is told whether it has the machine to itself.
    """
    at_once = num_at_once(len(jobs))
    with ThreadPoolExecutor(at_once) as pool:
        futures = {pool.submit(job, at_once == 1): name for name, job in jobs.items()}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                print(f"{done} of {len(jobs)}: {futures[future]}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {name: future.result() for future, name in futures.items()}


def num_at_once(num_jobs: int) -> int:
    """Jobs that :func:`in_turns` does side by side."""
    return 1 if torch.cuda.is_available() else min(num_cores(), num_jobs)


def spread_over(seconds: Sequence[float], num_cores: int) -> float:
    """s until all jobs are done where each of ``num_cores`` takes the next one when it is free."""
    busy = [0.0] * num_cores
    for one in seconds:
        busy[busy.index(min(busy))] += one
    return max(busy)


def seconds_in_turns(done: Mapping[str, Mapping[str, Any]]) -> float:
    """s that :func:`in_turns` takes for jobs that returned the ``seconds`` of each, wherever and whenever they ran."""
    return spread_over([job["seconds"] for job in done.values()], num_at_once(len(done)))


def run_script(name: str, words: Sequence[str], log: Path, one_thread: bool = False) -> None:
    """Runs ``scripts/<name>.py``; what it says goes to ``<log>.log``.

    Raises:
        SystemExit: it failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.with_name(f"{log.name}.log").open("a") as file:
        command = [sys.executable, f"scripts/{name}.py", *words]
        if subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=_environment(one_thread)).returncode:
            raise SystemExit(f"{' '.join(command[1:])} failed: see {file.name}; the same study goes on from there")


def collect_job(env: str, parent: Path, words: Sequence[str] = ()) -> float:
    """Fills ``<parent>/store`` unless that has been done, ``words`` being added; the seconds it took."""
    collected = parent / "collected.json"
    if not collected.is_file():
        began = time.monotonic()
        run_script("collect", (f"env={env}", f"store={parent}/store", *words), parent / "collect")
        write_text(collected, json.dumps({"seconds": time.monotonic() - began}))
    return json.loads(collected.read_text())["seconds"]


def pretrain_job(folder: Path, words: Sequence[str], measured: str, alone: bool) -> dict[str, Any]:
    """What ``scripts/pretrain.py`` measured, and ``seconds``; done unless it is there; on one core unless ``alone``.

    Args:
        folder: of the run; ``summary.json`` is written there in the end.
        words: of the command line, beside ``run_dir``.
        measured: name of the file that the run's judgement is in.
    """
    summary = folder / "summary.json"
    if not summary.is_file():
        cores = () if alone else ("train.processes=1",)
        began = time.monotonic()
        run_script("pretrain", (*words, *cores, f"run_dir={folder}"), folder, not alone)
        sitting, facts = time.monotonic() - began, json.loads((folder / "facts.json").read_text())
        # A run that was interrupted has minutes of earlier sittings; starting Python counts in this one alone.
        minutes = sum(facts.get(f"minutes_{stage}", 0.0) for stage in ("training", "judging"))
        found = json.loads((folder / measured).read_text())
        write_text(summary, json.dumps(found | {"seconds": max(sitting, 60 * minutes)}, indent=1))
    return json.loads(summary.read_text())


def _environment(one_thread: bool) -> dict[str, str] | None:
    """Of a script's process; None for this one's."""
    return {**os.environ, "OMP_NUM_THREADS": "1"} if one_thread else None


def outcomes(jobs: Sequence[dict[str, Any]], split: str, player: str, measure: str) -> list[tuple[int, int]]:
    """(successes, pairs) of each job that has the split."""
    entries = [job["planning"][split][player][measure] for job in jobs if split in job["planning"]]
    return [(entry["successes"], entry["n"]) for entry in entries]
