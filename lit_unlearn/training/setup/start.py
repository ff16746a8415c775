"""The steps between loading and training, with their output on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from lit_unlearn.data.spellings import other_spellings
from lit_unlearn.distributed.ranks import rank
from lit_unlearn.models.finding import weights_key
from lit_unlearn.models.forward import StoredTrunk
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.objectives.objective import Objective, all_teacher_inputs
from lit_unlearn.teachers.teacher import Teacher
from lit_unlearn.training.setup.prepare import Load, Prepared, prepare
from lit_unlearn.training.setup.teacher_gate import Gate, gate_error, gate_table
from lit_unlearn.training.trunk_cache import TrunkCache, trunk_cache
from lit_unlearn.utils.chat_template import RECORD
from lit_unlearn.utils.tables import terminal

__all__ = ["STORE", "announce", "foresee", "get_ready", "store_trunk"]

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
        objectives: Name -> objective.
        data: The `UnlearnDataModule`; gets its encoded rows.
        teacher: The attached teacher, or None.
        tokenizer: The student's tokenizer.
        gate: Thresholds of the teacher.
        run: The run's folder, which keeps the outcome.
        source: The start model.
        start: Function that loads the start model.
        steps: Number of training steps, for the summary.

    Raises:
        InputError: Rows or the teacher cannot be used, or the teacher fails its gate.
    """
    console = terminal(stderr=True, quiet=rank() > 0)
    prepared = prepare(
        data.objectives,
        data.examples,
        teacher,
        data.encoder(tokenizer),
        gate,
        run / STORE,
        repr(weights_key(source)),
        start,
        [name for name, objective in objectives.items() if objective.reads_teacher_bare],
    )
    tokenizer.init_kwargs[RECORD] = asdict(data.template)  # exports save it
    pad_id = int(tokenizer.eos_token_id or 0)
    data.set_rows(prepared.encoded, pad_id, other_spellings(tokenizer))
    if prepared.gate_rows:
        console.print(gate_table(prepared.gate_rows))
    if prepared.known:
        console.print(prepared.known)
    console.print(f"Data: {data.summary(steps)}", soft_wrap=True)
    error = gate_error(prepared.settled)
    if error is not None and gate.action == "error":
        raise error
    return prepared


def announce(student: nn.Module) -> None:
    """Print the size of a student and of its trained part."""
    sizes = [(p.numel(), p.requires_grad) for p in student.parameters()]
    trained = sum(size for size, train in sizes if train)
    terminal(stderr=True, quiet=rank() > 0).print(
        f"Student: {sum(size for size, _ in sizes):,} parameters, {trained:,} of them trained"
    )


def foresee(
    teacher: Teacher | None,
    objectives: Mapping[str, Objective],
    data: Any,
    steps: int,
    trunk: StoredTrunk | None = None,
) -> None:
    """Give the teacher all inputs that the ranks will ask it about.

    Args:
        teacher: The attached teacher, or None.
        objectives: Name -> objective.
        data: The `UnlearnDataModule` with its encoded rows.
        steps: Number of training steps.
        trunk: Stored outputs of the student's trunk; None for none.
    """
    if teacher is not None:
        plan = data.plan()
        batches = (data.batch(plan.step(step)) for step in range(steps))
        teacher.foresee(all_teacher_inputs(objectives, batches), trunk)


def store_trunk(
    student: nn.Module,
    source: ModelSource,
    objectives: Mapping[str, Objective],
    data: Any,
    steps: int,
) -> TrunkCache | None:
    """Compute what leaves the student's trunk for all rows of a run; see `trunk_cache`.

    Args:
        student: The student with its start weights in the trunk.
        source: The model that the student was loaded from.
        objectives: Name -> objective.
        data: The `UnlearnDataModule` with its encoded rows.
        steps: Number of training steps.
    """
    plan = data.plan()
    read = (
        objectives[name].limit(batch).student
        for step in range(steps)
        for name, batches in data.batch(plan.step(step)).items()
        if name in objectives
        for batch in batches
    )
    console = terminal(stderr=True)
    console.quiet = rank() > 0
    return trunk_cache(student, source, source.cache_trunk, read, console)
