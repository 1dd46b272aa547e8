"""``python -m worldjepa.doctor``: what works on this machine, and how to mend what does not.

Takes a few seconds, changes nothing, and ends with exit code 1 only if the main job cannot run.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from worldjepa.processor import processor_flags

GOOD, NOTE, PROBLEM = "works", "note", "problem"
REPOSITORY = Path(__file__).resolve().parent.parent
NEEDED_DISK_GB, LEAST_DISK_GB = 5.0, 1.0
NETWORK_SECONDS = 3.0


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        status: ``works``; ``note``, something optional is missing; ``problem``, the main job cannot run.
        detail: what was found.
        fix: what to do about it; empty when nothing needs doing.
    """

    status: str
    detail: str
    fix: str = ""


def check_python() -> Finding:
    found = platform.python_version()
    if sys.version_info[:2] != (3, 12):
        return Finding(
            PROBLEM, f"{found}; Python 3.12 is needed", "`uv run` picks it by .python-version; or install 3.12"
        )
    return Finding(GOOD, found)


def check_torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding(PROBLEM, f"cannot be imported: {error}", "`uv sync`, or `pip install -e .`")
    return Finding(GOOD, torch.__version__)


def check_processor() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    flags = processor_flags()
    if "amx_bf16" in flags:
        speed = "AMX: bf16 is fast"
    elif "avx512_bf16" in flags:
        speed = "AVX-512 bf16: bf16 helps"
    else:
        speed = "no bf16 instructions: float32 is taken"
    memory = _memory_gb()
    return Finding(GOOD, f"{cores} cores, {speed}" + (f", {memory:.0f} GB memory" if memory else ""))


def check_gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        return Finding(GOOD, ", ".join(f"{gpu.name} with {gpu.total_memory / 1e9:.0f} GB" for gpu in names))
    if torch.backends.mps.is_available():
        return Finding(GOOD, "Apple GPU")
    return Finding(NOTE, "none: the default run is sized for two CPU cores", "")


def check_pusht() -> Finding:
    try:
        import gymnasium

        import envs

        assert envs.__file__
        env = gymnasium.make("worldjepa/PushT-v0")
        pixels = env.reset(seed=0)[0]["pixels"]
        env.close()
    except Exception as error:  # whatever the simulator's stack throws, the reader needs it as text
        return Finding(
            PROBLEM, f"{type(error).__name__}: {error}", "`uv sync`, or `pip install -e .` in a fresh environment"
        )
    return Finding(GOOD, f"gym-pusht {_version('gym-pusht')}, pymunk {_version('pymunk')}, pictures {pixels.shape}")


def check_mujoco() -> Finding:
    if not _is_installed("mujoco"):
        return Finding(NOTE, "not installed; PushT and TwoRoom do not need it", "`pip install mujoco==3.8.1`")
    # in a process of its own: a broken OpenGL may end the process that tries it
    program = "import mujoco; mujoco.GLContext(64, 64).make_current()"
    backend = os.environ.get("MUJOCO_GL", "egl" if sys.platform == "linux" else "")
    settings = {**os.environ, **({"MUJOCO_GL": backend} if backend else {})}
    fix = "`apt install libegl1 libopengl0 libgl1-mesa-dri` and MUJOCO_GL=egl, or `apt install libosmesa6` and osmesa"
    try:
        tried = subprocess.run([sys.executable, "-c", program], env=settings, capture_output=True, text=True, timeout=5)
    except subprocess.TimeoutExpired:
        return Finding(NOTE, f"{_version('mujoco')}, but opening OpenGL ({backend}) took over 5 s", fix)
    if tried.returncode:
        words = (tried.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding(NOTE, f"{_version('mujoco')}, but OpenGL ({backend}) does not work: {words[:120]}", fix)
    return Finding(GOOD, f"{_version('mujoco')}, pictures by {backend or 'the system'}")


def check_lerobot() -> Finding:
    # asked for its version only: importing it takes ten seconds
    if not _is_installed("lerobot"):
        return Finding(NOTE, "not installed; only its datasets and policies need it", "`uv sync --extra lerobot`")
    return Finding(GOOD, _version("lerobot"))


def check_hub() -> Finding:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return Finding(NOTE, "switched off by HF_HUB_OFFLINE", "unset HF_HUB_OFFLINE to download demonstrations")
    address = urlsplit(constants.ENDPOINT)

    def connect() -> str:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname, port), timeout=NETWORK_SECONDS).close()
        return "reachable"

    answer = _within(NETWORK_SECONDS, connect)
    if answer == "reachable":
        return Finding(GOOD, answer)
    return Finding(NOTE, f"not reachable ({answer})", "work offline with data=none, or set WORLDJEPA_DATA")


