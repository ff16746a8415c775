"""From rows and a teacher to encoded rows: contexts settled, answers made, the gate passed.

The outcome that costs time (which context passed, the teacher's own answers) is stored in the
run's folder and used again on resume, so that a resumed run trains on the same texts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from lit_unlearn.data.contexts import Context, NoContext
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.objective_data import AnswerSource, ObjectiveData
from lit_unlearn.data.prefills import read_refusals
from lit_unlearn.distributed.ranks import on_first
from lit_unlearn.errors import InputError
from lit_unlearn.teachers.teacher import Teacher
from lit_unlearn.training.setup.alternates import alternate_answers
from lit_unlearn.training.setup.prefill_candidates import Candidates
from lit_unlearn.training.setup.settled import Settled, content_key, read_settled, write_settled
from lit_unlearn.training.setup.teacher_gate import PASSES, Gate, GateRow, measure
from lit_unlearn.training.setup.teacher_replies import teacher_replies
from lit_unlearn.training.setup.views import Material, views
from lit_unlearn.types import EncodedExample, Example
from lit_unlearn.utils.progress import Stage, Tell, silent
from lit_unlearn.utils.spread import evenly_spread

log = logging.getLogger(__name__)

Load = Callable[[], Any]
"""Gives a model."""


EncodedRows = Mapping[str, Sequence[Sequence[EncodedExample]]]
"""For each objective and row its candidates."""


@dataclass(frozen=True)
class Prepared:
    """Everything that training needs of the data."""

    encoded: EncodedRows
    """For each objective and row its candidates: one, one per prefill, or the preferred and the
    rejected answer."""
    gate_rows: list[GateRow]
    """The teacher's measurements; of an adaptive context those of every step tried."""
    settled: list[GateRow]
    """Of those, the ones of the contexts that are used; the gate judges these."""


def prepare(
    objectives: Mapping[str, ObjectiveData],
    examples: Mapping[str, Sequence[Example]],
    teacher: Teacher | None,
    encoder: Encoder,
    gate: Gate,
    store: Path,
    student: str = "",
    progress: Tell = silent,
    start: Load | None = None,
) -> Prepared:
    """Settle contexts, make answers, measure the teacher, encode all rows.

    Args:
        objectives: Data settings by objective.
        examples: Rows by objective.
        teacher: The attached teacher, or None if no objective needs one.
        encoder: Encoder with the run's tokenizer.
        gate: The teacher gate's settings.
        store: JSON file for the outcome; read if it fits these rows and settings.
        student: Fingerprint of the start model; a stored outcome of another one is not used.
        progress: Told how many rows of which stage are done.
        start: Loads the start model, which makes up alternate answers; called at most once.

    Raises:
        InputError: Rows that cannot be encoded, or answers asked of a missing teacher.
    """
    material = Material(objectives, examples)
    models = f"{student} {teacher.identity() if teacher is not None else None}"
    key = content_key(objectives, examples, gate, models)
    found = on_first(lambda: read_settled(store, key))
    if found is None:
        found = Settled()
        _pass_gate(found, material, teacher, encoder, gate, progress)
        _make_answers(found, material, teacher, encoder, start, progress)
        on_first(partial(write_settled, store, key, found))
    stage = Stage("encoding", sum(map(len, examples.values())), progress)
    encoded = {
        name: encode_rows(name, material, found.levels[name], found.answers[name], encoder, stage)
        for name in objectives
    }
    _report_problems(encoded, examples, encoder)
    _report_without_bare(encoded, objectives)
    return Prepared(encoded, found.gate, found.settled)


def _report_problems(
    encoded: EncodedRows,
    examples: Mapping[str, Sequence[Example]],
    encoder: Encoder,
) -> None:
    """Count the rows that were left out; an objective without any row left is an error."""
    counted = ", ".join(f"{kind}: {count}" for kind, count in encoder.problems.items())
    if counted:
        log.warning("Rows with problems while encoding (on_problem: warn): %s.", counted)
    for name, rows in encoded.items():
        if not rows:
            raise InputError(
                f"Objective {name!r} should keep rows. Found all {len(examples[name])} left out "
                f"while encoding ({counted}); raise `data.max_length`, or see `on_problem: error`."
            )


def _report_without_bare(encoded: EncodedRows, objectives: Mapping[str, ObjectiveData]) -> None:
    """Count the prefilled rows to be declined of which the teacher has no un-prefilled version.

    Of each row the candidates that are encoded by now are looked at, not all of them.
    """
    for name, rows in encoded.items():
        known = [row.known() if isinstance(row, Candidates) else row for row in rows]
        prefilled = [candidate for row in known for candidate in row if candidate.prefill]
        lost = sum(not candidate.unprefilled_ids for candidate in prefilled)
        if lost and objectives[name].expect == "decline":
            log.warning(
                "Objective %r: %d of %d rows with a prefill that were looked at have none without "
                "it, because their answer has another number of tokens there. Where the teacher "
                "complies after the prefill, that is what these rows teach; other `refusals` may "
                "help.",
                name,
                lost,
                len(prefilled),
            )


