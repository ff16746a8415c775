"""Objectives that compare the student's distribution with the teacher's."""

from dataclasses import dataclass

from torch import Tensor

from lit_unlearn.errors import InputError, ranged
from lit_unlearn.objectives import losses
from lit_unlearn.objectives.objective import LogitObjective, Terms, present
from lit_unlearn.types import TokenBatch

__all__ = ["BidirectionalDistillation", "ForwardKL", "GeneralizedJSD", "ReverseKL"]


@dataclass(kw_only=True)
class BidirectionalDistillation(LogitObjective):
    """Pull the student to the teacher's likely tokens, push it off those that it alone likes.

    Bidirectional top-K logit distillation (arXiv 2604.15482 in outline; see
    `losses.bidirectional` for the formulas): loss = pull_weight * pull + push_weight * push, the
    mean over answer positions. Logs `pull`, `push` and `outside_mass`, the student's probability
    that neither direction touches. Unit: nats, or logits under `space: logit`.

    Formula: pull_weight times the mean over C+ of huber(l - l_ref) + push_weight times the mean
        over C- of the push huber(max(0, l - l_ref)), per token, with l the log-probabilities, C+
        the teacher's top K and C- the student's top K' without C+; raw logits, K' = 0 and the first
        position only is DUET.
    Source: Zhong, Liu and Zhu 2026, arXiv 2604.15482, in outline; DUET: arXiv 2601.21283, Eq. 3.
    Needs: teacher.
    Cost: student 1, teacher 1.

    Args:
        positions: Predictions of each answer that are trained: 1 for the first token only (as
            DUET, arXiv 2601.21283), n for the first n, null for all. A reply of which only the
            first tokens were trained begins as it should, but may not end.
        top_k: K, the number of the teacher's highest logits that are matched.
        push_top_k: K', the number of the student's highest other logits that are pushed; 0 for
            none.
        push_weight: Factor of the push; 0 for the pull alone.
        push: Kind of push. `lower` takes tokens down to the teacher, and none up; `match` both.
            `hinge` lowers with an even force, to the teacher's minus `margin`. `unlikelihood` is
            strongest where the student is surest; `suppress` spares those tokens.
        space: Compare log-probabilities, or raw logits in the pull and in `match` (the literal
            reading of the paper). A context shifts a teacher's raw logits, so that `match` then
            raises most tokens.
        entries: Weights of the tokens in each direction: by `probability` (the teacher's for the
            pull, the student's for the push), so that the likeliest tokens outweigh the tail, or
            `uniform`.
        margin: Margin of the hinge, in nats.
        delta: Gap at which the Huber distance turns linear, in nats (or logits).
        pull_weight: Factor of the pull; 0 for the push alone.
    """

    needs_teacher = True
    statistics = ("pull", "push", "outside_mass")
    top_k: int = ranged(20, 1)
    push_top_k: int = ranged(20, 0)
    push_weight: float = ranged(1.0, 0)
    push: losses.Push = "lower"
    space: losses.Space = "log_probability"
    entries: losses.Entries = "probability"
    margin: float = ranged(0.0, 0)
    delta: float = ranged(2.0, 1e-6)
    pull_weight: float = ranged(1.0, 0)

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        parts = losses.bidirectional(
            logits,
            present(teacher_logits),
            top_k=self.top_k,
            push_top_k=self.push_top_k,
            space=self.space,
            push=self.push,
            entries=self.entries,
            margin=self.margin,
            delta=self.delta,
        )
        values = self.pull_weight * parts.pull + self.push_weight * parts.push
        figures = {name: getattr(parts, name).detach() for name in self.statistics}
        return Terms(values, batch.student.rows, figures)


class ForwardKL(LogitObjective):
    """KL(teacher || student): keep all modes of the teacher. Unit: nats per position.

    Formula: KL(p_ref || p), per token.
    Source: Hinton et al. 2015, arXiv 1503.02531; as a retain loss Maini et al. 2024, arXiv
        2401.06121.
    Needs: teacher.
    Cost: student 1, teacher 1.
    """

    needs_teacher = True

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        return Terms(losses.forward_kl(logits, present(teacher_logits)), batch.student.rows)


class ReverseKL(LogitObjective):
    """KL(student || teacher): seek one of the teacher's modes. Unit: nats per position.

    Formula: KL(p || p_ref), per token.
    Source: Gu et al. 2023 (MiniLLM), arXiv 2306.08543, position by position.
    Needs: teacher.
    Cost: student 1, teacher 1.
    """

    needs_teacher = True

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        return Terms(losses.reverse_kl(logits, present(teacher_logits)), batch.student.rows)


@dataclass(kw_only=True)
class GeneralizedJSD(LogitObjective):
    """Generalised Jensen-Shannon divergence of teacher and student. Unit: nats per position.

    Formula: beta KL(p_ref || m) + (1 - beta) KL(p || m), m = beta p_ref + (1 - beta) p, per token.
    Source: Agarwal et al. 2024, arXiv 2306.13649, Eq. 1.
    Needs: teacher.
    Cost: student 1, teacher 1.

    Args:
        beta: Weight of the teacher in the mixture, between 0 and 1, both excluded.
    """

    needs_teacher = True
    beta: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.beta < 1:
            raise InputError(
                "Parameter `GeneralizedJSD.beta` should lie between 0 and 1, both excluded. Found "
                f"{self.beta}; use ForwardKL or ReverseKL for the limits."
            )

    def terms(self, logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch) -> Terms:
        values = losses.generalized_jsd(logits, present(teacher_logits), self.beta)
        return Terms(values, batch.student.rows)