def check_demonstrations() -> Finding:
    from worldjepa.datasets.demonstrations import find_demonstrations

    answer = _within(2 * NETWORK_SECONDS, find_demonstrations)
    if not isinstance(answer, tuple):
        return Finding(
            NOTE, f"could not be looked for ({answer})", "point WORLDJEPA_DATA at the folder that holds them"
        )
    place, sentence = answer
    if place is None:
        return Finding(NOTE, sentence, "point WORLDJEPA_DATA at the folder that holds them; without, results are lower")
    return Finding(GOOD, sentence)


def check_ffmpeg() -> Finding:
    try:
        import imageio_ffmpeg

        program = imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        return Finding(NOTE, f"missing, so no videos: {error}", "`pip install 'imageio[ffmpeg]'`")
    return Finding(GOOD, Path(program).name)


def check_packages() -> Finding:
    strangers = []
    for name in ("worldjepa", "envs", "policies"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            return Finding(
                PROBLEM, f"the package {name} is not found", "`uv sync`, or `pip install -e .` in this folder"
            )
        if Path(spec.origin).resolve().parent.parent != REPOSITORY:
            strangers.append(f"{name} is {spec.origin}")
    if strangers:
        # an installed distribution with a top-level package of that name silently wins over an editable install
        return Finding(
            PROBLEM, "; ".join(strangers), "uninstall the distribution that ships it, or use a fresh environment"
        )
    return Finding(GOOD, "worldjepa, envs and policies are this repository's")


def check_folder(name: str, setting: str) -> Finding:
    """Whether ``./name`` is, or could be made, a folder with room that can be written to; ``setting`` moves it."""
    folder = Path(name).resolve()
    place = folder
    while not place.exists():
        place = place.parent
    try:
        with tempfile.NamedTemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding(
            PROBLEM,
            f"{place} cannot be written: {error.strerror}",
            f"change its owner, or move it with {setting}=<folder>",
        )
    free = shutil.disk_usage(place).free / 1e9
    if free < LEAST_DISK_GB:
        return Finding(PROBLEM, f"only {free:.1f} GB free at {place}", f"free {NEEDED_DISK_GB:.0f} GB")
    if free < NEEDED_DISK_GB:
        return Finding(NOTE, f"{free:.1f} GB free at {place}, a run may take 3", f"free {NEEDED_DISK_GB:.0f} GB")
    return Finding(GOOD, f"{folder} can be written, {free:.0f} GB free")


CHECKS: dict[str, Callable[[], Finding]] = {
    "Python": check_python,
    "torch": check_torch,
    "processor": check_processor,
    "GPU": check_gpu,
    "packages": check_packages,
    "PushT": check_pusht,
    "videos": check_ffmpeg,
    "./runs": lambda: check_folder("runs", "run_dir"),
    "./data": lambda: check_folder("data", "env.store"),
    "demonstrations": check_demonstrations,
    "hub": check_hub,
    "LeRobot": check_lerobot,
    "MuJoCo": check_mujoco,
}


def examine(checks: dict[str, Callable[[], Finding]] = CHECKS) -> dict[str, Finding]:
    """Runs the checks in order; one that fails unexpectedly becomes a note, never a crash."""
    findings = {}
    for name, check in checks.items():
        try:
            findings[name] = check()
        except Exception as error:  # the doctor must outlive any patient
            findings[name] = Finding(NOTE, f"could not be checked: {type(error).__name__}: {error}")
    return findings


def main(checks: dict[str, Callable[[], Finding]] = CHECKS) -> int:
    """Prints a table of findings; returns the exit code."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    colours = {GOOD: "green", NOTE: "yellow", PROBLEM: "bold red"}
    table = Table("", "", "found", "what to do", title="worldjepa on this machine", title_justify="left")
    findings = examine(checks)
    for name, finding in findings.items():
        status = f"[{colours[finding.status]}]{finding.status}[/]"
        table.add_row(name, status, escape(finding.detail), escape(finding.fix))
    console = Console()
    console.print(table)
    broken = [name for name, finding in findings.items() if finding.status == PROBLEM]
    if broken:
        console.print(f"The main job cannot run: mend {', '.join(broken)} first.", style="bold red")
        return 1
    console.print("The main job can run: uv run scripts/train_world_model.py env=pusht")
    return 0


def _within(seconds: float, ask: Callable[[], Any]) -> Any:
    """What ``ask`` returns, or words saying why there is no answer in time (name look-ups know no time limit)."""
    answers: list[Any] = []

    def work() -> None:
        try:
            answers.append(ask())
        except Exception as error:
            answers.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else f"no answer within {seconds:.0f} s"


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "of unknown version"


def _memory_gb() -> float | None:
    try:
        import psutil
    except ImportError:
        return None
    return psutil.virtual_memory().total / 1e9


if __name__ == "__main__":
    sys.exit(main())
