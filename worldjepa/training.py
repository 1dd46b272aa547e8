"""The training loop: one process or several, resumable after any kill, the same numbers either way."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from worldjepa.checkpoint import (
    MODEL_FILE,
    STATE_FILE,
    load_optimizer,
    load_tensors,
    load_weights,
    optimizer_tensors,
    save_tensors,
)
from worldjepa.config import LoopSettings
from worldjepa.datasets.samples import Samples
from worldjepa.datasets.windows import Prefetcher, Windows
from worldjepa.files import write_text
from worldjepa.processor import computes_bf16

METRICS_FILE = "metrics.jsonl"
REFINEMENT_FOLDER = "refinement"
# A timed run has no last step; batches are read ahead for as many steps as anybody can wait for.
ENDLESS = 10**9


def learning_rate_factor(step: int, progress: float, settings: LoopSettings) -> float:
    """Linear warm-up over steps, then cosine over ``progress`` in [0, 1] down to ``final_lr_fraction``."""
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return warmup * (settings.final_lr_fraction + (1 - settings.final_lr_fraction) * cosine)


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """Of the random numbers of one training step: a resumed run needs no generator state."""
    # The golden ratio's bits spread neighbouring (seed, step) pairs over the 63 bits a seed may have.
    return (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + rank * 0x8CB92BA72F3D8DD7) % 2**63


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random stream of one training step that all processes share."""
    return torch.Generator().manual_seed(step_seed(seed, step))


