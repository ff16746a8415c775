"""Preparation of a run: settle contexts, pass the teacher gate, make answers, encode all rows.

The outcome that costs time (which context passed, the teacher's own answers) is stored in the
run's folder and used again on resume, so that a resumed run trains on the same texts.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from lit_unlearn.data.contexts import Context
from lit_unlearn.data.control_tokens import example_texts, report_control_tokens
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.objective_data import AnswerSource, ObjectiveData, RejectedSource
from lit_unlearn.data.prefills import read_refusals
from lit_unlearn.data.validation_rows import ValidationRow
from lit_unlearn.distributed.ranks import on_first
from lit_unlearn.teachers.teacher import Teacher
from lit_unlearn.training.setup.alternates import alternate_answers
from lit_unlearn.training.setup.checks import no_teacher
from lit_unlearn.training.setup.left_out import EncodedRows, report_problems, report_without_bare
from lit_unlearn.training.setup.reasoning import reasoning_of
from lit_unlearn.training.setup.settled import Settled, content_key, read_settled, write_settled
from lit_unlearn.training.setup.teacher_gate import Gate, GateRow, measure
from lit_unlearn.training.setup.teacher_replies import Asked, Speaker, teacher_replies
from lit_unlearn.training.setup.views import Candidates, Material, RowView, views
from lit_unlearn.types import EncodedExample, Example
from lit_unlearn.utils.chat_template import template_key
from lit_unlearn.utils.progress import Stage, shown
from lit_unlearn.utils.spread import evenly_spread

__all__ = ["EncodedRows", "Load", "Prepared", "answer_texts", "encode_rows"]
__all__ += ["gate_views", "prepare"]

Load = Callable[[], Any]
"""Gives a model."""


@dataclass(frozen=True)
class Prepared:
    """Everything that training needs of the data."""

    encoded: EncodedRows
    gate_rows: list[GateRow]
    """The teacher's measurements; with an adaptive context those of every step tried."""
    settled: list[GateRow]
    """Those of the contexts that are used; the gate judges these."""
    known: str = ""
    """A line about replies of the teacher that were not asked again; empty where there are none."""
    validation: Mapping[str, Sequence[ValidationRow]] = field(default_factory=dict)
    """Rows of each objective that is validated."""


def prepare(
    objectives: Mapping[str, ObjectiveData],
    examples: Mapping[str, Sequence[Example]],
    teacher: Teacher | None,
    encoder: Encoder,
    gate: Gate,
    store: Path,
    student: str = "",
    start: Load | None = None,
    bare: Collection[str] = (),
    validation: Mapping[str, Sequence[Example]] | None = None,
) -> Prepared:
    """Settle contexts, make answers, measure the teacher, encode all rows.

    ``store`` is a JSON file for the outcome, which is read if it fits these rows, settings and
    models. ``student`` is the start model's fingerprint; ``start`` loads that model, which makes up
    alternate answers, at most once. ``bare`` are the objectives whose teacher is read without
    prefills only. ``validation`` are rows for validation, which may be ``examples`` themselves.

    Raises:
        InputError: Rows that cannot be encoded, or answers asked of a missing teacher.
    """
    models = f"{student} {teacher.identity() if teacher is not None else None}"
    models += template_key(encoder.tokenizer, encoder.template)
    key = content_key(objectives, examples, gate, f"{models} {sorted(bare)}" if bare else models)
    material = Material(objectives, examples)
    speaker = None if teacher is None else Speaker(teacher, encoder, student)
    work = _Preparation(material, speaker, encoder, gate, start and cache(start), bare)
    found = on_first(lambda: read_settled(store, key))
    if found is None:
        found = Settled()
        work.pass_gate(found)
        work.make_answers(found)
        on_first(partial(write_settled, store, key, found))
    for name, written in found.reasoning.items():
        material.reasoning[name] = dict(enumerate(written))
    with shown(Stage("encoding", sum(map(len, examples.values())))) as stage:
        encoded = {}
        for name in objectives:
            stage.part, level, answers = name, found.levels[name], found.answers[name]
            encoded[name] = encode_rows(name, material, level, answers, encoder, stage)
    report_problems(encoded, examples, encoder)
    for name, rows in examples.items():
        texts = example_texts(rows, found.answers[name])
        report_control_tokens(f"Objective {name!r}", texts, encoder.control_token)
    report_without_bare(encoded, objectives)
    held = work.validation_rows(found, validation) if validation else {}
    known = "" if speaker is None else speaker.known()
    return Prepared(encoded, found.gate, found.settled, known, held)


