"""Pure losses on logits at answer positions.

Shapes: ``N`` predictions, ``V`` vocabulary. Every loss returns one value per prediction, ``[N]``,
and leaves averaging to the caller. Teachers' logits carry no gradient. Units: nats, or logits where
a loss compares raw logits.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["BidirectionalTerms", "Entries", "Push", "Space"]
__all__ += ["bidirectional", "cross_entropy", "exchange_tokens", "forward_kl", "generalized_jsd"]
__all__ += ["inside_text", "log_likelihood", "reverse_kl"]

Space = Literal["logit", "log_probability"]
Push = Literal["lower", "match", "hinge", "unlikelihood", "suppress"]
Entries = Literal["uniform", "probability"]

_TINY = 1e-6
"""Probability below which unlikelihood fades, since dividing by it would not be exact."""


def cross_entropy(student_logits: Tensor, target_ids: Tensor) -> Tensor:
    """Return the negative log-likelihood of the target tokens (``[N]``, int64), in nats."""
    return functional.cross_entropy(student_logits, target_ids, reduction="none")


def log_likelihood(student_logits: Tensor, target_ids: Tensor) -> Tensor:
    """Return the log-probability of each target token (``[N]``, int64), in nats."""
    return -cross_entropy(student_logits, target_ids)


def forward_kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return KL(teacher || student), ``[N]`` in nats; it covers all modes of the teacher."""
    return _kl(teacher_logits.log_softmax(-1), student_logits.log_softmax(-1))


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return KL(student || teacher), ``[N]`` in nats; it seeks one of the teacher's modes."""
    return _kl(student_logits.log_softmax(-1), teacher_logits.log_softmax(-1))


def generalized_jsd(student_logits: Tensor, teacher_logits: Tensor, beta: float) -> Tensor:
    """Return the generalised Jensen-Shannon divergence, in nats, of ``[N, V]`` logits.

    Agarwal et al. 2024, arXiv 2306.13649, Eq. 1: ``beta KL(T || m) + (1 - beta) KL(S || m)`` with
    ``m = beta T + (1 - beta) S`` and beta in (0, 1). Divided by beta it tends to the forward KL as
    beta -> 0.
    """
    student, teacher = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    weights = torch.tensor([beta, 1 - beta], dtype=student.dtype, device=student.device).log()
    mixture = torch.logaddexp(teacher + weights[0], student + weights[1])
    return beta * _kl(teacher, mixture) + (1 - beta) * _kl(student, mixture)


def _kl(first: Tensor, second: Tensor) -> Tensor:
    """Return the KL of two arrays of log-probabilities over the last axis."""
    return (first.exp() * (first - second)).sum(-1)


@dataclass(frozen=True)
class BidirectionalTerms:
    """The two directions of the distillation at each prediction, ``[N]`` each."""

    pull: Tensor
    """Distance to the teacher on the teacher's likely tokens (C+)."""
    push: Tensor
    """Penalty on tokens that are likely for the student and not for the teacher (C-)."""
    outside_mass: Tensor
    """Probability of the student outside C+ and C-, which the loss leaves free; no gradient."""


def bidirectional(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    top_k: int,
    push_top_k: int,
    space: Space = "log_probability",
    push: Push = "lower",
    entries: Entries = "probability",
    margin: float = 0.0,
    delta: float = 2.0,
) -> BidirectionalTerms:
    """Return the terms of bidirectional top-K logit distillation, from logits ``[N, V]``.

    After Zhong, Liu and Zhu (arXiv 2604.15482), in outline; the pull on raw logits with a Huber
    distance is Eq. 3 of DUET (arXiv 2601.21283), the constants are ours. With teacher logits g_T
    and student logits g_S, log-probabilities l_T and l_S: C+ = top-K of g_T, C- = top-K' of g_S
    without C+ (chosen without gradient).

    * pull = mean over C+ of huber(l_S - l_T), the mean with equal weights or weighted by p_T
    * push, mean over C-, with equal weights or weighted by sg[p_S]: ``lower``
    huber(relu(l_S - l_T)); ``match`` huber(l_S - l_T), which also raises; ``hinge``
    relu(l_S - l_T + margin). The other two act where l_S > l_T, always weighted by sg[p_S]:
    ``unlikelihood`` -log(1 - p_S) / sg[p_S] (Welleck et al. 2020, arXiv 1908.04319, Eq. 4, over its
    size), strongest where the student is surest; ``suppress`` l_S.

    K and K' are ``top_k`` and ``push_top_k``. Under ``space`` logit, pull and ``match`` compare g
    in place of l: the literal reading, which depends on a shift of all logits. ``margin`` is in
    nats; ``delta``, the gap at which the Huber distance turns from quadratic to linear, has the
    unit of the space. Weights by probability sum to 1.
    """
    top_k = min(top_k, student_logits.shape[-1])
    push_top_k = min(push_top_k, student_logits.shape[-1] - top_k)
    raw = space == "logit"
    trained = not raw or push != "match"
    with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
        log_student = student_logits.log_softmax(-1)
    positive = teacher_logits.topk(top_k, dim=-1).indices
    masked = student_logits.detach().scatter(-1, positive, -torch.inf)
    negative = masked.topk(push_top_k, dim=-1).indices
    # From here on no tensor is as wide as the vocabulary.
    support = torch.cat([positive, negative], dim=-1)
    log_p = log_student.gather(-1, support)
    near = student_logits.gather(-1, support) - teacher_logits.gather(-1, support)
    gap = log_p - teacher_logits.log_softmax(-1).gather(-1, support) if trained else near
    near = near if raw else gap
    weights = _entry_weights(teacher_logits.gather(-1, positive), entries)
    pull = (weights * _huber(near[:, :top_k], delta)).sum(-1)
    pushed = torch.zeros_like(pull)
    if push_top_k:
        gap, near = gap[:, top_k:], near[:, top_k:]
        liked = masked.gather(-1, negative)
        if push in ("unlikelihood", "suppress"):
            away = _above_teacher(gap, log_p[:, top_k:], student_logits, push)
            entries = "probability"
        elif push == "hinge":
            away = (gap + margin).relu()
        else:
            away = _huber(near if push == "match" else gap.relu(), delta)
        pushed = (_entry_weights(liked, entries) * away).sum(-1)
    outside = 1 - log_p.detach().exp().sum(-1)
    return BidirectionalTerms(pull, pushed, outside.clamp(min=0))


