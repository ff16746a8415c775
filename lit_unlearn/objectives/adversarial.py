"""The adversarial objective: decline also after the prefill that hurts most."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from lit_unlearn.errors import InputError, ranged
from lit_unlearn.objectives import losses
from lit_unlearn.objectives.objective import (
    LogitObjective,
    Reader,
    Terms,
    WrappingObjective,
    row_means,
)
from lit_unlearn.types import TokenBatch, Tokens

__all__ = ["Adversarial", "worst"]


@dataclass(kw_only=True)
class Adversarial(WrappingObjective):
    """Train any logit objective on the worst prefill of each row.

    The student minimises the maximum over a row's candidate prefills (arXiv 2604.15482, in
    outline). The candidates are scored without gradient, and the worst one is trained; with
    `criterion: none` all of them are. Where the teacher itself complies after a prefill, the target
    is the teacher's without the prefill, if the answer has as many tokens there. Logs `complied`,
    the share of the candidates after which the teacher complies, or with `criterion: answer_nll` of
    the chosen ones. Unit: that of the inner objective.

    Formula: max over a row's candidate prefills of the inner loss.
    Source: Zhong, Liu and Zhu 2026, arXiv 2604.15482, in outline.
    Needs: as the inner objective.
    Cost: student candidates + 1, teacher as the inner objective, for each candidate.

    Args:
        objective: Objective that is trained on the chosen prefill, such as
            BidirectionalDistillation.
        criterion: Measure of the worst prefill: `loss`, the inner objective's own loss;
            `answer_nll`, the student's negative log-likelihood of the answer (nats per token), for
            which the teacher does not read the candidates that are not chosen; or `none`, which
            trains all candidates.
        compliance_below: The teacher counts as complying after a prefill where it gives the first
            token of the answer a lower probability than this; 0 always trusts it, 1 always takes
            the teacher without the prefill, and does not read it behind the prefill.
    """

    logs = "complied"
    objective: LogitObjective = field(kw_only=False)
    criterion: Literal["loss", "answer_nll", "none"] = "loss"
    compliance_below: float = ranged(0.5, 0, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reads_teacher_bare = self.compliance_below == 1

    def teacher_inputs(self, batch: TokenBatch) -> list[Tokens]:
        bare = [batch.unprefilled] if self._falls_back(batch) and batch.unprefilled else []
        behind = [] if bare and self.compliance_below == 1 else super().teacher_inputs(batch)
        return [*behind, *bare]

    def __call__(self, batch: TokenBatch, student: Reader, teacher: Reader | None) -> Terms:
        batch = self.limit(batch)
        several = len(batch.groups.unique()) < len(batch)
        if several and self.criterion == "answer_nll":
            batch = batch.select_rows(self._worst_by_nll(batch, student))
            several = False
        teacher_logits, complied = self._teacher(batch, teacher)
        if several and self.criterion == "loss":
            with torch.no_grad():
                inner = self.objective.terms(student.logits(batch.student), teacher_logits, batch)
            chosen = worst(row_means(inner.values, inner.rows, len(batch)), batch.groups)
            keep = torch.isin(batch.student.rows, chosen)
            teacher_logits = None if teacher_logits is None else teacher_logits[keep]
            batch = batch.select_rows(chosen)
        terms = self.objective.terms(student.logits(batch.student), teacher_logits, batch)
        if complied is None:
            return terms
        return Terms(terms.values, terms.rows, {**terms.statistics, "complied": complied})

    def _falls_back(self, batch: TokenBatch) -> bool:
        """Return whether the teacher without the prefill may take the teacher's place."""
        fallible = self.needs_teacher and self.compliance_below > 0
        return fallible and batch.unprefilled is not None

    def _worst_by_nll(self, batch: TokenBatch, student: Reader) -> Tensor:
        if batch.target_ids is None:
            raise InputError(
                "Parameter `Adversarial.criterion` is answer_nll, which needs answers, but the "
                "rows have none (`answer: none`). Use `criterion: loss`."
            )
        with torch.no_grad():
            nll = losses.cross_entropy(student.logits(batch.student), batch.target_ids)
        return worst(row_means(nll, batch.student.rows, len(batch)), batch.groups)

    def _teacher(
        self, batch: TokenBatch, teacher: Reader | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the target logits ``[N, V]``, and for each row whether the teacher complies."""
        if not self._falls_back(batch):
            return self.teacher_logits(batch.teacher, teacher), None
        if batch.target_ids is None:
            raise InputError(
                f"Parameter `Adversarial.compliance_below` is {self.compliance_below}, which "
                "needs answers, but the rows have none (`answer: none`). Set it to 0 to trust the "
                "teacher after every prefill."
            )
        reader = self.require(teacher)
        if self.compliance_below == 1:
            return _unprefilled_logits(batch, reader).detach(), None
        logits = reader.logits(batch.teacher).detach()
        first = (batch.offsets == 0).nonzero().squeeze(-1)
        probability = logits[first].softmax(-1).gather(-1, batch.target_ids[first, None])
        complying = batch.student.rows[first][probability.squeeze(-1) < self.compliance_below]
        if len(complying):
            bare = _unprefilled_logits(batch.select_rows(complying), reader)
            logits = logits.clone()
            logits[torch.isin(batch.student.rows, complying)] = bare.detach()
        return logits, torch.isin(batch.student.rows[first], complying).float()


def _unprefilled_logits(batch: TokenBatch, reader: Reader) -> Tensor:
    """Return the logits without the prefill, the first token spelled as after the prefill."""
    tokens = batch.unprefilled
    if tokens is None or batch.target_ids is None:
        raise ValueError("`unprefilled` and `target_ids` of the batch should be given.")
    first = (batch.offsets == 0).nonzero().squeeze(-1)
    bare = tokens.input_ids[tokens.rows[first], tokens.columns[first] + 1]
    targets = batch.target_ids[first]
    return losses.exchange_tokens(reader.logits(tokens), first, bare, targets, batch.spellings)


def worst(values: Tensor, groups: Tensor) -> Tensor:
    """Return ``[B']``: the row with the highest value of each group, in row order.

    ``values`` and ``groups`` are ``[B]``. Ties go to the first row; a NaN counts as highest, so
    that it is not lost.
    """
    values = values.nan_to_num(nan=torch.inf)
    chosen = [
        members[int(values[members].argmax())]
        for members in ((groups == group).nonzero().squeeze(-1) for group in groups.unique())
    ]
    return torch.stack(chosen).sort().values
