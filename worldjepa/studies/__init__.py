"""Studies: each figure we state, as a command that measures it again. ``python scripts/study.py <name>``."""
