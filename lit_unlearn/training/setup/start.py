"""What comes between loading and the first step, with what is shown of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.distributed.ranks import rank
from lit_unlearn.models.finding import fingerprint
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.objectives.objective import Objective, all_teacher_inputs, check_teacher
from lit_unlearn.teachers.teacher import Teacher
from lit_unlearn.training.setup.checks import check_names
from lit_unlearn.training.setup.prepare import Load, Prepared, prepare
from lit_unlearn.training.setup.teacher_gate import Gate, gate_error, gate_table
from lit_unlearn.utils.tables import terminal

STORE = "preparation.json"


def get_ready(
    objectives: Mapping[str, Objective],
    data: Any,
    teacher: Teacher | None,
    tokenizer: Any,
    gate: Gate,
    run: Path,
    source: ModelSource,
    start: Load,
    steps: int,
) -> Prepared:
    """Let the teacher pass its gate, make answers, and give the data module its rows.

    Args:
        objectives: By name.
        data: The `UnlearnDataModule`; gets its encoded rows.
        teacher: The attached teacher, or None.
        tokenizer: The student's.
        gate: What the teacher must achieve.
        run: The run's folder, which keeps the outcome.
        source: The start model.
        start: Loads it.
        steps: Of the run, for the summary.

    Raises:
        InputError: Names, rows or the teacher cannot be used, or the teacher fails.
    """
    check_names(objectives.keys(), data.objectives.keys())
    check_teacher(objective for objective in objectives.values() if teacher is None)
    console = terminal(stderr=True)
    console.quiet = rank() > 0
    prepared = prepare(
        data.objectives,
        data.examples,
        teacher,
        Encoder(tokenizer, data.max_length, data.on_problem),
        gate,
        run / STORE,
        fingerprint(source.path, source.revision),
        start,
    )
    data.set_rows(prepared.encoded, pad_id=int(tokenizer.eos_token_id or 0))
    if prepared.gate_rows:
        console.print(gate_table(prepared.gate_rows))
    console.print(f"Data: {data.summary(steps)}")
    error = gate_error(prepared.settled)
    if error is not None and gate.action == "error":
        raise error
    return prepared


def foresee(
    teacher: Teacher | None, objectives: Mapping[str, Objective], data: Any, steps: int
) -> None:
    """Tell the teacher all that it will be asked, by all processes.

    Args:
        teacher: The attached teacher, or None.
        objectives: By name.
        data: The `UnlearnDataModule` with its encoded rows.
        steps: Of the run.
    """
    if teacher is not None:
        plan = data.plan()
        batches = (data.batch(plan.step(step)) for step in range(steps))
        teacher.foresee(all_teacher_inputs(objectives, batches))