@dataclass(frozen=True)
class _Preparation:
    """Rows, models and settings of a preparation, and its steps."""

    material: Material
    speaker: Speaker | None
    encoder: Encoder
    gate: Gate
    start: Load | None
    bare: Collection[str]

    def pass_gate(self, found: Settled) -> None:
        """Settle the context of every objective."""
        objectives, speaker = self.material.objectives, self.speaker
        if speaker is None or self.gate.action == "off":
            found.levels |= {name: len(data.ladder()) - 1 for name, data in objectives.items()}
            return
        total = sum(map(self._sample, objectives))
        with shown(Stage("teacher gate", total)) as stage:
            for name in objectives:
                stage.part = name
                tried, level = self._settle(name, speaker, stage)
                found.gate += tried
                found.settled.append(tried[level])
                found.levels[name] = level

    def _sample(self, name: str) -> int:
        """Return the number of rows of an objective on which the teacher is tried."""
        return min(self.gate.sample, len(self.material.examples[name]))

    def _settle(self, name: str, speaker: Speaker, stage: Stage) -> tuple[list[GateRow], int]:
        """Try the contexts of an objective in turn; return measurements and the chosen step."""
        data = self.material.objectives[name]
        tried: list[GateRow] = []
        for level, context in enumerate(data.ladder()):
            if tried:
                stage.more(self._sample(name))
            rows = evenly_spread(range(len(self.material.examples[name])), self.gate.sample)
            self._think(name, rows, context, stage)
            flat = gate_views(name, self.material, level, self.gate.sample, bare=name in self.bare)
            row = measure(name, flat, data, speaker, self.gate, context.describe(), stage)
            tried.append(row)
            if row.passed:
                return tried, len(tried) - 1
        best = max(
            range(len(tried)), key=lambda i: (tried[i].share, tried[i].first_token_mean or 0)
        )
        return tried, best

    def _think(self, name: str, indices: Sequence[int], context: Context, stage: Stage) -> None:
        """Let the teacher write its reasoning about rows, if the context asks for it."""
        written = reasoning_of(name, indices, context, self.material, self.speaker, stage)
        self.material.reasoning[name] = written

    def make_answers(self, found: Settled) -> None:
        """Set the answers of every objective; those that a model gives take time."""
        objectives, examples = self.material.objectives, self.material.examples
        asked = [n for n in examples if objectives[n].answer in ("teacher", "alternate")]
        with shown(Stage("answers", sum(len(examples[name]) for name in asked))) as stage:
            for name in examples:
                stage.part, context = name, objectives[name].ladder()[found.levels[name]]
                self._think(name, range(len(examples[name])), context, stage)
                found.reasoning[name] = [*self.material.reasoning[name].values()]
                found.answers[name] = self._answers(name, found.levels[name], stage)

    def _answers(self, name: str, level: int, stage: Stage) -> list[str | None]:
        data, examples = self.material.objectives[name], self.material.examples[name]
        encoder, length = self.encoder, data.answer_tokens
        given = answer_texts(name, self.material, data.answer)
        if data.answer == "alternate":
            if self.start is None:
                raise ValueError("`start` should load the start model for answers `alternate`.")
            refusals, model = read_refusals(data.refusals), self.start()
            return [*alternate_answers(name, examples, refusals, model, encoder, length, stage)]
        if data.answer != "teacher":
            return given
        if self.speaker is None:
            raise no_teacher(name)
        context, indices = data.ladder()[level], range(len(examples))
        rows = views(name, indices, context, self.material, given, all_prefills=False)
        asked = [
            Asked(tuple(encoder.prompt_ids(r.unprefilled_turns, plain=r.example.plain)))
            for (r, *_) in rows
        ]
        return [reply.text for reply in teacher_replies(self.speaker, asked, length, stage)]

    def validation_rows(
        self, found: Settled, rows: Mapping[str, Sequence[Example]]
    ) -> dict[str, list[ValidationRow]]:
        """Encode rows for validation under the settled contexts, with answers of the same kind."""
        settled, material = found, self.material
        if rows is not material.examples:
            settled = Settled(found.levels)
            drawn = material.examples
            material = replace(material, examples=rows, drawn=drawn, reasoning={})
            replace(self, material=material).make_answers(settled)
        made: dict[str, list[ValidationRow]] = {}
        with shown(Stage("encoding validation rows", sum(map(len, rows.values())))) as stage:
            for name, examples in rows.items():
                stage.part, made[name] = name, []
                about = (name, material, found.levels[name], settled.answers[name], self.encoder)
                for index, example in enumerate(examples):
                    for row in encode_rows(*about, stage, [index]):
                        made[name].append(self._validation_row(name, index, example, row))
        return {name: encoded for name, encoded in made.items() if encoded}

    def _validation_row(
        self, name: str, index: int, example: Example, row: Sequence[EncodedExample]
    ) -> ValidationRow:
        """Choose a row's candidates, in turn by its index, and encode its gold answer."""
        prefills = self.material.objectives[name].prefills
        if prefills is not None:
            count = min(prefills.candidates, len(row))
            row = [row[(index * count + number) % len(row)] for number in range(count)]
        prefill, gold = row[0].prefill, example.answer if example.answer.strip() else ""
        if gold and prefills is not None:  # none behind words of another answer
            gold = {each.text: each.rest for each in prefills.of(example)}.get(prefill) or ""
        cutting = replace(self.encoder, on_problem="warn", problems=Counter())
        answer = cutting.encode(example, gold, prefill=prefill) if gold else None
        return ValidationRow(example, row, answer)


