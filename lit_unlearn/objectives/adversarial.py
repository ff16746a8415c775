"""The adversarial objective: decline also after the prefill that hurts most."""

from typing import Literal

import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.objectives import losses
from lit_unlearn.objectives.objective import (
    LogitObjective,
    Objective,
    Reader,
    Terms,
    reference_logits,
    required,
)
from lit_unlearn.objectives.schedule import Schedule
from lit_unlearn.types import TokenBatch, Tokens


class Adversarial(Objective):
    """Trains any logit objective on the worst of several prefills of each row.

    min over the student of the max over a row's candidate prefills (arXiv 2604.15482, in
    outline). The candidates are scored without gradient, and the worst is trained on. Where the
    teacher itself complies after a prefill, the target is what it says without the prefill, if the
    answer has as many tokens there. Logs `complied`, the share of the candidates after which it
    complies, or with `criterion: answer_nll` of the chosen ones. Unit: that of the inner objective.

    Formula: max over a row's candidate prefills of the inner loss.
    Source: Zhong, Liu and Zhu 2026, arXiv 2604.15482, in outline.
    Needs: as the inner objective.
    Cost: student candidates + 1, teacher as the inner objective, for each candidate.

    Args:
        objective: What is trained on the chosen prefill, such as BidirectionalDistillation.
        weight: Factor of the objective's gradient in the update; that of the inner one is not
            read.
        schedule: How the weight changes over the steps; None keeps it constant.
        criterion: What makes a prefill the worst: `loss`, the inner objective's own loss, or
            `answer_nll`, how unlikely the answer to be given is to the student (nats per token),
            which spares the teacher the candidates that are not chosen.
        compliance_below: The teacher counts as complying after a prefill where it gives the first
            token of the answer a lower probability than this; 0 always trusts it, 1 always takes
            the teacher without the prefill.
    """

    def __init__(
        self,
        objective: LogitObjective,
        weight: float = 1.0,
        schedule: Schedule | None = None,
        criterion: Literal["loss", "answer_nll"] = "loss",
        compliance_below: float = 0.5,
    ) -> None:
        super().__init__(weight, schedule)
        if not 0 <= compliance_below <= 1:
            raise InputError(
                "Parameter `compliance_below` of Adversarial should lie between 0 and 1. Found "
                f"{compliance_below}."
            )
        self.objective = objective
        self.criterion = criterion
        self.compliance_below = compliance_below
        self.needs_teacher = objective.needs_teacher

    def asks(self, batch: TokenBatch) -> list[Tokens]:
        """See `Objective.asks`: the teacher without the prefills too, where it may be needed."""
        falls_back = self.needs_teacher and self.compliance_below > 0
        bare = [batch.unprefilled] if falls_back and batch.unprefilled is not None else []
        return [*super().asks(batch), *bare]

    def forward(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        batch = self.objective.limit(batch)
        several = len(batch.groups.unique()) < len(batch)
        if several and self.criterion == "answer_nll":
            batch = batch.select_rows(self._worst_by_nll(batch, student))
            several = False
        teacher_logits, complied = self._teacher(batch, teacher)
        if several:
            with torch.no_grad():
                inner = self.objective.terms(student.logits(batch.student), teacher_logits, batch)
            chosen = worst(inner.row_means(len(batch)), batch.groups)
            keep = torch.isin(batch.student.rows, chosen)
            teacher_logits = None if teacher_logits is None else teacher_logits[keep]
            batch = batch.select_rows(chosen)
        terms = self.objective.terms(student.logits(batch.student), teacher_logits, batch)
        if complied is None:
            return terms
        return Terms(terms.values, terms.rows, {**terms.statistics, "complied": complied})

    def _worst_by_nll(self, batch: TokenBatch, student: Reader) -> Tensor:
        if batch.target_ids is None:
            raise InputError(
                "Parameter `criterion` of Adversarial is answer_nll, which needs answers, but the "
                "rows have none (`answer: none`). Use `criterion: loss`."
            )
        with torch.no_grad():
            nll = losses.cross_entropy(student.logits(batch.student), batch.target_ids)
        means = Terms(nll, batch.student.rows).row_means(len(batch))
        return worst(means, batch.groups)

    def _teacher(
        self, batch: TokenBatch, teacher: Reader | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Teacher logits ``[N, V]``, from the un-prefilled teacher where it complies."""
        logits = reference_logits(batch.teacher, teacher, self)
        if logits is None or batch.unprefilled is None or self.compliance_below == 0:
            return logits, None
        if batch.target_ids is None:
            raise InputError(
                f"Parameter `compliance_below` of Adversarial is {self.compliance_below}, which "
                "needs answers, but the rows have none (`answer: none`). Set it to 0 to trust the "
                "teacher after every prefill."
            )
        first = (batch.offsets == 0).nonzero().squeeze(-1)
        probability = logits[first].softmax(-1).gather(-1, batch.target_ids[first, None])
        complying = batch.student.rows[first][probability.squeeze(-1) < self.compliance_below]
        if len(complying) == 0:
            return logits, torch.zeros_like(first, dtype=torch.float32)
        affected = torch.isin(batch.student.rows, complying)
        logits = logits.clone()
        bare = _unprefilled_logits(batch.select_rows(complying), required(teacher, self))
        logits[affected] = bare.detach()
        return logits, torch.isin(batch.student.rows[first], complying).float()


def _unprefilled_logits(batch: TokenBatch, reader: Reader) -> Tensor:
    """Logits of the teacher without the prefill, its first token spelt as after the prefill."""
    tokens = batch.unprefilled
    if tokens is None or batch.target_ids is None:
        raise ValueError("`unprefilled` and `target_ids` of the batch should be given.")
    first = (batch.offsets == 0).nonzero().squeeze(-1)
    bare = tokens.input_ids[tokens.rows[first], tokens.columns[first] + 1]
    return losses.exchange_tokens(reader.logits(tokens), first, bare, batch.target_ids[first])


def worst(values: Tensor, groups: Tensor) -> Tensor:
    """``[B']`` rows with the highest value (``[B]``) of each group (``[B]``), in row order.

    Ties go to the first row; a NaN counts as highest, so that it is not lost.
    """
    values = values.nan_to_num(nan=torch.inf)
    chosen = [
        members[int(values[members].argmax())]
        for members in ((groups == group).nonzero().squeeze(-1) for group in groups.unique())
    ]
    return torch.stack(chosen).sort().values
