import numpy as np
import pytest

from worldjepa.types import EnvSpec, Episode, FieldSpec


@pytest.fixture
def spec():
    """Pictures of 7 x 11, 2 raw actions, 5 state numbers."""
    fields = {
        "pixels": FieldSpec("uint8", (7, 11, 3)),
        "proprioception": FieldSpec("float32", (2,)),
        "action": FieldSpec("float32", (2,)),
        "state": FieldSpec("float32", (5,)),
    }
    return EnvSpec("test/Env-v0", fields, (-1.0, -1.0), (1.0, 1.0), ("a", "b", "c", "d", "e"), 10.0)


@pytest.fixture
def make_episode():
    """``make_episode(number, length)``: every column tells its episode and frame; state is (number, frame, ...)."""

    def make(number: int, length: int, policy: str = "scripted", group: str | None = None) -> Episode:
        rng = np.random.default_rng(number)
        frame = np.arange(length, dtype=np.float32)
        state = np.stack([np.full(length, number, np.float32), frame, frame, frame, frame], 1)
        action = np.stack([frame, 1000 * number + frame], 1).astype(np.float32)
        action[-1] = 0
        arrays = {
            "pixels": rng.integers(0, 256, (length, 7, 11, 3), dtype=np.uint8),
            "proprioception": state[:, :2].copy(),
            "action": action,
            "state": state,
        }
        return Episode(arrays, group or f"{policy}/{number}", policy)

    return make