def _entry_weights(logits: Tensor, entries: Entries) -> Tensor:
    """Return weights of the entries of a support, ``[N, K]``, that sum to 1 in each row."""
    if entries == "uniform":
        return torch.full_like(logits, 1 / max(1, logits.shape[-1]))
    return logits.detach().softmax(-1)


def _above_teacher(gap: Tensor, log_p: Tensor, logits: Tensor, push: Push) -> Tensor:
    """Return the penalty ``[N, K']`` on probabilities that are above the teacher's."""
    away = log_p
    if push == "unlikelihood":
        away = -_log_complement(log_p, logits) / log_p.detach().exp().clamp(min=_TINY)
    return torch.where(gap > 0, away, torch.zeros_like(away))


def _log_complement(log_p: Tensor, logits: Tensor) -> Tensor:
    """Return ``log(1 - p)`` of vocabulary entries, with its gradient also where p rounds to 1.

    A token with p above 1/2 is the likeliest, so that its complement is computed from the logits of
    all others. Elsewhere log1p(-p) is exact. ``log_p`` are the log-probabilities ``[N, K]`` of the
    entries under the logits ``[N, V]``, V at least 2.
    """
    others = logits.scatter(-1, logits.argmax(-1, keepdim=True), -torch.inf)
    complement = others.logsumexp(-1, keepdim=True) - logits.logsumexp(-1, keepdim=True)
    likely = log_p > -0.6931
    return torch.where(likely, complement, (-log_p.masked_fill(likely, -1).exp()).log1p())


def exchange_tokens(
    logits: Tensor, rows: Tensor, first: Tensor, second: Tensor, spellings: Tensor | None = None
) -> Tensor:
    """Return logits ``[N, V]`` with the spellings of all tokens exchanged in some rows.

    After a prefill an answer begins with another spelling of its first token (" I" for "I"), and so
    do all other answers (" The" for "The"). The logits of a teacher that did not see the prefill
    are used with the spellings exchanged, so that each entry is compared with its own word.

    ``spellings`` (``[2, v]``, v <= V) are those of the first v tokens, without and with a space in
    front. Where the other spelling of ``first`` is not ``second``, or without spellings, these two
    entries are exchanged (``[R]``, as the ``rows`` concerned).
    """
    if spellings is not None:
        differ = first != second
        rows, first, second = rows[differ], first[differ], second[differ]
        other = spellings.sum(0) - torch.arange(spellings.shape[1], device=spellings.device)
        respelt = logits[rows]
        respelt[:, : len(other)] = respelt[:, other]
        logits = logits.index_copy(0, rows, respelt)
        first = other[first]
    exchanged = logits.clone()
    exchanged[rows, first] = logits[rows, second]
    exchanged[rows, second] = logits[rows, first]
    return exchanged


def inside_text(logits: Tensor, spellings: Tensor | None) -> Tensor:
    """Return logits ``[N, V]`` of a text's first token, for the same text behind other words.

    Of the two spellings of a word, the one with a space in front gets the higher logit, and the
    other one the lower. ``spellings`` (``[2, v]``, v <= V) are those of the first v tokens, without
    and with a space in front; None changes nothing.
    """
    if spellings is None:
        return logits
    known = spellings.shape[1]
    low, high = logits[:, spellings].aminmax(dim=1)
    spaced = spellings[1] == torch.arange(known, device=spellings.device)
    return torch.cat([torch.where(spaced, high, low), logits[:, known:]], dim=1)


def _huber(gap: Tensor, delta: float) -> Tensor:
    """Return ``gap^2 / 2`` up to delta, ``delta (|gap| - delta / 2)`` beyond."""
    return functional.huber_loss(gap, torch.zeros_like(gap), reduction="none", delta=delta)
