"""FLAT: an f-divergence between a template answer and the answer to be forgotten."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Literal

from torch import Tensor
from torch.nn import functional

from lit_unlearn.objectives import losses
from lit_unlearn.objectives.objective import LogitObjective, Terms, row_means
from lit_unlearn.objectives.preference import answer_pairs
from lit_unlearn.types import TokenBatch

__all__ = ["FLAT", "LOSSES", "Divergence", "jensen_shannon", "kl", "pearson", "total_variation"]

Divergence = Literal["total_variation", "kl", "pearson", "jensen_shannon"]


def total_variation(template: Tensor, forget: Tensor) -> Tensor:
    """Return ``-tanh(P_e) / 2 + tanh(P_f) / 2``; g*(v) = tanh(v) / 2, f*(u) = u."""
    return (forget.tanh() - template.tanh()) / 2


def kl(template: Tensor, forget: Tensor) -> Tensor:
    """Return ``-P_e + exp(P_f - 1)``; g*(v) = v, f*(u) = exp(u - 1)."""
    return (forget - 1).exp() - template


def pearson(template: Tensor, forget: Tensor) -> Tensor:
    """Return ``-P_e + P_f^2 / 4 + P_f``; g*(v) = v, f*(u) = u^2 / 4 + u."""
    return forget**2 / 4 + forget - template


def jensen_shannon(template: Tensor, forget: Tensor) -> Tensor:
    """Return ``softplus(-P_e) + softplus(P_f) - 2 ln 2``, which is 0 where both are 0.

    g*(v) = ln(2 / (1 + e^-v)), f*(u) = -ln(2 - e^u).
    """
    return functional.softplus(-template) + functional.softplus(forget) - 2 * log(2)


LOSSES: dict[Divergence, Callable[[Tensor, Tensor], Tensor]] = {
    "total_variation": total_variation,
    "kl": kl,
    "pearson": pearson,
    "jensen_shannon": jensen_shannon,
}
"""Loss ``-g*(P_e) + f*(g*(P_f))`` of each divergence: ``[G]`` mean token probabilities of the
template and of the forgotten answer -> ``[G]``."""


@dataclass(kw_only=True)
class FLAT(LogitObjective):
    """Tell template answer and forgotten answer apart: raise the one, lower the other.

    It needs neither retain data nor a reference. Each row has the template (a refusal) as its
    preferred answer and the answer to be forgotten as its rejected one. Logs `template` and
    `forgotten`, the mean probability of their tokens. Unit: none, one value per pair.

    Formula: -g*(P_e) + f*(g*(P_f)), with P the mean probability of the answer's tokens, of the
        template (e) and of the forgotten answer (f); TV: (tanh P_f - tanh P_e) / 2.
    Source: Wang et al. 2024, arXiv 2410.11143, Table 2 for g* and f*.
    Needs: answers, pairs.
    Cost: student 2, teacher 0.

    Args:
        divergence: `total_variation`, `kl`, `pearson` or `jensen_shannon`.
    """

    needs_answers = True
    needs_pairs = True
    statistics = ("template", "forgotten")
    divergence: Divergence = "total_variation"

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        preferred, rejected = answer_pairs(batch.groups)
        p = losses.log_likelihood(logits, self.targets(batch)).exp()
        means = row_means(p, batch.student.rows, len(batch))
        template, forgotten = means[preferred], means[rejected]
        values = LOSSES[self.divergence](template, forgotten)
        statistics = {"template": template.detach(), "forgotten": forgotten.detach()}
        return Terms(values, preferred, statistics)
