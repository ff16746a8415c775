"""Questions put to a model: its answers, their scores, with and without prefills."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lit_unlearn.data.collation import collate
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.prefills import read_openers
from lit_unlearn.metrics.functional.scores import is_correct, is_refusal, rouge_l_recall
from lit_unlearn.models.forward import FrozenReader
from lit_unlearn.models.generation import generate_answers
from lit_unlearn.objectives.losses import cross_entropy
from lit_unlearn.objectives.objective import Terms
from lit_unlearn.report import AnswerRecord
from lit_unlearn.types import Example

Asked = tuple[str, Example, str]
"""Objective, row, prefill."""


def questions(
    examples: Mapping[str, Sequence[Example]],
    prefills: Mapping[str, Sequence[str] | str | None],
) -> list[Asked]:
    """All rows once without prefill, and once more with one where an objective has openers.

    Row i gets the i-th opener in turn, so that both halves have the same rows.
    """
    asked: list[Asked] = []
    for name, rows in examples.items():
        asked += [(name, row, "") for row in rows]
        given = prefills.get(name)
        openers = read_openers(given) if given else []
        if openers:
            asked += [(name, row, openers[i % len(openers)]) for i, row in enumerate(rows)]
    return asked


def answer(
    asked: Sequence[Asked],
    model: Any,
    encoder: Encoder,
    *,
    max_new_tokens: int = 40,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
) -> list[AnswerRecord]:
    """Let a model answer, and score what it says.

    Args:
        asked: What to ask.
        model: A causal language model; it is read in evaluation mode.
        encoder: Encoder with the model's tokenizer.
        max_new_tokens: Longest answer.
        batch_size: Rows per forward pass.
        progress: Told how many rows are done.

    Returns:
        One record per question, in the order asked.
    """
    prompts = [
        encoder.prompt_ids(row.turns, plain=row.plain, prefill=prefill) for _, row, prefill in asked
    ]
    replies = generate_answers(
        model,
        encoder.tokenizer,
        prompts,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        progress=progress,
    )
    nll = gold_nll(asked, model, encoder, batch_size)
    return [
        AnswerRecord(
            objective=name,
            example_id=row.example_id,
            prefill=prefill,
            question=row.question,
            gold=row.answer,
            generated=reply,
            rouge_l=rouge_l_recall(row.answer, reply),
            correct=is_correct(reply, row.accepted) if row.accepted else None,
            refused=is_refusal(reply),
            answer_nll=value,
        )
        for (name, row, prefill), reply, value in zip(asked, replies, nll, strict=True)
    ]


def gold_nll(
    asked: Sequence[Asked], model: Any, encoder: Encoder, batch_size: int = 16
) -> list[float]:
    """Mean negative log-likelihood of each gold answer, in nats per token; NaN without one."""
    values = [float("nan")] * len(asked)
    device = next(model.parameters()).device
    encoded = [
        (index, encoder.encode(row, row.answer, prefill=prefill))
        for index, (_, row, prefill) in enumerate(asked)
        if row.answer.strip()
    ]
    present = [(index, row) for index, row in encoded if row is not None]
    present.sort(key=lambda pair: len(pair[1].student_ids))
    for start in range(0, len(present), batch_size):
        members = present[start : start + batch_size]
        batch = collate([[row] for _, row in members], 0).to(device)
        if batch.target_ids is None:
            continue
        losses = cross_entropy(FrozenReader(model).logits(batch.student), batch.target_ids)
        means = Terms(losses, batch.student.rows).row_means(len(batch)).tolist()
        for (index, _), value in zip(members, means, strict=True):
            values[index] = value
    return values
