"""From rows and a teacher to encoded rows: contexts settled, answers made, the gate passed.

The outcome that costs time (which context passed, the teacher's own answers) is stored in the
run's folder and used again on resume, so that a resumed run trains on the same texts.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_unlearn.data.contexts import Context, NoContext
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.objective_data import AnswerSource, ObjectiveData
from lit_unlearn.data.prefills import read_refusals
from lit_unlearn.files import write_text
from lit_unlearn.models.generation import generate_answers
from lit_unlearn.models.teacher import Teacher
from lit_unlearn.preparation.gate import Gate, GateRow, measure, sample
from lit_unlearn.preparation.views import Material, views
from lit_unlearn.schema import EncodedExample, Example, InputError

log = logging.getLogger(__name__)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """Everything that training needs of the data."""

    encoded: dict[str, list[list[EncodedExample]]]
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
    progress: Progress = lambda text: None,
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
        progress: Told what is being done.

    Raises:
        InputError: Rows that cannot be encoded, or answers asked of a missing teacher.
    """
    material = Material(objectives, examples)
    models = f"{student} {teacher.identity() if teacher is not None else None}"
    key = _content_key(objectives, examples, gate, models)
    stored = _read(store, key)
    gate_rows = [GateRow(**row) for row in stored.get("gate", [])]
    levels: dict[str, int] = dict(stored.get("levels", {}))
    answers: dict[str, list[str | None]] = dict(stored.get("answers", {}))
    settled = [GateRow(**row) for row in stored.get("settled", [])]
    if not stored:
        for name in objectives:
            progress(f"teacher gate: {name}")
            tried, level = _settle(name, material, teacher, encoder, gate)
            gate_rows += tried
            levels[name] = level
            settled += tried[-1:] if level < 0 or not tried else [tried[level]]
            progress(f"answers: {name}")
            answers[name] = _answers(name, material, level, teacher, encoder)
        _write(store, key, levels, answers, gate_rows, settled)
    encoded = {}
    for name in objectives:
        progress(f"encoding: {name}")
        encoded[name] = _encode(name, material, levels[name], answers[name], encoder)
    if encoder.problems:
        counted = ", ".join(f"{kind}: {count}" for kind, count in encoder.problems.items())
        log.warning("Rows with problems while encoding (on_problem: warn): %s.", counted)
    return Prepared(encoded, gate_rows, settled)


def _ladder(data: ObjectiveData) -> tuple[Context, ...]:
    return (data.context or NoContext()).ladder()


def _settle(
    name: str, material: Material, teacher: Teacher | None, encoder: Encoder, gate: Gate
) -> tuple[list[GateRow], int]:
    """Try the contexts of an objective in turn; the measurements and the chosen step."""
    data = material.objectives[name]
    ladder = _ladder(data)
    if teacher is None or gate.action == "off":
        return [], len(ladder) - 1
    indices = sample(material.examples[name], gate.sample)
    given = _given_answers(name, material)
    tried: list[GateRow] = []
    for context in ladder:
        rows = views(name, indices, context, material, given, all_prefills=False)
        flat = [view for row in rows for view in row]
        row = measure(name, flat, data, teacher, encoder, gate, context.describe())
        tried.append(row)
        if row.passed:
            return tried, len(tried) - 1
    best = max(range(len(tried)), key=lambda i: (tried[i].share, tried[i].first_token_mean or 0))
    return tried, best


def _given_answers(name: str, material: Material) -> list[str | None]:
    """The answers that need no teacher; None where there is none or the teacher gives it."""
    return _texts(name, material, material.objectives[name].answer)


def _texts(name: str, material: Material, kind: AnswerSource) -> list[str | None]:
    data, examples = material.objectives[name], material.examples[name]
    if kind == "gold":
        return [example.answer for example in examples]
    if kind == "refusal":
        refusals = read_refusals(data.refusals)
        return [refusals[index % len(refusals)] for index in range(len(examples))]
    return [None] * len(examples)


def _answers(
    name: str, material: Material, level: int, teacher: Teacher | None, encoder: Encoder
) -> list[str | None]:
    data, examples = material.objectives[name], material.examples[name]
    given = _given_answers(name, material)
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
    speaker: Any = teacher.model()
    with teacher.speaking():
        return list(
            generate_answers(speaker, encoder.tokenizer, prompts, max_new_tokens=data.answer_tokens)
        )


def _encode(
    name: str,
    material: Material,
    level: int,
    answers: Sequence[str | None],
    encoder: Encoder,
) -> list[list[EncodedExample]]:
    data, examples = material.objectives[name], material.examples[name]
    context = _ladder(data)[level]
    rows = views(name, range(len(examples)), context, material, answers, all_prefills=True)
    if data.rejected is not None:
        texts = _texts(name, material, data.rejected)
        others = views(name, range(len(examples)), context, material, texts, all_prefills=True)
        rows = [[*row, *other] for row, other in zip(rows, others, strict=True)]
    encoded = []
    for row in rows:
        candidates = [view.encode(encoder) for view in row]
        kept = [candidate for candidate in candidates if candidate is not None]
        whole = data.rejected is None or len(kept) == len(candidates)
        if kept and whole:  # half a pair is of no use
            encoded.append(kept)
    return encoded


def _content_key(
    objectives: Mapping[str, ObjectiveData],
    examples: Mapping[str, Sequence[Example]],
    gate: Gate,
    models: str,
) -> str:
    """Changes whenever a row or a setting does that the stored outcome depends on."""
    content = [
        (name, repr(data), [repr(example) for example in examples[name]])
        for name, data in objectives.items()
    ]
    return hashlib.sha256(repr((content, repr(gate), models)).encode()).hexdigest()


def _read(store: Path, key: str) -> dict[str, Any]:
    try:
        stored: dict[str, Any] = json.loads(store.read_text("utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return stored if stored.get("key") == key else {}


def _write(
    store: Path,
    key: str,
    levels: dict[str, int],
    answers: dict[str, list[str | None]],
    gate_rows: list[GateRow],
    settled: list[GateRow],
) -> None:
    def plain(rows: list[GateRow]) -> list[dict[str, Any]]:
        return [vars(row) for row in rows]

    content = {
        "key": key,
        "levels": levels,
        "answers": answers,
        "gate": plain(gate_rows),
        "settled": plain(settled),
    }
    write_text(store, json.dumps(content, ensure_ascii=False, indent=1))