def pick_device(device: str) -> str:
    """``auto`` -> ``cuda`` if there is one, else ``cpu``."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("train.device=cuda, but no CUDA device is visible; use train.device=cpu, or check nvidia-smi")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def pick_precision(settings: LoopSettings) -> str:
    """``auto`` -> ``bf16`` where the device has instructions for it, else ``no``."""
    if settings.precision != "auto":
        return settings.precision
    if pick_device(settings.device) == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if computes_bf16() else "no"


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pick_processes(settings: LoopSettings) -> int:
    """How many data-parallel processes this machine runs."""
    if settings.processes:
        return settings.processes
    if pick_device(settings.device) == "cuda":
        return torch.cuda.device_count()
    # Two single-thread processes beat one with two threads by about a third on small pictures.
    return min(2, num_cores())


def launch(function: Callable[..., None], arguments: tuple, num_processes: int) -> None:
    """Calls ``function(*arguments)`` in ``num_processes`` new processes that form one data-parallel group.

    Under ``accelerate launch`` or ``torchrun`` (RANK is set) the group exists already: the function is called here.
    What a process says by raising one of ``EXPECTED`` is raised here; anything else ends in that process's traceback.
    """
    if "RANK" in os.environ or num_processes == 1:
        function(*arguments)
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said = torch.multiprocessing.get_context("spawn").SimpleQueue()
    context = torch.multiprocessing.start_processes(
        _child, (function, arguments, num_processes, port, said), num_processes, join=False, start_method="spawn"
    )
    while True:
        try:
            if context.join():
                return
        except KeyboardInterrupt:
            continue  # the children got the same Ctrl-C; they save and end by themselves
        except torch.multiprocessing.ProcessExitedException:
            if said.empty():
                raise
            kind, message = said.get()
            raise {kind.__name__: kind for kind in EXPECTED}[kind](message) from None


def _child(rank: int, function: Callable[..., None], arguments: tuple, num_processes: int, port: int, said) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(num_processes),
        LOCAL_WORLD_SIZE=str(num_processes),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    threads = max(1, (os.cpu_count() or 1) // num_processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # accelerate warns where it is unset
    torch.set_num_threads(threads)
    try:
        function(*arguments)
        code = 0
    except KeyboardInterrupt:  # where nothing needs to be finished first
        said.put((Interrupted.__name__, "stopped; repeat the command to go on"))
        code = 1
    except EXPECTED as error:
        said.put((type(error).__name__, str(error)))
        code = 1
    # Not by the interpreter's own end: there, gloo's threads now and then abort a process whose work is done.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Interrupted(Exception):
    """Training stopped on request after saving; repeat the command to go on."""


EXPECTED = (Interrupted, ValueError, FloatingPointError)
"""What training tells its user in a sentence."""


class _StopRequest:
    """Ctrl-C and SIGTERM set a flag, so that a step is finished and saved before the process ends."""

    def __enter__(self) -> _StopRequest:
        self.asked = False
        self.previous = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number, frame) -> None:
        if self.asked:
            raise KeyboardInterrupt  # asked twice: now
        self.asked = True

    def __exit__(self, *_) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)


def train(
    system: nn.Module,
    windows: Windows | Samples,
    settings: LoopSettings,
    run_dir: Path,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    unit: str = "images",
    units_per_clip: int | None = None,
) -> None:
    """Trains ``system`` in place on clips or samples; keeps checkpoints and ``metrics.jsonl`` in ``run_dir``.

    A run that was killed goes on from its last checkpoint: on CPU the result is the uninterrupted run's, bit for bit
    (for a budget in steps). Every step's batch and random numbers depend on the seed and the step alone.

    Args:
        system: freshly built; its weights are replaced by the checkpoint's if there is one. It takes a batch and a
            generator and gives losses with their ``total``, and has ``update_target(progress)`` and ``model``, which is
            what is evaluated.
        evaluate: called with the model in eval mode now and then, in the first process; its numbers are logged.
        unit: what a clip is made of, for the logged speed ``<unit>_per_s``.
        units_per_clip: how many; ``settings.clip_frames`` when None.

    Raises:
        Interrupted: on Ctrl-C or SIGTERM, after saving.
        FloatingPointError: when the loss is no number; the last checkpoint is kept.
    """
    on_cpu = pick_device(settings.device) == "cpu"
    # A 1x1 convolution's gradient has strides of its own liking; the copy that is warned of is a few hundred bytes.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    accelerator = Accelerator(
        cpu=on_cpu,
        mixed_precision=pick_precision(settings),
        log_with=list(settings.trackers) or None,
        project_dir=str(run_dir),
        # BatchNorm's running statistics are the first process's: sending them round at every step costs more than
        # half the batch is worth to an average over hundreds of steps.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)],
    )
    system.to(accelerator.device)
    optimizer = torch.optim.AdamW(
        [parameter for parameter in system.parameters() if parameter.requires_grad],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        betas=(0.9, 0.98),
    )
    step, seconds = _resume(system, optimizer, run_dir, accelerator.is_main_process)
    last = settings.steps if settings.steps is not None else ENDLESS
    prepared, optimizer = accelerator.prepare(system, optimizer)
    if settings.trackers:
        accelerator.init_trackers("worldjepa")
    system.train()

    def progress_at(step: int) -> float:
        return step / settings.steps if settings.steps is not None else seconds / (60 * settings.minutes)

    evaluated = int(progress_at(step) * settings.num_evaluations)

    def evaluation_due() -> bool:
        return evaluate is not None and int(progress_at(step) * settings.num_evaluations) > evaluated

    def log(step: int, values: dict[str, float]) -> None:
        if accelerator.is_main_process:
            with open(run_dir / METRICS_FILE, "a") as file:
                file.write(json.dumps({"step": step, "seconds": round(seconds, 2), **values}) + "\n")
        accelerator.log(values, step=step)

    def log_evaluation() -> float:
        """Evaluates; returns the seconds it took, which are no training time."""
        nonlocal evaluated
        evaluated, paused = int(progress_at(step) * settings.num_evaluations), time.monotonic()
        if accelerator.is_main_process:
            log(step, {f"eval/{name}": value for name, value in _evaluated(system, evaluate).items()})
        accelerator.wait_for_everyone()
        return time.monotonic() - paused

    def save() -> None:
        if accelerator.is_main_process:
            _save(system, optimizer, run_dir, step, seconds)

    segments = Prefetcher(
        windows,
        settings.batch_size,
        settings.seed,
        range(step, last),
        accelerator.process_index,
        accelerator.num_processes,
        pin_memory=not on_cpu,
    )
    units_per_step = settings.batch_size * (settings.clip_frames if units_per_clip is None else units_per_clip)
    bar = Progress(
        TextColumn(f"training on {unit}"),
        BarColumn(),
        MofNCompleteColumn() if settings.steps is not None else TextColumn("step {task.completed}"),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[terms]}"),
        disable=not accelerator.is_local_main_process,
    )
    with bar, segments, _StopRequest() as stop:
        task = bar.add_task("", total=settings.steps, completed=step, speed="", terms="")
        lap = saved_at = time.monotonic()
        lap_step = step
        # Evaluations are not training time: ``began`` is moved on by each of them.
        began = lap - seconds
        for segment in segments:
            seconds = time.monotonic() - began
            # Ranks must agree on the time and on when to stop. A message costs little, but only a timed run needs
            # the time at every step.
            if settings.minutes is not None or step % 10 == 0:
                asked, seconds = _agree(accelerator, stop.asked, seconds)
                if asked or (settings.minutes is not None and progress_at(step) >= 1):
                    break
            progress = progress_at(step)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * learning_rate_factor(step, progress, settings)
            # Dropout and the like draw from the global stream, each process its own numbers.
            torch.manual_seed(step_seed(settings.seed, step, 1 + accelerator.process_index))
            losses = prepared(segment.to(accelerator.device), step_generator(settings.seed, step))
            accelerator.backward(losses["total"])
            norm = accelerator.clip_grad_norm_(prepared.parameters(), settings.gradient_clip)
            if not bool(torch.isfinite(norm)):
                raise FloatingPointError(
                    f"the loss or its gradient is not finite at step {step}: "
                    f"{ {name: loss.item() for name, loss in losses.items()} }; lower train.learning_rate, or set "
                    "train.precision=no; the last checkpoint is kept"
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            system.update_target(progress_at(step))
            if step % settings.log_every == 0 or step == last:
                values = {f"loss/{name}": loss.item() for name, loss in losses.items()}
                now = time.monotonic()
                speed = (step - lap_step) * units_per_step / (now - lap)
                values[f"{unit}_per_s"] = round(speed, 1)
                lap, lap_step = now, step
                log(step, values)
                terms = " ".join(f"{name[5:]} {value:.3f}" for name, value in values.items() if name[:5] == "loss/")
                bar.update(task, completed=step, speed=f"{speed:.0f} {unit}/s", terms=terms)
            if evaluation_due():
                pause = log_evaluation()
                began, lap = began + pause, lap + pause
            if time.monotonic() - saved_at > settings.checkpoint_seconds:
                save()
                saved_at = time.monotonic()
    done = progress_at(step) >= 1
    if evaluation_due():  # a budget of minutes runs out between two steps
        log_evaluation()
    for buffer in system.buffers():
        broadcast(buffer, 0)  # in place
    save()
    accelerator.wait_for_everyone()
    for tracker in accelerator.trackers:  # not end_training: it would take the process group away from what follows
        tracker.finish()
    if not done:
        raise Interrupted(f"stopped at step {step} and saved in {run_dir}; repeat the command to go on")


def write_model(model: nn.Module, about: dict[str, Any], run_dir: Path) -> None:
    """Writes ``model.safetensors``, the weights and JSON values about them, such as the environment's specification."""
    save_tensors(run_dir / MODEL_FILE, model.state_dict(), about)


