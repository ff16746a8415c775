"""Which rows a step reads and how long they are: from the data where it can be read, else assumed.

Rows are encoded as training encodes them, with two differences, both on the dear side or stated:
an adaptive context is taken at its strongest, and answers that a model would have to make up are
given the length of the gold answer (or of `answer_tokens`, if that is shorter).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from math import ceil

from lit_unlearn.data.contexts import NoContext
from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.mixing import StepPlan, rows_per_step
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.prefills import read_refusals
from lit_unlearn.errors import InputError
from lit_unlearn.objectives import Objective
from lit_unlearn.planning.reads import Work, observe
from lit_unlearn.planning.run import Steps
from lit_unlearn.training.setup.views import Material, views
from lit_unlearn.types import EncodedExample, Example, TokenBatch
from lit_unlearn.utils.spread import evenly_spread

_MOST_ROWS = 32
"""Rows of each objective that are encoded, evenly spread."""
_STEPS = 4
"""Steps whose batches are looked at."""

Candidates = list[EncodedExample]
"""The forms of one row: one, one for each prefill, or the preferred and the rejected answer."""


@dataclass(frozen=True)
class Lengths:
    """Lengths in tokens that are assumed where rows cannot be read."""

    student: int = 128
    """Question and answer."""
    teacher: int = 512
    """The same behind the teacher's context."""
    answer: int = 48


@dataclass(frozen=True)
class Rows:
    """What the steps of a run read."""

    data: UnlearnDataModule
    """Holds the encoded rows, a sample of them."""
    sizes: Mapping[str, int]
    """Rows of each objective, all of them; 0 where that is not known."""
    assumed: bool
    """Whether the lengths are made up."""

    def steps(
        self, objectives: Mapping[str, Objective], micro_batch_rows: int | None, devices: int
    ) -> Steps:
        """What the device with most rows reads in the first steps.

        Args:
            objectives: By name.
            micro_batch_rows: Most rows in one forward pass; None for all.
            devices: Among how many the rows are shared out.
        """
        cache: dict[tuple[object, ...], Work] = {}
        return [
            {
                name: [_observed(objectives[name], batch, cache) for batch in own]
                for name, own in batches.items()
            }
            for batches in self._batches(micro_batch_rows, devices)
        ]

    def _batches(
        self, micro_batch_rows: int | None, devices: int
    ) -> list[dict[str, list[TokenBatch]]]:
        form = copy(self.data)
        form.micro_batch_rows = micro_batch_rows
        plan = StepPlan(
            {name: len(rows) for name, rows in form.encoded.items()},
            self.per_step(),
            form.seed,
            0,
            devices,
        )
        first = ceil(1 / min(1.0, *self.per_step().values()))  # until each has had a row
        return [form.batch(plan.step(step)) for step in range(max(_STEPS, min(first, 32)))]

    def per_step(self) -> dict[str, float]:
        """Rows of each objective in a step, over all devices."""
        data = self.data
        wanted = {name: own.rows for name, own in data.objectives.items()}
        sizes = {name: size or 1 for name, size in self.sizes.items()}
        return rows_per_step(sizes, data.mixing, wanted, data.batch_size, data.mixing_temperature)

    def distinct(self, name: str, steps: int) -> float:
        """How many visits of rows in a run of so many steps are not repetitions."""
        drawn = steps * self.per_step()[name]
        if not self.sizes[name]:
            return drawn
        prefills = self.data.objectives[name].prefills
        forms = max(map(len, self.data.encoded[name]))
        visits = 1 if prefills is None else ceil(forms / prefills.candidates)
        return min(drawn, self.sizes[name] * visits)


def _observed(
    objective: Objective, batch: TokenBatch, cache: dict[tuple[object, ...], Work]
) -> Work:
    """Look at batches of one shape once."""
    shape = (
        id(objective),
        batch.student.input_ids.shape,
        batch.teacher.input_ids.shape,
        len(batch.offsets),
        batch.unprefilled is None,
    )
    if shape not in cache:
        cache[shape] = observe(objective, batch)
    return cache[shape]


# ---------------------------------------------------------------------------------- from the data


