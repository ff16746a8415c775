"""The rows of the first steps and their lengths, read from the data or assumed.

Rows are encoded as in training, with two differences: an adaptive context is at its strongest
level, and an answer that a model would generate has the length of the gold answer, or of
`answer_tokens` if that is shorter.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from typing import Any, Literal

from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.mixing import StepPlan, rows_per_step
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.models.loading import load_tokenizer
from lit_unlearn.objectives import Objective
from lit_unlearn.planning.forward_passes import MicroBatch, Steps, observe
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.prepare import answer_texts, encode_rows
from lit_unlearn.training.setup.views import Material
from lit_unlearn.types import EncodedExample, TokenBatch
from lit_unlearn.utils.progress import Stage
from lit_unlearn.utils.spread import evenly_spread

__all__ = [
    "LENGTHS",
    "EncodedRows",
    "Lengths",
    "PlannedRows",
    "assumed_rows",
    "mean_lengths",
    "read_rows",
    "rows_of",
]

_MOST_ROWS = 32
"""Number of rows of each objective that are encoded, evenly spread."""
_STEPS = 4
"""Smallest number of steps whose batches are observed; more until each objective has a row."""

EncodedRows = Sequence[Sequence[EncodedExample]]
"""Candidates of each row of an objective."""


@dataclass(frozen=True)
class Lengths:
    """Lengths that are assumed if rows cannot be read.

    Args:
        student: Tokens of question and answer.
        teacher: Tokens of the teacher's context, question and answer.
        answer: Tokens of the answer.
    """

    student: int = 128
    teacher: int = 512
    answer: int = 48

    def __post_init__(self) -> None:
        for name in ("student", "teacher", "answer"):
            check_number(f"lengths.{name}", getattr(self, name), 1)


LENGTHS = Lengths()


@dataclass(frozen=True)
class PlannedRows:
    """The rows that the steps of a run read."""

    data: UnlearnDataModule
    """Data module with a sample of the rows, encoded."""
    sizes: Mapping[str, int]
    """Number of all rows of each objective; 0 if unknown."""
    assumed: bool
    """Whether the lengths are assumed."""
    whole: UnlearnDataModule | None = None
    """Data module with all rows, encoded on access; None for assumed rows. Training shifts later
    rows where it drops one; this module does not."""
    _seen: dict[tuple[int | None, int], Steps] = field(default_factory=dict, compare=False)

    def steps(
        self, objectives: Mapping[str, Objective], micro_batch_rows: int | None, devices: int
    ) -> Steps:
        """Return the micro batches of the first steps on the device with the most rows.

        Args:
            objectives: Objectives by name, always the same ones.
            micro_batch_rows: Largest number of rows in one forward pass; None for all.
            devices: Number of devices that share the rows.
        """
        key = (micro_batch_rows, devices)
        if key not in self._seen:
            self._seen[key] = self._steps(objectives, *key)
        return self._seen[key]

    def _steps(
        self, objectives: Mapping[str, Objective], micro_batch_rows: int | None, devices: int
    ) -> Steps:
        seen: dict[tuple[object, ...], MicroBatch] = {}

        def observed(objective: Objective, batch: TokenBatch) -> MicroBatch:
            shapes = (batch.student.input_ids.shape, batch.teacher.input_ids.shape)
            key = (id(objective), *shapes, len(batch.offsets), batch.unprefilled is None)
            if key not in seen:
                seen[key] = observe(objective, batch)
            return seen[key]

        return [
            {name: [observed(objectives[name], each) for each in own] for name, own in step.items()}
            for step in self.batches(micro_batch_rows, devices)
        ]

    def batches(
        self, micro_batch_rows: int | None, devices: int
    ) -> list[dict[str, list[TokenBatch]]]:
        """Return the batches of the first steps; for the arguments see `steps`."""
        form = copy(self.data)
        form.micro_batch_rows = micro_batch_rows
        plan = StepPlan(
            {name: len(rows) for name, rows in form.encoded.items()},
            self.per_step(),
            form.seed,
            0,
            devices,
        )
        first = ceil(1 / min(1.0, *self.per_step().values()))  # until each objective had a row
        return [form.batch(plan.step(step)) for step in range(max(_STEPS, min(first, 32)))]

    def per_step(self) -> dict[str, float]:
        """Return the rows of each objective in a step, over all devices."""
        data = self.data
        wanted = {name: own.rows for name, own in data.objectives.items()}
        sizes = {name: size or 1 for name, size in self.sizes.items()}
        return rows_per_step(sizes, data.mixing, wanted, data.batch_size, data.mixing_temperature)

    def distinct(self, name: str, steps: int) -> float:
        """Return the number of different rows that an objective reads in the first steps."""
        drawn = steps * self.per_step()[name]
        if not self.sizes[name]:
            return drawn
        prefills = self.data.objectives[name].prefills
        forms = max(map(len, self.data.encoded[name]))
        visits = 1 if prefills is None else ceil(forms / prefills.candidates)
        return min(drawn, self.sizes[name] * visits)


def rows_of(
    module: UnlearnModule,
    data: UnlearnDataModule,
    rows: Literal["auto", "read", "assumed"] = "auto",
    tokenizer: str | None = None,
    lengths: Lengths = LENGTHS,
) -> tuple[PlannedRows, list[str]]:
    """Return the rows of a run and remarks about them; see `plan`.

    Raises:
        InputError: The named tokenizer cannot be read, or rows cannot although `rows` is `read`, or
            assumed rows have no room for an answer.
    """
    if rows == "assumed":
        return assumed_rows(data, lengths), []
    source = module.source
    if tokenizer is not None:
        source = replace(source, path=tokenizer, revision=None)
    named = load_tokenizer(source) if tokenizer is not None else None
    try:
        words = load_tokenizer(source) if named is None else named
        data.prepare_data()
        return read_rows(data, data.encoder(words)), []
    except InputError as error:
        if rows == "read":
            raise
        reason = str(error).splitlines()[0]
    remark = f"Lengths are assumed (--lengths.*), since rows cannot be measured: {reason}"
    return assumed_rows(data, lengths), [remark]


def read_rows(data: UnlearnDataModule, encoder: Encoder) -> PlannedRows:
    """Encode a sample of the rows.

    Raises:
        InputError: Rows cannot be found, read or encoded.
    """
    data.prepare_data()
    material = Material(data.objectives, data.examples)
    for name, given in data.objectives.items():  # as long as the teacher may write
        text = "word " * getattr(given.context, "reasoning_tokens", 0)
        material.reasoning[name] = dict.fromkeys(range(len(data.examples[name])), text.strip())
    own = {name: _LazyRows(name, material, encoder) for name in data.objectives}
    encoded = {name: rows.sample(_MOST_ROWS) for name, rows in own.items()}
    for name, rows in encoded.items():
        if not rows:
            raise InputError(f"data.objectives.{name}: expected rows that can be encoded")
    form, whole = copy(data), copy(data)
    form.set_rows(encoded, pad_id=0)
    whole.set_rows(own, pad_id=0)
    sizes = {name: len(rows) for name, rows in own.items()}
    return PlannedRows(form, sizes, assumed=False, whole=whole)


class _LazyRows(Sequence[Sequence[EncodedExample]]):
    """All rows of an objective under its strongest context, encoded on access."""

    def __init__(self, name: str, material: Material, encoder: Encoder) -> None:
        data, examples = material.objectives[name], material.examples[name]
        answers = answer_texts(name, material, data.answer)
        if data.answer in ("teacher", "alternate"):
            gold = [example.answer or "word " * data.answer_tokens for example in examples]
            answers = [" ".join(text.split()[: data.answer_tokens]) for text in gold]
        stage = Stage("encoding")
        self._size = len(examples)
        self._encode = partial(encode_rows, name, material, -1, answers, encoder, stage)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: Any) -> Any:
        return self._encode([index])[0]

    def sample(self, most: int) -> EncodedRows:
        """Return at most ``most`` rows, evenly spread."""
        return self._encode(evenly_spread(range(self._size), most))


def assumed_rows(data: UnlearnDataModule, lengths: Lengths) -> PlannedRows:
    """Return rows of the given lengths, as many as the config sets.

    Args:
        data: Settings; no rows are read.
        lengths: Lengths of every row; the teacher's is used only if an objective has a context.

    Raises:
        InputError: A row has no room for its answer.
    """
    if lengths.answer >= min(lengths.student, lengths.teacher):
        raise InputError(
            "--lengths.answer: expected fewer tokens than the whole row has "
            f"(--lengths.student {lengths.student}, --lengths.teacher {lengths.teacher}), found "
            f"{lengths.answer}"
        )
    form = copy(data)
    form.set_rows({n: _assumed_row(own, lengths) for n, own in data.objectives.items()}, pad_id=0)
    return PlannedRows(form, dict.fromkeys(data.objectives, 0), assumed=True)


def _assumed_row(data: ObjectiveData, lengths: Lengths) -> EncodedRows:
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


def mean_lengths(rows: Sequence[Sequence[EncodedExample]]) -> tuple[float, float, float]:
    """Return the mean number of tokens of the student's row, the teacher's row, and the answer."""
    flat = [candidate for row in rows for candidate in row]
    return (
        sum(len(c.student_ids) for c in flat) / len(flat),
        sum(len(c.teacher_ids) for c in flat) / len(flat),
        sum(c.predictions for c in flat) / len(flat),
    )