def read_metrics(run_dir: Path) -> list[dict[str, float]]:
    """The whole lines of a run's ``metrics.jsonl``, and those of its second phase with steps that count on."""
    rows: list[dict[str, float]] = []
    for path in (run_dir / METRICS_FILE, run_dir / REFINEMENT_FOLDER / METRICS_FILE):
        before = max((row["step"] for row in rows), default=0)
        lines = path.read_text().splitlines() if path.is_file() else []
        whole = [json.loads(line) for line in lines if _step_of(line) < math.inf]
        rows += [{**row, "step": before + row["step"]} for row in whole]
    return rows


def is_trained(run_dir: Path) -> bool:
    """Whether a run's training has come to its end."""
    return (run_dir / MODEL_FILE).is_file()


def _evaluated(system: nn.Module, evaluate: Callable[[nn.Module], dict[str, float]]) -> dict[str, float]:
    system.eval()
    try:
        with torch.no_grad():
            return evaluate(system.model)
    finally:
        system.train()


def _agree(accelerator: Accelerator, asked: bool, seconds: float) -> tuple[bool, float]:
    """(whether any process was asked to stop, the first process's clock)."""
    if accelerator.num_processes == 1:
        return asked, seconds
    said = torch.tensor([float(asked), seconds if accelerator.is_main_process else 0.0], device=accelerator.device)
    said = accelerator.reduce(said, "sum")
    return bool(said[0] > 0), float(said[1])


def _save(system: nn.Module, optimizer, run_dir: Path, step: int, seconds: float) -> None:
    tensors = {f"system.{name}": tensor for name, tensor in system.state_dict().items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(optimizer).items()}
    save_tensors(run_dir / STATE_FILE, tensors, {"step": step, "seconds": seconds})


def _resume(system: nn.Module, optimizer, run_dir: Path, is_main: bool) -> tuple[int, float]:
    """Loads the last checkpoint, if any, and forgets metrics written after it; (step, seconds)."""
    path, metrics = run_dir / STATE_FILE, run_dir / METRICS_FILE
    if not path.is_file():
        if is_main and metrics.is_file():
            metrics.unlink()
        return 0, 0.0
    tensors, metadata = load_tensors(path)
    parts: dict[str, dict] = {"system": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, rest = name.split(".", 1)
        parts[part][rest] = tensor
    load_weights(system, parts["system"], path)
    load_optimizer(optimizer, parts["optimizer"])
    if is_main and metrics.is_file():
        rows = [line for line in metrics.read_text().splitlines() if _step_of(line) <= metadata["step"]]
        write_text(metrics, "".join(f"{line}\n" for line in rows))
    return metadata["step"], metadata["seconds"]


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return math.inf  # a line cut short by a kill
