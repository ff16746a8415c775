"""Weightings: from the Gramian of the objectives' gradients to their weights in the update.

A weighting sees inner products only, never a gradient. The training step hands it the Gramian of
the gradients ``c_i g_i`` that carry the objectives' own weights ``c_i``, and multiplies what comes
back with them: the update is ``sum_i w_i c_i g_i``. To add a weighting: subclass `Weighting`, or
`CosineWeighting`, which takes care of zero and non-finite gradients.

What all of them keep to: float64 throughout; any norms from 1e-10 to 1e10, also side by side, since
the work is done on cosines; the same weights when all gradients are scaled alike, so that the
update keeps the gradients' unit; objectives in another order give the same weights in that order;
finite weights for zero, equal and opposite gradients. A Gramian with NaN or infinity gives NaN
weights, on which the step stops. (`TorchJD` promises what that package does.)

| file | idea |
| --- | --- |
| surgery | each gradient corrected against every other: PCGrad, GradVac |
| consensus | no conflict, or the worst-served served best: MGDA, CAGrad, UPGrad, DualProj |
| balance | each objective counts alike: IMTLG, ConFIG, AlignedMTL, NashMTL |
| two_sided | what forgets against what is kept: OneSidedProjection (GRU, BLUR, PRISM), NGDiff |
| losses, constraint | factors from losses: UncertaintyWeighting, DynamicWeightAverage, DualAscent |
"""

from lit_unlearn.gradients.weighting.balanced import IMTLG, AlignedMTL, ConFIG, NashMTL
from lit_unlearn.gradients.weighting.base import CosineWeighting, Fixed, Weighting
from lit_unlearn.gradients.weighting.consensus import MGDA, CAGrad, DualProj, UPGrad
from lit_unlearn.gradients.weighting.constraint import DualAscent
from lit_unlearn.gradients.weighting.loss_based import (
    DynamicWeightAverage,
    LossWeighting,
    UncertaintyWeighting,
)
from lit_unlearn.gradients.weighting.surgery import GradVac, PCGrad
from lit_unlearn.gradients.weighting.torchjd import TorchJD
from lit_unlearn.gradients.weighting.two_sided import NGDiff, OneSidedProjection, TwoSided

__all__ = [
    "IMTLG",
    "MGDA",
    "AlignedMTL",
    "CAGrad",
    "ConFIG",
    "CosineWeighting",
    "DualAscent",
    "DualProj",
    "DynamicWeightAverage",
    "Fixed",
    "GradVac",
    "LossWeighting",
    "NGDiff",
    "NashMTL",
    "OneSidedProjection",
    "PCGrad",
    "TorchJD",
    "TwoSided",
    "UPGrad",
    "UncertaintyWeighting",
    "Weighting",
]
