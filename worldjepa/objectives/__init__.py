"""Training terms. What a planner minimises lives in ``worldjepa.costs``."""

from worldjepa.objectives.inverse_dynamics import InverseDynamics
from worldjepa.objectives.prediction import OneStepError, RolloutError
from worldjepa.objectives.reward import RewardError
from worldjepa.objectives.sigreg import LatentSigReg, SigReg
from worldjepa.objectives.temporal_variance import TemporalVariance
from worldjepa.objectives.vicreg import LatentVicReg, VicReg
from worldjepa.objectives.weighted_sum import WeightedSum

__all__ = [
    "InverseDynamics",
    "LatentSigReg",
    "LatentVicReg",
    "OneStepError",
    "RewardError",
    "RolloutError",
    "SigReg",
    "TemporalVariance",
    "VicReg",
    "WeightedSum",
]
