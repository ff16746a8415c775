"""Preference losses: make one answer less likely, alone or against another that is preferred.

The log-probability of an answer is the sum over its tokens unless a loss says otherwise, so that
beta means the same as in the papers. Shapes: ``B`` rows, ``G`` pairs of rows; one value per row or
pair.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lit_unlearn.errors import InputError, ranged
from lit_unlearn.objectives import losses
from lit_unlearn.objectives.objective import LogitObjective, Terms, present, row_means, row_sums
from lit_unlearn.types import TokenBatch

__all__ = ["DPO", "NPO", "AnswerPreservation", "SimNPO"]
__all__ += ["answer_pairs", "npo", "preference", "simnpo"]

_REPAIR = "for the limit of 0 use GradientAscent"


def preference(margin: Tensor, beta: float) -> Tensor:
    """Return ``-(2 / beta) log sigmoid(beta margin)``: positive, ``(2 / beta) ln 2`` at margin 0.

    ``margin`` is ``[n]``, the lead of the preferred side in nats, and so is the loss. Its gradient
    is ``-2 sigmoid(-beta margin)``.
    """
    return -(2 / beta) * functional.logsigmoid(beta * margin)


def npo(log_p: Tensor, reference_log_p: Tensor, beta: float) -> Tensor:
    """Return the NPO loss, ``[B]`` in nats. Zhang et al. 2024, arXiv 2404.05868, Eq. 3.

    ``-(2 / beta) log sigmoid(-beta (log_p - reference_log_p))``, from the answers'
    log-probabilities ``[B]`` in nats. As beta -> 0 its gradient tends to that of gradient ascent.
    """
    return preference(reference_log_p - log_p, beta)


def simnpo(mean_nll: Tensor, beta: float, delta: float) -> Tensor:
    """Return the SimNPO loss, NPO without a reference. Fan et al. 2024, arXiv 2410.07163.

    ``-(2 / beta) log sigmoid(beta (NLL / |y| - delta))``, ``[B]`` in nats per token: NPO per token,
    with a reference that gives every token of the answer the log-probability ``-delta``. The paper
    writes ``gamma = beta delta``.
    """
    return preference(mean_nll - delta, beta)


@dataclass(kw_only=True)
class NPO(LogitObjective):
    """Negative preference optimisation: less likely than at the reference, and then no further.

    The reference is the teacher; give the rows no context. Logs `log_ratio`, the answer's
    log-probability minus that at the reference. Unit: nats per row.

    Formula: -(2/beta) log sigmoid(-beta (l - l_ref)), per row, with l the sum of log p over the
        answer; (2/beta) ln 2 at the reference, GradientAscent's direction as beta -> 0.
    Source: Zhang et al. 2024, arXiv 2404.05868, Eq. 3.
    Needs: answers, teacher.
    Cost: student 1, teacher 1.

    Args:
        beta: Inverse temperature. Sums over answers need small values (0.1); values published for
            mean log-probabilities do not carry over.
    """

    needs_teacher = True
    needs_answers = True
    statistics = ("log_ratio",)
    beta: float = ranged(0.1, 0, above=True, repair=_REPAIR)

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        log_p = _answers(logits, batch, self)
        reference = _answers(present(teacher_logits), batch, self)
        rows = torch.arange(len(batch), device=log_p.device)
        ratio = (log_p - reference).detach()
        return Terms(npo(log_p, reference, self.beta), rows, {"log_ratio": ratio})


@dataclass(kw_only=True)
class SimNPO(LogitObjective):
    """NPO without a reference: by the answer's mean log-probability per token.

    Logs `nll`, the mean over the answer's tokens. Unit: nats per token, one value per row.

    Formula: -(2/beta) log sigmoid(beta (NLL/|y| - delta)), per row; the paper's gamma is
        beta delta.
    Source: Fan et al. 2024, arXiv 2410.07163.
    Needs: answers.
    Cost: student 1, teacher 0.

    Args:
        weight: Factor of the objective's gradient in the update; published runs on TOFU have 0.125
            beside a retain loss of weight 1.
        beta: Inverse temperature; published: 4.5 on TOFU, 0.1 on WMDP; those for MUSE are for raw
            logits.
        delta: Mean negative log-likelihood per token at which the loss aims, in nats.
    """

    needs_answers = True
    statistics = ("nll",)
    beta: float = ranged(4.5, 0, above=True, repair=_REPAIR)
    delta: float = 0.0

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        log_p = losses.log_likelihood(logits, self.targets(batch))
        nll = row_means(-log_p, batch.student.rows, len(batch))
        rows = torch.arange(len(batch), device=nll.device)
        return Terms(simnpo(nll, self.beta, self.delta), rows, {"nll": nll.detach()})


@dataclass(kw_only=True)
class DPO(LogitObjective):
    """Prefer one answer over another, relative to the reference.

    With a refusal as preferred and the gold answer as rejected it is IdkDPO; with a made-up answer
    as preferred it is AltPO. The reference is the teacher; give the rows no context. Logs `margin`,
    the preferred answer's lead minus its lead at the reference. Unit: nats per pair.

    Formula: -(2/beta) log sigmoid(beta ([l - l_ref](preferred) - [l - l_ref](rejected))), per
        pair, with l the sum of log p over the answer; (2/beta) ln 2 at the reference.
    Source: Rafailov et al. 2023, arXiv 2305.18290, Eq. 7, times 2/beta as NPO; for unlearning
        Maini et al. 2024, arXiv 2401.06121; AltPO: Mekala et al. 2024, arXiv 2409.13474.
    Needs: answers, teacher, pairs.
    Cost: student 2, teacher 2.

    Args:
        beta: Inverse temperature.
    """

    needs_teacher = True
    needs_answers = True
    needs_pairs = True
    statistics = ("margin",)
    beta: float = ranged(0.1, 0, above=True, repair=_REPAIR)

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        preferred, rejected = answer_pairs(batch.groups)
        ratio = _answers(logits, batch, self)
        ratio = ratio - _answers(present(teacher_logits), batch, self)
        margin = ratio[preferred] - ratio[rejected]
        return Terms(preference(margin, self.beta), preferred, {"margin": margin.detach()})


@dataclass(kw_only=True)
class AnswerPreservation(LogitObjective):
    """Keep rows answered: prefer the answer over a refusal, without a reference.

    The retain half of IDK+AP: the rows to be kept have their answer as preferred and a refusal as
    rejected. Logs `margin`, the answer's lead in log-probability. Unit: nats per pair.

    Formula: -(1/beta) log sigmoid(beta (l(preferred) - l(rejected))), per pair, with l the sum of
        log p over the answer.
    Source: Yuan et al. 2024, arXiv 2410.08109.
    Needs: answers, pairs.
    Cost: student 2, teacher 0.

    Args:
        beta: Inverse temperature.
    """

    needs_answers = True
    needs_pairs = True
    statistics = ("margin",)
    beta: float = ranged(0.1, 0, above=True, repair=_REPAIR)

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        preferred, rejected = answer_pairs(batch.groups)
        log_p = _answers(logits, batch, self)
        margin = log_p[preferred] - log_p[rejected]
        return Terms(preference(margin, self.beta) / 2, preferred, {"margin": margin.detach()})


def _answers(logits: Tensor, batch: TokenBatch, objective: LogitObjective) -> Tensor:
    """Return ``[B]``: the log-probability of each row's answer, summed over its tokens."""
    log_p = losses.log_likelihood(logits, objective.targets(batch))
    return row_sums(log_p, batch.student.rows, len(batch))


def answer_pairs(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows with the preferred answer of each question, and those with the rejected one.

    Rows of one question share a number in ``groups`` (``[B]``); its first row is preferred. The
    results are ``[G]``, in the order of the numbers. A question that has not exactly two rows is an
    `InputError`.
    """
    numbers, counts = groups.unique(return_counts=True)
    if bool((counts != 2).any()):
        raise InputError(
            "An objective that compares two answers needs both answers of every row, first the "
            "preferred and then the rejected one. Found a row with "
            f"{int(counts[counts != 2][0])} of them; set `rejected` in the objective's data "
            "beside `answer`."
        )
    order = groups.argsort(stable=True).reshape(len(numbers), 2)
    return order[:, 0], order[:, 1]
