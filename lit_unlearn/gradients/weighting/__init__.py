"""Weightings: from the Gramian of the objectives' gradients to their weights in the update.

A weighting only reads inner products, never a gradient. The training step gives it the Gramian of
the gradients ``c_i g_i``, in which ``c_i`` are the objectives' own weights, and multiplies the
weighting's result with them: the update is ``sum_i w_i c_i g_i``. To add a weighting, write a
subclass of `Weighting`, or of `CosineWeighting`, which handles zero and non-finite gradients.

All weightings have these properties (except `TorchJD`, which has those of that package). They
compute in float64. Norms may be from 1e-10 to 1e10, even in one Gramian, since the computation uses
cosines. Equal scaling of all gradients does not change the weights, so the update keeps the unit of
the gradients. Another order of the objectives gives the same weights in that order. Weights are
finite for zero, equal and opposite gradients. A Gramian with NaN or infinity gives NaN weights, at
which the step stops.

| file | idea |
| --- | --- |
| surgery | each gradient is corrected against every other: PCGrad, GradVac |
| consensus | no conflict, or the worst-served objective first: MGDA, CAGrad, UPGrad, DualProj |
| balanced | each objective counts alike: IMTLG, ConFIG, AlignedMTL, NashMTL |
| two_sided | forget side against retain side: OneSidedProjection (GRU, BLUR, PRISM), NGDiff |
| loss_based | factors from losses: UncertaintyWeighting, DynamicWeightAverage, DualAscent |
"""

from lit_unlearn.gradients.weighting.balanced import IMTLG, AlignedMTL, ConFIG, NashMTL
from lit_unlearn.gradients.weighting.base import CosineWeighting, Fixed, Rule, Weighting
from lit_unlearn.gradients.weighting.consensus import MGDA, CAGrad, DualProj, UPGrad
from lit_unlearn.gradients.weighting.loss_based import (
    DualAscent,
    DynamicWeightAverage,
    LossWeighting,
    UncertaintyWeighting,
)
from lit_unlearn.gradients.weighting.surgery import GradVac, PCGrad
from lit_unlearn.gradients.weighting.torchjd import TorchJD
from lit_unlearn.gradients.weighting.two_sided import NGDiff, OneSidedProjection, TwoSided

__all__ = ["IMTLG", "MGDA", "AlignedMTL", "CAGrad", "ConFIG", "CosineWeighting", "DualAscent"]
__all__ += ["DualProj", "DynamicWeightAverage", "Fixed", "GradVac", "LossWeighting", "NGDiff"]
__all__ += ["NashMTL", "OneSidedProjection", "PCGrad", "Rule", "TorchJD", "TwoSided", "UPGrad"]
__all__ += ["UncertaintyWeighting", "Weighting"]
