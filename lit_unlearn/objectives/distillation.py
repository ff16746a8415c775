"""Objectives that compare the student's distribution with the teacher's."""

from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.objectives import losses
from lit_unlearn.objectives.objective import LogitObjective, Terms
from lit_unlearn.objectives.row_values import present
from lit_unlearn.objectives.schedule import Schedule
from lit_unlearn.types import TokenBatch


class BidirectionalDistillation(LogitObjective):
    """Pull towards what the teacher would say, push away what only the student would say.

    Bidirectional top-K logit distillation (arXiv 2604.15482 in outline; see
    `losses.bidirectional` for the formulas): loss = pull_weight * pull + push_weight * push, the
    mean over answer positions. Logs `pull`, `push` and `outside_mass`, the student's probability
    that neither direction touches. Unit: logits, or nats under `space: log_probability`.

    Formula: pull_weight times the mean over C+ of huber(z - z_ref) + push_weight times the mean
        over C- of the push, per token, with C+ the teacher's top K and C- the student's top K'
        without C+; K' = 0 and the first position only is DUET.
    Source: Zhong, Liu and Zhu 2026, arXiv 2604.15482, in outline; DUET: arXiv 2601.21283, Eq. 3.
    Needs: teacher.
    Cost: student 1, teacher 1.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained: 1 for the first token only (as
            DUET, arXiv 2601.21283), n for the first n, None for all. Replies of which the first
            tokens alone are trained begin as they should, and may not end.
        top_k: K: how many of the teacher's highest logits are matched.
        push_top_k: K': how many of the student's highest other logits are pushed; 0 for none.
        push_weight: Factor of the push; 0 for the pull alone.
        push: What the push does: `match` the teacher's logits there, `hinge` (only lower them,
            to the teacher's minus `margin`), `unlikelihood`, or `suppress`, which spares what the
            student is surest of.
        space: Compare raw logits, or log-probabilities.
        entries: How the tokens of each direction are weighted: `uniform`, or by `probability`
            (the teacher's for the pull, the student's for the push), so that the token that
            decides what is said outweighs the tail.
        margin: Margin of the hinge, in logits (or nats).
        delta: Where the Huber distance turns linear, in logits (or nats).
        pull_weight: Factor of the pull; 0 for the push alone.
    """

    needs_teacher = True

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        positions: int | None = None,
        top_k: int = 20,
        push_top_k: int = 20,
        push_weight: float = 1.0,
        push: losses.Push = "match",
        space: losses.Space = "logit",
        entries: losses.Entries = "uniform",
        margin: float = 0.0,
        delta: float = 1.0,
        pull_weight: float = 1.0,
    ) -> None:
        super().__init__(weight, schedule, positions)
        for name, value, least in (
            ("top_k", top_k, 1),
            ("push_top_k", push_top_k, 0),
            ("push_weight", push_weight, 0),
            ("pull_weight", pull_weight, 0),
            ("delta", delta, 1e-6),
            ("margin", margin, 0),
        ):
            if value < least:
                raise InputError(
                    f"Parameter `{name}` of BidirectionalDistillation should be at least {least}."
                    f" Found {value}."
                )
        self.top_k = top_k
        self.push_top_k = push_top_k
        self.push_weight = push_weight
        self.pull_weight = pull_weight
        self.push: losses.Push = push
        self.space: losses.Space = space
        self.entries: losses.Entries = entries
        self.margin = margin
        self.delta = delta

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        parts = losses.bidirectional(
            student_logits,
            present(teacher_logits),
            top_k=self.top_k,
            push_top_k=self.push_top_k,
            space=self.space,
            push=self.push,
            entries=self.entries,
            margin=self.margin,
            delta=self.delta,
        )
        return Terms(
            self.pull_weight * parts.pull + self.push_weight * parts.push,
            batch.student.rows,
            {
                "pull": parts.pull.detach(),
                "push": parts.push.detach(),
                "outside_mass": parts.outside_mass,
            },
        )


class ForwardKL(LogitObjective):
    """KL(teacher || student): keep all that the teacher would say. Unit: nats per position.

    Formula: KL(p_ref || p), per token.
    Source: Hinton et al. 2015, arXiv 1503.02531; as a retain loss Maini et al. 2024, arXiv
        2401.06121.
    Needs: teacher.
    Cost: student 1, teacher 1.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained; None for all.
    """

    needs_teacher = True

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        return Terms(losses.forward_kl(student_logits, present(teacher_logits)), batch.student.rows)


class ReverseKL(LogitObjective):
    """KL(student || teacher): seek one of the teacher's modes. Unit: nats per position.

    Formula: KL(p || p_ref), per token.
    Source: Gu et al. 2023 (MiniLLM), arXiv 2306.08543, position by position.
    Needs: teacher.
    Cost: student 1, teacher 1.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained; None for all.
    """

    needs_teacher = True

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        return Terms(losses.reverse_kl(student_logits, present(teacher_logits)), batch.student.rows)


class GeneralizedJSD(LogitObjective):
    """Generalised Jensen-Shannon divergence of teacher and student. Unit: nats per position.

    Formula: beta KL(p_ref || m) + (1 - beta) KL(p || m), m = beta p_ref + (1 - beta) p, per token.
    Source: Agarwal et al. 2024, arXiv 2306.13649, Eq. 1.
    Needs: teacher.
    Cost: student 1, teacher 1.

    Args:
        weight: Factor of the objective's gradient in the update.
        schedule: How the weight changes over the steps; None keeps it constant.
        positions: Predictions of each answer that are trained; None for all.
        beta: Weight of the teacher in the mixture, between 0 and 1, both excluded.
    """

    needs_teacher = True

    def __init__(
        self,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        positions: int | None = None,
        beta: float = 0.5,
    ) -> None:
        super().__init__(weight, schedule, positions)
        if not 0 < beta < 1:
            raise InputError(
                f"Parameter `beta` of GeneralizedJSD should lie between 0 and 1. Found {beta}; "
                "use ForwardKL or ReverseKL for the limits."
            )
        self.beta = beta

    def terms(
        self, student_logits: Tensor, teacher_logits: Tensor | None, batch: TokenBatch
    ) -> Terms:
        values = losses.generalized_jsd(student_logits, present(teacher_logits), self.beta)
        return Terms(values, batch.student.rows)
