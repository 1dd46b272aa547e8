"""Episodes on disk, clips out of them, and recorded demonstrations."""

from worldjepa.datasets.demonstrations import Demonstrations, find_demonstrations, load_pusht_demonstrations
from worldjepa.datasets.store import EpisodeStore, is_held_out
from worldjepa.datasets.windows import Prefetcher, Windows

__all__ = [
    "Demonstrations",
    "EpisodeStore",
    "Prefetcher",
    "Windows",
    "find_demonstrations",
    "is_held_out",
    "load_pusht_demonstrations",
]
