"""The steps between loading and training, with their output on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_unlearn.data.spellings import both_spellings
from lit_unlearn.distributed.ranks import rank
from lit_unlearn.models.finding import weights_key
from lit_unlearn.models.start_checks import longest_sequence
from lit_unlearn.objectives.objective import all_teacher_inputs
from lit_unlearn.training.setup.prepare import Prepared, prepare
from lit_unlearn.training.setup.teacher_gate import gate_error, gate_table
from lit_unlearn.training.trunk_cache import TrunkCache, trunk_cache
from lit_unlearn.utils.chat_template import RECORD
from lit_unlearn.utils.tables import terminal

if TYPE_CHECKING:
    from lit_unlearn.training.module import UnlearnModule
    from lit_unlearn.types import TokenBatch

__all__ = ["STORE", "fill_teacher_cache", "get_ready", "store_trunk"]

STORE = "preparation.json"
"""File in the run's folder with the outcome of the preparation."""


def get_ready(module: UnlearnModule, data: Any, run: Path, steps: int) -> Prepared:
    """Let the teacher pass its gate, make answers, and give the data module its rows.

    ``steps`` is the number of training steps, for the summary.

    Raises:
        InputError: Rows or the teacher cannot be used, or the teacher fails its gate.
    """
    console = terminal(stderr=True, quiet=rank() > 0)
    student, tokenizer = module.loaded_student(), module.tokenizer
    data.max_length = longest_sequence(student, data.max_length)
    sizes = [(p.numel(), p.requires_grad) for p in student.parameters()]
    trained = sum(size for size, train in sizes if train)
    console.print(f"Student: {sum(n for n, _ in sizes):,} parameters, {trained:,} of them trained")
    prepared = prepare(
        data.objectives,
        data.examples,
        module.teacher,
        data.encoder(tokenizer),
        module.gate,
        run / STORE,
        repr(weights_key(module.source)),
        module.load_start,
        [name for name, objective in module.objectives.items() if objective.reads_teacher_bare],
    )
    tokenizer.init_kwargs[RECORD] = asdict(data.template)  # exports save it
    data.set_rows(prepared.encoded, int(tokenizer.eos_token_id or 0), both_spellings(tokenizer))
    if prepared.gate_rows:
        console.print(gate_table(prepared.gate_rows))
    if prepared.known:
        console.print(prepared.known)
    console.print(f"Data: {data.summary(steps)}", soft_wrap=True)
    error = gate_error(prepared.settled)
    if error is not None and module.gate.action == "error":
        raise error
    return prepared


def _batches(data: Any, steps: int) -> Iterator[dict[str, list[TokenBatch]]]:
    """Yield the batches of all ranks, step by step."""
    plan = data.plan()
    return (data.batch(plan.step(step)) for step in range(steps))


def store_trunk(module: UnlearnModule, data: Any, steps: int) -> TrunkCache | None:
    """Store the outputs of the student's trunk for all rows of a run; see `trunk_cache`."""
    objectives, source = module.objectives, module.source
    read = (
        objectives[name].limit(batch).student
        for step in _batches(data, steps)
        for name, batches in step.items()
        if name in objectives
        for batch in batches
    )
    console = terminal(stderr=True, quiet=rank() > 0)
    return trunk_cache(module.loaded_student(), source, source.cache_trunk, read, console)


def fill_teacher_cache(module: UnlearnModule, data: Any, steps: int) -> None:
    """Give the teacher all inputs that the ranks will ask it about."""
    if module.teacher is not None:
        inputs = all_teacher_inputs(module.objectives, _batches(data, steps))
        module.teacher.foresee(inputs, module.trunk)
