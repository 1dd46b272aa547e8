"""Search for a plan: pure functions of a cost, one random stream per environment."""

from worldjepa.planners.cem import CEM
from worldjepa.planners.gradient import Gradient
from worldjepa.planners.icem import ICEM
from worldjepa.planners.mppi import MPPI
from worldjepa.planners.noise import BlockNoise, ColouredNoise
from worldjepa.planners.planner import Planner

__all__ = ["CEM", "ICEM", "MPPI", "BlockNoise", "ColouredNoise", "Gradient", "Planner"]
