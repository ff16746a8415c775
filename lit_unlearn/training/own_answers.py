"""The student's own answers, sampled during training for objectives with `answer: student`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from lit_unlearn.data.collation import collate
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.metrics.functional.refusals import is_refusal
from lit_unlearn.models.generation import generate_replies
from lit_unlearn.models.sampling import Sampling
from lit_unlearn.types import EncodedExample, Example, TokenBatch

__all__ = ["OwnAnswers", "with_answer"]


@dataclass
class OwnAnswers:
    """Sampled answers of the student, each kept until it is too old."""

    kept: dict[str, dict[str, tuple[int, str]]] = field(default_factory=dict)
    """Step and text of each answer, by objective and row; checkpoints hold them."""
    _rows: dict[str, dict[str, tuple[Example, EncodedExample]]] = field(default_factory=dict)
    """Rows by objective and id, with their gold answers."""

    def renewed(
        self,
        batches: Mapping[str, Sequence[TokenBatch]],
        step: int,
        data: Any,
        student: nn.Module,
        tokenizer: Any,
    ) -> Mapping[str, Sequence[TokenBatch]]:
        """Return a step's batches with the student's answers, where objectives ask for them.

        A row whose answer declines, is empty or cannot be encoded keeps its gold answer.

        Args:
            batches: Micro batches by objective.
            step: Number of the step.
            data: The run's data module.
            student: The student.
            tokenizer: The student's tokenizer.
        """
        asked = {n for n, own in data.objectives.items() if own.answer == "student"}
        if not asked.intersection(batches):
            return batches
        encoder = Encoder(tokenizer, data.max_length, "warn", data.template)
        found = dict(batches)
        for name in asked.intersection(batches):
            rows = self._rows_of(name, data)
            ids = [each for batch in batches[name] for each in batch.example_ids]
            self._sample(name, ids, step, data, student, encoder)
            made = {i: self._answered(*rows[i], self.kept[name][i][1], encoder) for i in ids}
            found[name] = [
                collate([[made[i]] for i in batch.example_ids], data.pad_id, data.spellings)
                for batch in batches[name]
            ]
        return found

    def _rows_of(self, name: str, data: Any) -> dict[str, tuple[Example, EncodedExample]]:
        if name not in self._rows:
            examples = {example.example_id: example for example in data.examples[name]}
            rows = data.encoded[name]
            self._rows[name] = {r.example_id: (examples[r.example_id], r) for (r,) in rows}
        return self._rows[name]

    def _sample(
        self,
        name: str,
        ids: Sequence[str],
        step: int,
        data: Any,
        student: Any,
        encoder: Encoder,
    ) -> None:
        """Sample the answers of rows that have none yet, or one that is too old."""
        settings, kept = data.objectives[name], self.kept.setdefault(name, {})
        old = [i for i in ids if i not in kept or step - kept[i][0] >= settings.refresh_steps]
        rows = [self._rows[name][i][1] for i in dict.fromkeys(old)]
        replies = generate_replies(
            student,
            encoder.tokenizer,
            [row.student_ids[: row.student_start] for row in rows],
            max_new_tokens=settings.answer_tokens,
            sampling=Sampling(seed=data.seed + step),
            thoughts=encoder.thoughts,
        )
        kept |= {row.example_id: (step, text) for row, (text,) in zip(rows, replies, strict=True)}

    def _answered(
        self, example: Example, row: EncodedExample, text: str, encoder: Encoder
    ) -> EncodedExample:
        if not text or is_refusal(text):
            return row
        made = encoder.encode(example, text)
        return row if made is None else with_answer(row, made)


def with_answer(row: EncodedExample, answered: EncodedExample) -> EncodedExample:
    """Return a row with the answer of another encoding of it."""
    answer = answered.student_ids[answered.student_start :]
    return replace(
        row,
        student_ids=(*row.student_ids[: row.student_start], *answer),
        teacher_ids=(*row.teacher_ids[: row.teacher_start], *answer),
        target_count=len(answer),
    )
