"""Objectives on the likelihood of given answers."""

from torch import Tensor

from lit_unlearn.objectives import losses
from lit_unlearn.objectives.objective import LogitObjective, Terms, targets
from lit_unlearn.types import TokenBatch


class CrossEntropy(LogitObjective):
    """Make the answers of the rows likely: plain fine-tuning on them.

    With refusals as answers it is refusal training; with gold or the teacher's own answers it is
    the usual retain loss. Unit: nats per answer token.

    Formula: NLL = -log p, per token.
    Source: with refusals Maini et al. 2024 (IdkNLL), arXiv 2401.06121.
    Needs: answers.
    Cost: student 1, teacher 0.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained; None for all.
    """

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        values = losses.cross_entropy(student_logits, targets(batch, self))
        return Terms(values, batch.student.rows)
