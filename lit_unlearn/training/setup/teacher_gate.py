"""The teacher gate: a test before training of the behaviour that the teacher passes on.

The method is only as good as its teacher. On a sample of every objective the teacher, under its
context, must decline the forgotten rows, answer the kept ones, and decline also after prefills. A
teacher that declines half the time teaches nothing visible.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from rich.table import Table
from rich.text import Text

from lit_unlearn.data.collation import collate
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.distributed.ranks import device_of, share
from lit_unlearn.errors import InputError, check_fields, ranged
from lit_unlearn.metrics.functional.refusals import is_refusal
from lit_unlearn.teachers.teacher import Teacher
from lit_unlearn.training.setup.teacher_replies import Asked, Speaker, teacher_replies
from lit_unlearn.training.setup.views import RowView
from lit_unlearn.types import EncodedExample
from lit_unlearn.utils.progress import Stage
from lit_unlearn.utils.tables import add_row, table

__all__ = ["Duty", "Gate", "GateRow", "asked_of", "gate_error", "gate_table", "measure"]

Duty = Literal["declines", "answers", "recovers"]


@dataclass
class Gate:
    """Thresholds of the teacher before training starts.

    Args:
        action: `error` stops the run below a threshold, `warn` only says so, `off` measures
            nothing (an adaptive context then takes its strongest step).
        sample: Number of tried rows of each objective, evenly spread.
        declines: Least share of forgotten rows that the teacher declines.
        answers: Least share of the other rows that it does not decline.
        recovers: Least share of prefilled rows that it declines after the prefill. Where it
            complies, training falls back to the teacher without the prefill.
        first_token: Least mean probability that the teacher gives to the first token of a refusal
            that it teaches. A teacher that only just declines in greedy decoding still teaches a
            first token that is hardly more likely than that of an answer.
        max_new_tokens: Longest generation of the teacher in this test.
    """

    action: Literal["error", "warn", "off"] = "error"
    sample: int = ranged(12, 1)
    declines: float = ranged(0.9, 0, 1)
    answers: float = ranged(0.9, 0, 1)
    recovers: float = ranged(0.7, 0, 1)
    first_token: float = ranged(0.85, 0, 1)
    max_new_tokens: int = ranged(24, 1)

    def __post_init__(self) -> None:
        check_fields(self, "model.gate.")


@dataclass(frozen=True)
class GateRow:
    """One measurement of the teacher."""

    objective: str
    context: str
    duty: Duty
    rows: int
    share: float
    """Share of rows in which the duty was fulfilled, 0 to 1."""
    threshold: float
    first_token_mean: float | None
    """Mean probability of the first token of the row's target answer; None without one."""
    first_token_lowest: float | None
    first_token_threshold: float = 0.0
    """Least mean; 0 for rows without a refusal to teach, and after prefills (see `recovers`)."""

    @property
    def passed(self) -> bool:
        """Whether the share and, where it counts, the mean probability reach their thresholds."""
        mean = self.first_token_mean
        likely = mean is None or mean >= self.first_token_threshold
        return likely and self.share >= self.threshold


def measure(
    name: str,
    views: Sequence[RowView],
    data: ObjectiveData,
    speaker: Speaker,
    gate: Gate,
    described: str,
    stage: Stage,
) -> GateRow:
    """Try the teacher on some rows of an objective under one context, described in a few words.

    The rows are as the teacher sees them, with prefills where it is read behind some.
    """
    duty: Duty = "answers" if data.expect == "answer" else "declines"
    if data.expect == "decline" and any(view.prefill for view in views):
        duty = "recovers"
    for view in views:
        speaker.encoder.check(replace(view.example, turns=view.teacher_turns))
    asked, encoded = asked_of(views, speaker.encoder)
    replies = teacher_replies(speaker, asked, gate.max_new_tokens, stage)
    fulfilled = [is_refusal(reply.text) is (duty != "answers") for reply in replies]
    first = [reply.first for reply in replies if reply.first is not None]
    pairs = zip(encoded, asked, strict=True)
    alone = [row for row, one in pairs if row and row.target_count and one.wanted is None]
    first += _read_alone(alone, speaker.teacher)
    teaches_refusal = duty == "declines" and data.answer == "refusal"
    return GateRow(
        objective=name,
        context=described,
        duty=duty,
        rows=len(views),
        share=sum(fulfilled) / len(fulfilled),
        threshold=getattr(gate, duty),
        first_token_mean=sum(first) / len(first) if first else None,
        first_token_lowest=min(first) if first else None,
        first_token_threshold=gate.first_token if teaches_refusal else 0.0,
    )