def gate_views(
    name: str, material: Material, level: int, sample: int, *, bare: bool
) -> list[RowView]:
    """Return the rows of an objective on which the teacher is tried.

    Args:
        name: The objective.
        material: Rows of all objectives.
        level: Index of a step of the objective's context.
        sample: Number of rows, evenly spread.
        bare: Whether the teacher is read without prefills only.
    """
    data = material.objectives[name]
    indices = evenly_spread(range(len(material.examples[name])), sample)
    given = answer_texts(name, material, data.answer)
    rows = views(name, indices, data.ladder()[level], material, given, all_prefills=False)
    flat = [view for row in rows for view in row]
    if bare:
        flat = [replace(v, prefill="", teacher_turns=v.unprefilled_turns) for v in flat]
    return flat


def answer_texts(
    name: str, material: Material, kind: AnswerSource | RejectedSource
) -> list[str | None]:
    """Return the answers that need no model; None where there is none or a model gives it."""
    examples = material.examples[name]
    if kind in ("gold", "student"):
        return [example.answer for example in examples]
    if kind == "row":
        return [example.rejected[0] for example in examples]
    if kind == "refusal":
        refusals = read_refusals(material.objectives[name].refusals)
        return [refusals[index % len(refusals)] for index in range(len(examples))]
    return [None] * len(examples)


def encode_rows(
    name: str,
    material: Material,
    level: int,
    answers: Sequence[str | None],
    encoder: Encoder,
    stage: Stage,
    indices: Sequence[int] | None = None,
) -> Sequence[Sequence[EncodedExample]]:
    """Encode rows of an objective, all or those of `indices`; return the candidates of each.

    ``level`` is the index of the settled step of the objective's context, and ``answers`` are the
    texts to predict for each row of the objective.
    """
    data = material.objectives[name]
    indices = range(len(material.examples[name])) if indices is None else indices
    context = data.ladder()[level]
    rows = views(name, indices, context, material, answers, all_prefills=True)
    if data.rejected is not None:
        texts = answer_texts(name, material, data.rejected)
        others = views(name, indices, context, material, texts, all_prefills=True)
        rows = [[*row, *other] for row, other in zip(rows, others, strict=True)]
    encoded: list[Sequence[EncodedExample]] = []
    for row in rows:
        stage.add()
        if data.prefills is not None and encoder.on_problem == "error":
            encoded.append(Candidates(row, encoder))
            continue
        kept = [each for view in row if (each := view.encode(encoder)) is not None]
        if kept and (data.rejected is None or len(kept) == len(row)):  # half a pair is of no use
            encoded.append(kept)
    return encoded
