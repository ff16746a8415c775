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
from lit_unlearn.objectives.masc import MASC
from lit_unlearn.objectives.objective import LogitObjective, Objective, Reader, Terms
from lit_unlearn.objectives.palu import PALU
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

__all__ = ["BST", "CEU", "DPO", "FLAT", "MASC", "NPO", "PALU", "RMU", "TNPO", "UNDIAL", "WGA"]
__all__ += ["AdaptiveRMU", "Adversarial", "AnswerPreservation", "BiLD", "BidirectionalDistillation"]
__all__ += ["Constant", "CrossEntropy", "DeclineEverywhere", "ForwardKL", "GeneralizedJSD"]
__all__ += ["GradientAscent", "HiddenObjective", "HiddenRetain", "JensUn", "LatentAdversarial"]
__all__ += ["LinearDecay", "LinearWarmup", "LogitFlattening", "LogitObjective", "MaximumEntropy"]
__all__ += ["Objective", "Reader", "RepresentationRerouting", "ReverseKL", "SatImp", "Schedule"]
__all__ += ["SharpnessAware", "SimNPO", "Terms", "Unilogit"]
