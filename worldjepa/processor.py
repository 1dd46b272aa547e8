"""What this machine's processor can do."""

from __future__ import annotations

from pathlib import Path


def processor_flags() -> set[str]:
    """What Linux says of the first core, such as ``avx2``; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return set()
    lines = (line for line in path.read_text().splitlines() if line.startswith("flags"))
    return set(next(lines, "").split())


def computes_bf16() -> bool:
    """Whether bf16 has instructions of its own; without them a training step takes several times what float32 takes."""
    return bool(processor_flags() & {"amx_bf16", "avx512_bf16"})
