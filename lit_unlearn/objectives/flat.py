"""FLAT: an f-divergence between a template answer and the answer to be forgotten."""

from collections.abc import Callable
from math import log
from typing import Literal

from torch import Tensor
from torch.nn import functional

from lit_unlearn.objectives.objective import LogitObjective, Terms, targets
from lit_unlearn.objectives.row_values import answer_pairs, log_likelihood, row_means
from lit_unlearn.objectives.schedule import Schedule
from lit_unlearn.types import TokenBatch

Divergence = Literal["total_variation", "kl", "pearson", "jensen_shannon"]


def total_variation(template: Tensor, forget: Tensor) -> Tensor:
    """``-tanh(P_e) / 2 + tanh(P_f) / 2``; g*(v) = tanh(v) / 2, f*(u) = u."""
    return (forget.tanh() - template.tanh()) / 2


def kl(template: Tensor, forget: Tensor) -> Tensor:
    """``-P_e + exp(P_f - 1)``; g*(v) = v, f*(u) = exp(u - 1)."""
    return (forget - 1).exp() - template


def pearson(template: Tensor, forget: Tensor) -> Tensor:
    """``-P_e + P_f^2 / 4 + P_f``; g*(v) = v, f*(u) = u^2 / 4 + u."""
    return forget**2 / 4 + forget - template


def jensen_shannon(template: Tensor, forget: Tensor) -> Tensor:
    """``softplus(-P_e) + softplus(P_f) - 2 ln 2``; g*(v) = ln(2 / (1 + e^-v)), f*(u) = -ln(2-e^u).

    0 where both are 0.
    """
    return functional.softplus(-template) + functional.softplus(forget) - 2 * log(2)


LOSSES: dict[Divergence, Callable[[Tensor, Tensor], Tensor]] = {
    "total_variation": total_variation,
    "kl": kl,
    "pearson": pearson,
    "jensen_shannon": jensen_shannon,
}
"""``-g*(P_e) + f*(g*(P_f))`` of each divergence: ``[G]`` mean token probabilities of the template
and of the forgotten answer -> ``[G]``."""


class FLAT(LogitObjective):
    """Tell template answer and forgotten answer apart: raise the one, lower the other.

    Needs neither retain data nor a reference. The rows bring the template (a refusal) as preferred
    and the answer to be forgotten as rejected. Logs `template` and `forgotten`, the mean
    probability of their tokens. Without unit, one value per pair.

    Formula: -g*(P_e) + f*(g*(P_f)), with P the mean probability of the answer's tokens, of the
        template (e) and of the forgotten answer (f); TV: (tanh P_f - tanh P_e) / 2.
    Source: Wang et al. 2024, arXiv 2410.11143, Table 2 for g* and f*.
    Needs: answers, pairs.
    Cost: student 2, teacher 0.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained; None for all.
        divergence: `total_variation`, `kl`, `pearson` or `jensen_shannon`.
    """

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        positions: int | None = None,
        divergence: Divergence = "total_variation",
    ) -> None:
        super().__init__(weight, schedule, positions)
        self.divergence: Divergence = divergence

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        preferred, rejected = answer_pairs(batch.groups)
        p = log_likelihood(student_logits, targets(batch, self)).exp()
        means = row_means(p, batch.student.rows, len(batch))
        template, forgotten = means[preferred], means[rejected]
        values = LOSSES[self.divergence](template, forgotten)
        statistics = {"template": template.detach(), "forgotten": forgotten.detach()}
        return Terms(values, preferred, statistics)
