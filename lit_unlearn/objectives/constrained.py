"""The forget loss of constrained unlearning: flat logits. The constraint belongs to a weighting."""

from torch import Tensor

from lit_unlearn.objectives.objective import LogitObjective, Terms
from lit_unlearn.types import TokenBatch


def logit_flatness(student_logits: Tensor) -> Tensor:
    """``(max_v z_v - mean_v z_v)^2``: 0 where all logits are equal, unchanged by a shift.

    Args:
        student_logits: ``[N, V]``.

    Returns:
        ``[N]``, squared logits.
    """
    return (student_logits.amax(-1) - student_logits.mean(-1)) ** 2


class LogitFlattening(LogitObjective):
    """Flat logits wherever an answer token is predicted: the forget loss of PDU.

    PDU minimises it subject to a bound on the retain loss, whose dual variable is the business of
    a weighting. Unit: squared logits per position.

    Formula: (max_v z_v - mean_v z_v)^2, per token.
    Source: Entesari et al. 2025 (PDU), arXiv 2506.05314.
    Needs: nothing.
    Cost: student 1, teacher 0.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained; None for all.
    """

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        return Terms(logit_flatness(student_logits), batch.student.rows)
