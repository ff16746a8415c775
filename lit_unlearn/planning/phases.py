"""Phases of a run in the order in which they come, with their FLOPs and the time that they take.

Each phase is counted on a sample of the rows, as prefix trees: what rows of the sample begin with
counts once. Seconds are FLOPs divided by two measured rates of this machine, both in matrix
products of the model's own shapes: one for many tokens at once, one for a token of each reply.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.models.dtypes import measured_rate
from lit_unlearn.models.prefix_tree import prefix_tree
from lit_unlearn.planning.flops import forward_flops
from lit_unlearn.planning.forward_passes import ForwardPass
from lit_unlearn.planning.layout import Layout
from lit_unlearn.planning.planned_rows import PlannedRows
from lit_unlearn.planning.scenario import Scenario
from lit_unlearn.teachers import FrozenTeacher
from lit_unlearn.training.setup.teacher_gate import Gate
from lit_unlearn.types import EncodedExample, Example
from lit_unlearn.utils.progress import duration
from lit_unlearn.utils.spread import evenly_spread
from lit_unlearn.utils.tables import add_row, table
from lit_unlearn.utils.threads import processor

__all__ = ["Asked", "Evaluated", "Phase", "Rates", "phase_table", "phases", "rates_here"]

_AT_ONCE = 16
"""Replies that are generated together."""
_SAMPLE = 16
"""Rows of each objective that an evaluation is counted on."""

_FORMS = 2
"""Candidates of each row that caches are counted on; each must be encoded."""

Ids = Sequence[int]


@dataclass(frozen=True)
class Phase:
    """One phase of a run."""

    name: str
    reading: float
    """FLOPs of passes over many tokens."""
    replying: float = 0.0
    """FLOPs of generation, token by token."""
    note: str = ""

    def seconds(self, rates: Rates) -> float:
        """Return the time that the phase takes."""
        return self.reading / (1e12 * rates.reading) + self.replying / (1e12 * rates.replying)


@dataclass(frozen=True)
class Rates:
    """Measured TFLOP/s of this machine."""

    reading: float
    replying: float
    machine: str
    """Processor or GPU, threads and dtype, in words."""


@dataclass(frozen=True)
class Evaluated:
    """An evaluation before and after training."""

    encoder: Encoder
    rows: dict[str, list[Example]]
    """Rows by objective."""
    prefilled: frozenset[str]
    """Objectives whose rows are asked once more behind an opener."""
    max_new_tokens: int


Asked = Evaluated | None


def rates_here(layout: Layout, compute_bytes: int, device: torch.device) -> Rates:
    """Measure the rates of this machine; takes a second.

    Args:
        layout: The model.
        compute_bytes: Bytes of a number in matrix products.
        device: Where the run computes.
    """
    dtype = torch.bfloat16 if compute_bytes == 2 else torch.float32
    wide = max((m.inputs, m.outputs) for m in layout.matrices if m.role == "mlp_in")
    where = f"{processor()}, {torch.get_num_threads()} threads"
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    return Rates(
        measured_rate(dtype, device.type, (256, *wide)),
        measured_rate(dtype, device.type, (_AT_ONCE, *wide)),
        f"{where}, {str(dtype).removeprefix('torch.')}",
    )


def phases(
    gate: Gate, scenario: Scenario, rows: PlannedRows, each: float, steps: int, asked: Asked = None
) -> list[Phase]:
    """Return the phases of a run.

    Args:
        gate: The teacher gate.
        scenario: The switches of the run.
        rows: Its rows.
        each: FLOPs of a step.
        steps: Number of optimizer steps.
        asked: The evaluation before and after training; None for none.
    """
    found = [*_teaching(gate, scenario, rows), *_caches(scenario, rows, steps)]
    evaluation = [] if asked is None else [_evaluation(scenario.student, asked)]
    found += [Phase("evaluation before", *pair) for pair in evaluation]
    found.append(Phase(f"{steps:,} steps", steps * each))
    found += [Phase("evaluation after", *pair) for pair in evaluation]
    written = scenario.student.parameters * scenario.weight_bytes
    found.append(Phase("export", 0.0, note=f"{written / 1e9:.2g} GB to be written"))
    return [phase for phase in found if phase.reading or phase.note]


def _teaching(gate: Gate, scenario: Scenario, rows: PlannedRows) -> Iterator[Phase]:
    """Yield the teacher gate, and the answers that a model writes."""
    layout, data = scenario.teaching.layout, rows.data
    if layout is None:
        return
    reading = replying = answers_read = answers = 0.0
    for name, own in data.objectives.items():
        prompts = [row[0].teacher_ids[: row[0].teacher_start] for row in data.encoded[name]]
        if gate.action != "off":
            sample = evenly_spread(prompts, gate.sample)
            reading += _read(layout, sample)
            replying += _replies(layout, len(sample) * gate.max_new_tokens)
        if own.answer in ("teacher", "alternate"):
            size = rows.sizes[name] or len(prompts)
            answers_read += _read(layout, prompts) * size / len(prompts)
            answers += _replies(layout, size * own.answer_tokens)
    yield Phase("teacher gate", reading, replying)
    yield Phase("answers of a model", answers_read, answers)


def _caches(scenario: Scenario, rows: PlannedRows, steps: int) -> Iterator[Phase]:
    """Yield the trunk cache and the teacher cache, both empty at first."""
    student, trunk, teacher = scenario.student, 0.0, 0.0
    stored, teaching = scenario.stored_trunk, scenario.teaching
    start = isinstance(scenario.teacher, FrozenTeacher) and scenario.teacher.path is None
    for name, encoded in rows.data.encoded.items():
        flat = [candidate for row in encoded for candidate in evenly_spread(row, _FORMS)]
        share = rows.distinct(name, steps) / len(flat)
        if stored:
            read = [_up_to_answer(c.student_ids, c.student_start, c) for c in flat]
            trunk += share * (_read(student, read) - _read(student, read, student.lowest))
        if teaching.cached and teaching.layout is not None:
            read = [_up_to_answer(c.teacher_ids, c.teacher_start, c) for c in flat]
            same = stored and start and all(c.teacher_ids == c.student_ids for c in flat)
            teacher += share * _read(teaching.layout, read, student.lowest if same else 0)
    yield Phase("trunk cache", trunk, note="less where it is filled" if trunk else "")
    yield Phase("teacher cache", teacher, note="less where it is filled" if teacher else "")


def _up_to_answer(ids: Ids, start: int, row: EncodedExample) -> Ids:
    """Return the ids that are read: those before the last predicted one."""
    return ids[: start + max(row.predictions, 1) - 1]


def _evaluation(layout: Layout, asked: Evaluated) -> tuple[float, float]:
    """Return the FLOPs of reading questions and gold answers, and of the replies."""
    reading = replying = 0.0
    for name, examples in asked.rows.items():
        sample = evenly_spread(examples, _SAMPLE)
        if not sample:
            continue
        times = len(examples) * (1 + (name in asked.prefilled))
        encoded = [asked.encoder.encode(each, each.answer or " ") for each in sample]
        read = [row.student_ids for row in encoded if row is not None]
        reading += _read(layout, read) * times / max(len(read), 1)
        replying += _replies(layout, times * asked.max_new_tokens)
    return reading, replying


def _read(layout: Layout, rows: Sequence[Ids], lowest: int = 0) -> float:
    """Return the FLOPs of reading rows once, from a block on; the head reads a token of each."""
    tree = prefix_tree([row for row in rows if row])
    squares = sum(len(s.ids) * (s.first + len(s.ids)) for s in tree.segments)
    one = ForwardPass("teacher", len(rows), 0, tree.tokens, squares, len(rows), False)
    return forward_flops(layout, one, lowest)


def _replies(layout: Layout, tokens: int) -> float:
    """Return the FLOPs of so many generated tokens; attention is left out."""
    return forward_flops(layout, ForwardPass("teacher", 1, 1, tokens, 0, tokens, False))


def phase_table(found: Sequence[Phase], rates: Rates) -> Table:
    """Return the phases, their FLOPs and seconds as a table."""
    made = table(
        "Time to come, at the most",
        ("phase", "TFLOP", "about", ""),
        left=1,
        caption=f"{rates.machine}: {1e3 * rates.reading:.3g} GFLOP/s, in replies "
        f"{1e3 * rates.replying:.3g}",
    )
    for phase in found:
        cells: list[Any] = [phase.name, f"{(phase.reading + phase.replying) / 1e12:.3g}"]
        add_row(made, [*cells, duration(phase.seconds(rates)), phase.note])
    total = sum(phase.reading + phase.replying for phase in found)
    seconds = sum(phase.seconds(rates) for phase in found)
    add_row(made, ["all", f"{total / 1e12:.3g}", duration(seconds), ""], "bold")
    return made
