"""Preference losses: make one answer less likely, alone or against another that is preferred.

Log-probabilities of an answer are sums over its tokens unless a loss says otherwise, so that beta
means the same as in the papers. Shapes: ``B`` rows, ``G`` pairs of rows; one value per row or pair.
"""

import torch
from torch import Tensor
from torch.nn import functional

from lit_unlearn.errors import InputError
from lit_unlearn.objectives.objective import LogitObjective, Terms, targets
from lit_unlearn.objectives.row_values import (
    answer_pairs,
    log_likelihood,
    present,
    row_means,
    row_sums,
)
from lit_unlearn.objectives.schedule import Schedule
from lit_unlearn.types import TokenBatch


def preference(margin: Tensor, beta: float) -> Tensor:
    """``-(2 / beta) log sigmoid(beta margin)``: positive, ``(2 / beta) ln 2`` at margin 0.

    Args:
        margin: ``[n]``, in nats: how much the preferred side is ahead.
        beta: How soon a margin is enough; the gradient is ``-2 sigmoid(-beta margin)``.

    Returns:
        ``[n]``, in nats.
    """
    return -(2 / beta) * functional.logsigmoid(beta * margin)


def npo(log_p: Tensor, reference_log_p: Tensor, beta: float) -> Tensor:
    """Negative preference optimisation. Zhang et al. 2024, arXiv 2404.05868, Eq. 3.

    ``-(2 / beta) log sigmoid(-beta (log_p - reference_log_p))``. As beta -> 0 its gradient tends to
    that of gradient ascent.

    Args:
        log_p: ``[B]`` log-probability of each answer, in nats.
        reference_log_p: ``[B]``, the reference model's.
        beta: Inverse temperature, positive.

    Returns:
        ``[B]``, in nats.
    """
    return preference(reference_log_p - log_p, beta)


def simnpo(mean_nll: Tensor, beta: float, delta: float) -> Tensor:
    """SimNPO: no reference, but the length. Fan et al. 2024, arXiv 2410.07163.

    ``-(2 / beta) log sigmoid(beta (NLL / |y| - delta))``: NPO with a reference that gives every
    token of the answer the log-probability ``-delta``, and lengths divided out. The paper writes
    ``gamma = beta delta``.

    Args:
        mean_nll: ``[B]`` mean negative log-likelihood of each answer's tokens, in nats.
        beta: Inverse temperature, positive.
        delta: Margin in nats per token.

    Returns:
        ``[B]``, in nats per token.
    """
    return preference(mean_nll - delta, beta)


class NPO(LogitObjective):
    """Negative preference optimisation: less likely than at the reference, and then no further.

    The reference is the teacher; give the rows no context. Logs `log_ratio`, how much likelier the
    answer is than at the reference. Unit: nats per row.

    Formula: -(2/beta) log sigmoid(-beta (l - l_ref)), per row, with l the sum of log p over the
        answer; (2/beta) ln 2 at the reference, GradientAscent's direction as beta -> 0.
    Source: Zhang et al. 2024, arXiv 2404.05868, Eq. 3.
    Needs: answers, teacher.
    Cost: student 1, teacher 1.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained; None for all.
        beta: Inverse temperature. Sums over answers need small values (0.1); values published for
            mean log-probabilities do not carry over.
    """

    needs_teacher = True

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        positions: int | None = None,
        beta: float = 0.1,
    ) -> None:
        super().__init__(weight, schedule, positions)
        self.beta = _positive(beta, self)

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        log_p = _answers(student_logits, batch, self)
        reference = _answers(present(teacher_logits), batch, self)
        rows = torch.arange(len(batch), device=log_p.device)
        ratio = (log_p - reference).detach()
        return Terms(npo(log_p, reference, self.beta), rows, {"log_ratio": ratio})


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
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained; None for all.
        beta: Inverse temperature; published: 4.5 on TOFU, 0.1 on WMDP; those for
            MUSE are for raw logits.
        delta: Mean negative log-likelihood per token that is aimed at, in nats.
    """

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        positions: int | None = None,
        beta: float = 4.5,
        delta: float = 0.0,
    ) -> None:
        super().__init__(weight, schedule, positions)
        self.beta, self.delta = _positive(beta, self), delta

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        log_p = log_likelihood(student_logits, targets(batch, self))
        nll = row_means(-log_p, batch.student.rows, len(batch))
        rows = torch.arange(len(batch), device=nll.device)
        return Terms(simnpo(nll, self.beta, self.delta), rows, {"nll": nll.detach()})


class DPO(LogitObjective):
    """Prefer one answer over another, relative to the reference.

    With a refusal as preferred and the gold answer as rejected it is IdkDPO; with a made-up answer
    as preferred it is AltPO. The reference is the teacher; give the rows no context. Logs `margin`,
    how far the preferred answer is ahead of where it is at the reference. Unit: nats per pair.

    Formula: -(2/beta) log sigmoid(beta ([l - l_ref](preferred) - [l - l_ref](rejected))), per
        pair, with l the sum of log p over the answer; (2/beta) ln 2 at the reference.
    Source: Rafailov et al. 2023, arXiv 2305.18290, Eq. 7, times 2/beta as NPO; for unlearning
        Maini et al. 2024, arXiv 2401.06121; AltPO: Mekala et al. 2024, arXiv 2409.13474.
    Needs: answers, teacher, pairs.
    Cost: student 2, teacher 2.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained; None for all.
        beta: Inverse temperature.
    """

    needs_teacher = True

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        positions: int | None = None,
        beta: float = 0.1,
    ) -> None:
        super().__init__(weight, schedule, positions)
        self.beta = _positive(beta, self)

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        preferred, rejected = answer_pairs(batch.groups)
        ratio = _answers(student_logits, batch, self)
        ratio = ratio - _answers(present(teacher_logits), batch, self)
        margin = ratio[preferred] - ratio[rejected]
        return Terms(preference(margin, self.beta), preferred, {"margin": margin.detach()})


class AnswerPreservation(LogitObjective):
    """Keep rows answered: prefer the answer over a refusal, without a reference.

    The retain half of IDK+AP: the rows to be kept bring their answer as preferred and a refusal as
    rejected. Logs `margin`, how much likelier the answer is. Unit: nats per pair.

    Formula: -(1/beta) log sigmoid(beta (l(preferred) - l(rejected))), per pair, with l the sum of
        log p over the answer.
    Source: Yuan et al. 2024, arXiv 2410.08109.
    Needs: answers, pairs.
    Cost: student 2, teacher 0.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained; None for all.
        beta: Inverse temperature.
    """

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        positions: int | None = None,
        beta: float = 0.1,
    ) -> None:
        super().__init__(weight, schedule, positions)
        self.beta = _positive(beta, self)

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        preferred, rejected = answer_pairs(batch.groups)
        log_p = _answers(student_logits, batch, self)
        margin = log_p[preferred] - log_p[rejected]
        return Terms(preference(margin, self.beta) / 2, preferred, {"margin": margin.detach()})


def _answers(logits: Tensor, batch: TokenBatch, objective: LogitObjective) -> Tensor:
    """``[B]`` log-probability of each row's answer, summed over its tokens."""
    log_p = log_likelihood(logits, targets(batch, objective))
    return row_sums(log_p, batch.student.rows, len(batch))


def _positive(beta: float, objective: LogitObjective) -> float:
    if beta <= 0:
        raise InputError(
            f"Parameter `beta` of {type(objective).__name__} should be positive. Found {beta}; "
            "for the limit of 0 use GradientAscent."
        )
    return beta