def asked_of(
    views: Sequence[RowView], encoder: Encoder
) -> tuple[list[Asked], list[EncodedExample | None]]:
    """Return what the teacher is asked about rows, and the rows with their answers.

    Args:
        views: Rows as the teacher sees them.
        encoder: Encoder with the run's tokenizer.

    Returns:
        For each row its prompt; and its token ids, None for a row without answer.
    """
    encoded = [view.encode(encoder) if view.answer else None for view in views]
    return [_asked(*pair, encoder) for pair in zip(views, encoded, strict=True)], encoded


def _asked(view: RowView, encoded: EncodedExample | None, encoder: Encoder) -> Asked:
    """Return the prompt of a row, and the first token of its answer if that follows the prompt."""
    turns, plain = view.teacher_turns, view.example.plain
    prompt = tuple(encoder.prompt_ids(turns, plain=plain, prefill=view.prefill))
    if encoded is None or not encoded.target_count:
        return Asked(prompt)
    follows = encoded.teacher_ids[: encoded.teacher_start] == prompt
    return Asked(prompt, encoded.teacher_ids[encoded.teacher_start] if follows else None)


def _read_alone(encoded: Sequence[EncodedExample], teacher: Teacher) -> list[float]:
    """Return the probabilities of first tokens of rows whose prompt is tokenised differently."""

    def read(own: Sequence[EncodedExample]) -> list[float]:
        probabilities: list[float] = []
        for start in range(0, len(own), 8):
            rows = own[start : start + 8]
            batch = collate([[row] for row in rows], 0).first_positions(1).teacher
            logits = teacher.logits(batch.to(device_of(teacher.model()))).cpu()
            first = torch.tensor([row.teacher_ids[row.teacher_start] for row in rows])
            probabilities += logits.softmax(-1).gather(-1, first[:, None]).squeeze(-1).tolist()
        return probabilities

    return share(encoded, read, *teacher.models())


def gate_table(rows: Sequence[GateRow]) -> Table:
    """Return the gate's measurements for the terminal."""
    made = table(
        "Teacher gate",
        ("objective", "context", "teacher", "at least", "first token", ""),
        left=2,
        fixed=(0, 2, 3, 4, 5),
        caption="first token: mean and lowest probability of the first token of the answer",
    )
    for row in rows:
        first = "-"
        if row.first_token_mean is not None and row.first_token_lowest is not None:
            first = f"{row.first_token_mean:.2f} / {row.first_token_lowest:.2f}"
        likely = f", {row.first_token_threshold:.2f}" if row.first_token_threshold else ""
        cells: list[str | Text] = [
            row.objective,
            row.context,
            f"{row.duty} {row.share:.0%} of {row.rows}",
            f"{row.threshold:.0%}{likely}",
            first,
            Text("pass", "green") if row.passed else Text("fail", "red"),
        ]
        add_row(made, cells)
    return made


def gate_error(rows: Sequence[GateRow]) -> InputError | None:
    """Return the error that stops the run, or None where all thresholds are reached."""
    failed = [row for row in rows if not row.passed]
    if not failed:
        return None
    listed = "; ".join(
        f"{r.objective}: {r.duty} {r.share:.0%} of {r.rows} rows (at least {r.threshold:.0%}, "
        f"`model.gate.{r.duty}`), mean probability of the answer's first token "
        f"{'-' if r.first_token_mean is None else f'{r.first_token_mean:.0%}'} (at least "
        f"{r.first_token_threshold:.0%}, `model.gate.first_token`), under context {r.context}"
        for r in failed
    )
    return InputError(
        f"Teacher gate failed: the teacher itself misses the required behaviour. Found {listed}. "
        "Give it a stronger context (`data.objectives.NAME.context: Adaptive`, more "
        "demonstrations, or Echo), lower the threshold, or set `model.gate.action` to warn."
    )
