"""Sharpness-aware minimisation: forget in a whole neighbourhood of the weights."""

from dataclasses import dataclass

from lit_unlearn.errors import InputError, ranged
from lit_unlearn.objectives.objective import Reader, Terms, WrappingObjective
from lit_unlearn.types import TokenBatch, Tokens

__all__ = ["SharpnessAware"]

_REPAIR = "for the gradient at the weights themselves use the inner objective alone"


@dataclass(kw_only=True)
class SharpnessAware(WrappingObjective):
    """Train any objective at the worst point near the weights, so that relearning is harder.

    SAM: the gradient is not taken at theta but at ``theta + radius g / |g|``, with g the gradient
    of all the objective's rows of the step over all trained weights. For the other objectives
    nothing moves. The loss and the gradient that a weighting sees are those at the moved weights.
    Logs `unmoved`, the loss at theta. Unit: that of the inner objective.

    Formula: the inner loss at theta + radius g / |g|, g its gradient at theta.
    Source: Foret et al. 2020, arXiv 2010.01412, Eq. 2; for unlearning Fan et al. 2025, arXiv
        2502.05374.
    Needs: as the inner objective.
    Cost: student twice, teacher twice what the inner objective reads.

    Args:
        objective: Objective that is trained at the moved weights, such as NPO.
        radius: 2-norm of the move over all trained weights.
    """

    logs = "unmoved"
    radius: float = ranged(0.01, 0, above=True, repair=_REPAIR)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective.perturbation:
            raise InputError(
                "Parameter `SharpnessAware.objective` should be an objective that does not move "
                f"the weights. Found a {type(self.objective).__name__}, which moves them too; take "
                "one out."
            )
        self.perturbation = self.radius

    def teacher_inputs(self, batch: TokenBatch) -> list[Tokens]:
        return self.objective.teacher_inputs(batch)

    def __call__(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        return self.objective(batch, student, teacher)  # the step moves the weights
