"""Planning terms: how bad an imagined future is. Training terms live in ``worldjepa/objectives``."""

from worldjepa.costs.goal_distance import GoalDistance

__all__ = ["GoalDistance"]
