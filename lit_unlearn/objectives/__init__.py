"""Objectives: pure losses, and the classes that give them rows, a weight and a schedule."""

from lit_unlearn.objectives.adversarial import Adversarial
from lit_unlearn.objectives.bild import BiLD
from lit_unlearn.objectives.distillation import (
    BidirectionalDistillation,
    ForwardKL,
    GeneralizedJSD,
    ReverseKL,
)
from lit_unlearn.objectives.everywhere import DeclineEverywhere
from lit_unlearn.objectives.flat import FLAT
from lit_unlearn.objectives.jensun import JensUn
from lit_unlearn.objectives.latent import LatentAdversarial
from lit_unlearn.objectives.likelihood import BST, TNPO, WGA, CrossEntropy, GradientAscent, SatImp
from lit_unlearn.objectives.objective import LogitObjective, Objective, Reader, Terms
from lit_unlearn.objectives.preference import DPO, NPO, AnswerPreservation, SimNPO
from lit_unlearn.objectives.representation import (
    RMU,
    AdaptiveRMU,
    HiddenObjective,
    HiddenRetain,
    RepresentationRerouting,
)
from lit_unlearn.objectives.schedule import Constant, LinearDecay, LinearWarmup, Schedule
from lit_unlearn.objectives.self_distillation import (
    CEU,
    UNDIAL,
    LogitFlattening,
    MaximumEntropy,
    Unilogit,
)
from lit_unlearn.objectives.sharpness import SharpnessAware

__all__ = ["BST", "CEU", "DPO", "FLAT", "NPO", "RMU", "TNPO", "UNDIAL", "WGA", "AdaptiveRMU"]
__all__ += ["Adversarial", "AnswerPreservation", "BiLD", "BidirectionalDistillation", "Constant"]
__all__ += ["CrossEntropy", "DeclineEverywhere", "ForwardKL", "GeneralizedJSD", "GradientAscent"]
__all__ += [
    "HiddenObjective",
    "HiddenRetain",
    "JensUn",
    "LatentAdversarial",
    "LinearDecay",
    "LinearWarmup",
]
__all__ += ["LogitFlattening", "LogitObjective", "MaximumEntropy", "Objective", "Reader"]
__all__ += ["RepresentationRerouting", "ReverseKL", "SatImp", "Schedule", "SharpnessAware"]
__all__ += ["SimNPO", "Terms", "Unilogit"]
