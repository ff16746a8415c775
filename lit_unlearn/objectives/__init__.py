"""Objectives: pure losses and the modules that give them rows, a weight and a schedule."""

from lit_unlearn.objectives.adversarial import Adversarial
from lit_unlearn.objectives.ascent import BST, TNPO, WGA, GradientAscent, SatImp
from lit_unlearn.objectives.bild import BiLD
from lit_unlearn.objectives.constrained import LogitFlattening
from lit_unlearn.objectives.cross_entropy import CrossEntropy
from lit_unlearn.objectives.distillation import (
    BidirectionalDistillation,
    ForwardKL,
    GeneralizedJSD,
    ReverseKL,
)
from lit_unlearn.objectives.flat import FLAT
from lit_unlearn.objectives.latent import LatentAdversarial
from lit_unlearn.objectives.objective import LogitObjective, Objective
from lit_unlearn.objectives.preference import DPO, NPO, AnswerPreservation, SimNPO
from lit_unlearn.objectives.representation import (
    RMU,
    AdaptiveRMU,
    HiddenObjective,
    HiddenRetain,
    RepresentationRerouting,
)
from lit_unlearn.objectives.schedule import Constant, LinearDecay, LinearWarmup, Schedule
from lit_unlearn.objectives.self_distillation import CEU, UNDIAL, MaximumEntropy, Unilogit
from lit_unlearn.objectives.sharpness import SharpnessAware

__all__ = [
    "BST",
    "CEU",
    "DPO",
    "FLAT",
    "NPO",
    "RMU",
    "TNPO",
    "UNDIAL",
    "WGA",
    "AdaptiveRMU",
    "Adversarial",
    "AnswerPreservation",
    "BiLD",
    "BidirectionalDistillation",
    "Constant",
    "CrossEntropy",
    "ForwardKL",
    "GeneralizedJSD",
    "GradientAscent",
    "HiddenObjective",
    "HiddenRetain",
    "LatentAdversarial",
    "LinearDecay",
    "LinearWarmup",
    "LogitFlattening",
    "LogitObjective",
    "MaximumEntropy",
    "Objective",
    "RepresentationRerouting",
    "ReverseKL",
    "SatImp",
    "Schedule",
    "SharpnessAware",
    "SimNPO",
    "Unilogit",
]