def read_rows(data: UnlearnDataModule, encoder: Encoder) -> Rows:
    """Encode a sample of the rows.

    Raises:
        InputError: Rows cannot be found, read or encoded.
    """
    data.prepare_data()
    shown = {name: evenly_spread(rows, _MOST_ROWS) for name, rows in data.examples.items()}
    material = Material(data.objectives, shown)
    encoded = {name: _encoded(name, material, encoder) for name in data.objectives}
    for name, rows in encoded.items():
        if not rows:
            raise InputError(f"data.objectives.{name}: expected rows that can be encoded")
    form = copy(data)
    form.set_rows(encoded, pad_id=0)
    return Rows(form, {name: len(rows) for name, rows in data.examples.items()}, assumed=False)


def _encoded(name: str, material: Material, encoder: Encoder) -> list[Candidates]:
    data, examples = material.objectives[name], material.examples[name]
    context = (data.context or NoContext()).ladder()[-1]
    kinds = [data.answer] + ([data.rejected] if data.rejected else [])
    forms = [
        views(
            name,
            range(len(examples)),
            context,
            material,
            [_answer(kind, data, example, index) for index, example in enumerate(examples)],
            all_prefills=True,
        )
        for kind in kinds
    ]
    found = []
    for parts in zip(*forms, strict=True):
        row = [view.encode(encoder) for part in parts for view in part]
        kept = [candidate for candidate in row if candidate is not None]
        if kept and (len(kinds) == 1 or len(kept) == len(row)):
            found.append(kept)
    return found


def _answer(kind: str, data: ObjectiveData, example: Example, index: int) -> str | None:
    """The text to predict, or one that is about as long."""
    if kind == "none":
        return None
    if kind == "refusal":
        refusals = read_refusals(data.refusals)
        return refusals[index % len(refusals)]
    if kind == "gold":
        return example.answer
    return " ".join((example.answer or "word " * data.answer_tokens).split()[: data.answer_tokens])


# --------------------------------------------------------------------------------------- assumed


def assumed_rows(data: UnlearnDataModule, lengths: Lengths) -> Rows:
    """Rows of the given lengths, in the numbers that the config asks for.

    Args:
        data: The config's settings; nothing is read.
        lengths: Of every row; the teacher's only where an objective has a context.

    Raises:
        InputError: A row without room for its answer.
    """
    if lengths.answer >= min(lengths.student, lengths.teacher):
        raise InputError(
            "--lengths.answer: expected fewer tokens than the whole row has "
            f"(--lengths.student {lengths.student}, --lengths.teacher {lengths.teacher}), found "
            f"{lengths.answer}"
        )
    form = copy(data)
    form.set_rows({n: _made_up(own, lengths) for n, own in data.objectives.items()}, pad_id=0)
    return Rows(form, dict.fromkeys(data.objectives, 0), assumed=True)


def _made_up(data: ObjectiveData, lengths: Lengths) -> list[Candidates]:
    teacher = lengths.student if data.context is None else lengths.teacher
    start = lengths.student - lengths.answer
    row = EncodedExample(
        example_id="assumed",
        student_ids=tuple(range(lengths.student)),
        student_start=start,
        teacher_ids=tuple(range(teacher)),
        teacher_start=teacher - lengths.answer,
        target_count=0 if data.answer == "none" else lengths.answer,
    )
    if data.answer == "none":
        row = replace(row, student_ids=row.student_ids[:start])
        row = replace(row, teacher_ids=row.teacher_ids[: row.teacher_start])
    if data.prefills is None:
        return [[row] * (1 if data.rejected is None else 2)]
    bare = replace(row, unprefilled_ids=row.teacher_ids, unprefilled_start=row.teacher_start)
    return [[bare] * data.prefills.candidates]


def shapes(rows: Sequence[Sequence[EncodedExample]]) -> tuple[float, float, float]:
    """Mean tokens of a row for the student, for the teacher, and of its answer."""
    flat = [candidate for row in rows for candidate in row]
    return (
        sum(len(c.student_ids) for c in flat) / len(flat),
        sum(len(c.teacher_ids) for c in flat) / len(flat),
        sum(c.predictions for c in flat) / len(flat),
    )