def _pass_gate(
    found: Settled,
    material: Material,
    teacher: Teacher | None,
    encoder: Encoder,
    gate: Gate,
    progress: Tell,
) -> None:
    """Settle the context of every objective."""
    if teacher is None or gate.action == "off":
        found.levels |= {n: len(_ladder(d)) - 1 for n, d in material.objectives.items()}
        return
    samples = {
        name: evenly_spread(range(len(rows)), gate.sample)
        for name, rows in material.examples.items()
    }
    stage = Stage("teacher gate", PASSES * sum(map(len, samples.values())), progress)
    for name in material.objectives:
        stage.at(name)
        tried, level = _settle(name, samples[name], material, teacher, encoder, gate, stage)
        found.gate += tried
        found.settled.append(tried[level])
        found.levels[name] = level


def _make_answers(
    found: Settled,
    material: Material,
    teacher: Teacher | None,
    encoder: Encoder,
    start: Load | None,
    progress: Tell,
) -> None:
    """The answers of every objective; those that a model gives take time."""
    start = None if start is None else cache(start)
    asked = [n for n, d in material.objectives.items() if d.answer in ("teacher", "alternate")]
    stage = Stage("answers", sum(len(material.examples[name]) for name in asked), progress)
    for name in material.objectives:
        if name in asked:
            stage.at(name)
        level = found.levels[name]
        found.answers[name] = _answers(name, material, level, teacher, encoder, start, stage)


def _ladder(data: ObjectiveData) -> tuple[Context, ...]:
    return (data.context or NoContext()).ladder()


def _settle(
    name: str,
    indices: Sequence[int],
    material: Material,
    teacher: Teacher,
    encoder: Encoder,
    gate: Gate,
    stage: Stage,
) -> tuple[list[GateRow], int]:
    """Try the contexts of an objective in turn; the measurements and the chosen step."""
    data = material.objectives[name]
    given = _given_answers(name, material)
    tried: list[GateRow] = []
    for context in _ladder(data):
        if tried:
            stage.more(PASSES * len(indices))
        rows = views(name, indices, context, material, given, all_prefills=False)
        flat = [view for row in rows for view in row]
        row = measure(name, flat, data, teacher, encoder, gate, context.describe(), stage)
        tried.append(row)
        if row.passed:
            return tried, len(tried) - 1
    best = max(range(len(tried)), key=lambda i: (tried[i].share, tried[i].first_token_mean or 0))
    return tried, best


def _given_answers(name: str, material: Material) -> list[str | None]:
    """The answers that need no model; None where there is none or a model gives it."""
    return answer_texts(name, material, material.objectives[name].answer)


def answer_texts(name: str, material: Material, kind: AnswerSource) -> list[str | None]:
    """Return the answers of an objective that need no model; None for the others."""
    data, examples = material.objectives[name], material.examples[name]
    if kind == "gold":
        return [example.answer for example in examples]
    if kind == "refusal":
        refusals = read_refusals(data.refusals)
        return [refusals[index % len(refusals)] for index in range(len(examples))]
    return [None] * len(examples)


def _answers(
    name: str,
    material: Material,
    level: int,
    teacher: Teacher | None,
    encoder: Encoder,
    start: Load | None,
    stage: Stage,
) -> list[str | None]:
    data, examples = material.objectives[name], material.examples[name]
    given = _given_answers(name, material)
    if data.answer == "alternate":
        if start is None:
            raise ValueError("`start` should load the start model where answers are `alternate`.")
        refusals, length = read_refusals(data.refusals), data.answer_tokens
        return [*alternate_answers(name, examples, refusals, start(), encoder, length, stage)]
    if data.answer != "teacher":
        return given
    if teacher is None:
        raise InputError(
            f"Parameter `data.objectives.{name}.answer` is `teacher`, but the run has no teacher. "
            "Set `model.teacher`, for example to FrozenTeacher, or use another `answer`."
        )
    rows = views(
        name, range(len(examples)), _ladder(data)[level], material, given, all_prefills=False
    )
    prompts = [encoder.prompt_ids(r[0].unprefilled_turns, plain=r[0].example.plain) for r in rows]
    return [*teacher_replies(teacher, prompts, encoder, data.answer_tokens, stage)]


def encode_rows(
    name: str,
    material: Material,
    level: int,
    answers: Sequence[str | None],
    encoder: Encoder,
    stage: Stage,
) -> Sequence[Sequence[EncodedExample]]:
    """Encode all rows of an objective.

    Args:
        name: Name of the objective.
        material: Rows of all objectives.
        level: Index of the settled step of the objective's context.
        answers: Text to predict for each row.
        encoder: Encoder with the run's tokenizer.
        stage: Counts the rows.

    Returns:
        For each row its candidates.
    """
    data, examples = material.objectives[name], material.examples[name]
    context = _ladder(data)[level]
    rows = views(name, range(len(examples)), context, material, answers, all_prefills=True)
    if data.rejected is not None:
        texts = answer_texts(name, material, data.rejected)
        others = views(name, range(len(examples)), context, material, texts, all_prefills=True)
        rows = [[*row, *other] for row, other in zip(rows, others, strict=True)]
    encoded: list[Sequence[EncodedExample]] = []
    stage.at(name)
    for row in rows:
        stage.add()
        if data.prefills is not None and encoder.on_problem == "error":
            encoded.append(Candidates(row, encoder))
            continue
        candidates = [view.encode(encoder) for view in row]
        kept = [candidate for candidate in candidates if candidate is not None]
        whole = data.rejected is None or len(kept) == len(candidates)
        if kept and whole:  # half a pair is of no use
            encoded.append(kept)
    return encoded
