"""Planning terms: how bad an imagined future is. Training terms live in ``worldjepa/objectives``."""

from worldjepa.costs.goal_distance import GoalDistance
from worldjepa.costs.predicted_return import PredictedReturn

__all__ = ["GoalDistance", "PredictedReturn"]
