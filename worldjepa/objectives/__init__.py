"""Training terms. What a planner minimises lives in ``worldjepa.costs``."""

from worldjepa.objectives.inverse_dynamics import InverseDynamics
from worldjepa.objectives.prediction import OneStepAngle, OneStepError, RolloutAngle, RolloutError
from worldjepa.objectives.reward import RewardError
from worldjepa.objectives.sigreg import LatentSigReg, SigReg
from worldjepa.objectives.temporal_variance import TemporalVariance
from worldjepa.objectives.vicreg import LatentVicReg, VicReg
from worldjepa.objectives.weighted_sum import WeightedSum

__all__ = [
    "InverseDynamics",
    "LatentSigReg",
    "LatentVicReg",
    "OneStepAngle",
    "OneStepError",
    "RewardError",
    "RolloutAngle",
    "RolloutError",
    "SigReg",
    "TemporalVariance",
    "VicReg",
    "WeightedSum",
]
