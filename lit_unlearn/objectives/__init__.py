"""Objectives: pure losses and the modules that give them rows, a weight and a schedule."""

from lit_unlearn.objectives.adversarial import Adversarial
from lit_unlearn.objectives.distillation import (
    BidirectionalDistillation,
    ForwardKL,
    GeneralizedJSD,
    ReverseKL,
)
from lit_unlearn.objectives.likelihood import CrossEntropy
from lit_unlearn.objectives.objective import LogitObjective, Objective
from lit_unlearn.objectives.schedule import Constant, LinearDecay, LinearWarmup, Schedule

__all__ = [
    "Adversarial",
    "BidirectionalDistillation",
    "Constant",
    "CrossEntropy",
    "ForwardKL",
    "GeneralizedJSD",
    "LinearDecay",
    "LinearWarmup",
    "LogitObjective",
    "Objective",
    "ReverseKL",
    "Schedule",
]
