"""Sharpness-aware minimisation: forget in a whole neighbourhood of the weights."""

from lit_unlearn.errors import InputError
from lit_unlearn.objectives.objective import Objective, Reader, Terms
from lit_unlearn.objectives.schedule import Schedule
from lit_unlearn.types import TokenBatch, Tokens


class SharpnessAware(Objective):
    """Trains any objective at the worst point near the weights, so that relearning is harder.

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
        objective: What is trained at the moved weights, such as NPO.
        weight: Factor of the objective's gradient in the update; that of the inner one is not
            read.
        schedule: How the weight changes over the steps; None keeps it constant.
        radius: 2-norm of the move over all trained weights.
    """

    def __init__(
        self,
        objective: Objective,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        radius: float = 0.01,
    ) -> None:
        super().__init__(weight, schedule)
        if not radius > 0:
            raise InputError(
                f"Parameter `radius` of SharpnessAware should be above 0. Found {radius}; for the "
                "gradient at the weights themselves use the inner objective alone."
            )
        if objective.perturbation:
            raise InputError(
                "Parameter `objective` of SharpnessAware should be trained at the weights as they "
                f"are. Found a {type(objective).__name__}, which moves them too; take one out."
            )
        self.objective = objective
        self.perturbation = radius
        self.needs_teacher = objective.needs_teacher

    def asks(self, batch: TokenBatch) -> list[Tokens]:
        return self.objective.asks(batch)

    def forward(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        """The inner objective's terms; the training step moves the weights (`perturbation`)."""
        terms: Terms = self.objective(batch, student, teacher)
        return terms
