"""The steps between loading and training, with their output on the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_unlearn.data.epochs import limited, run_steps
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
    from lit_unlearn.data.validation_rows import ValidationBatch
    from lit_unlearn.training.module import UnlearnModule
    from lit_unlearn.types import Example, TokenBatch

__all__ = ["STORE", "fill_teacher_cache", "get_ready", "store_trunk"]

log = logging.getLogger(__name__)

STORE = "preparation.json"
"""File in the run's folder with the outcome of the preparation."""


def get_ready(
    module: UnlearnModule,
    data: Any,
    run: Path,
    trainer: Any = None,
    validation: Mapping[str, Sequence[Example]] | None = None,
) -> Prepared:
    """Let the teacher pass its gate, make answers, and give the data module its rows.

    The `max_steps` of ``trainer`` becomes the number of steps of the run, since `max_epochs`
    depends on the rows; without a trainer there is no training. ``validation`` are the rows that
    are validated, if any.

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
        validation,
    )
    tokenizer.init_kwargs[RECORD] = asdict(data.template)  # exports save it
    data.set_rows(prepared.encoded, int(tokenizer.eos_token_id or 0), both_spellings(tokenizer))
    if prepared.gate_rows:
        console.print(gate_table(prepared.gate_rows))
    if prepared.known:
        console.print(prepared.known)
    if trainer is not None:
        steps = trainer.fit_loop.epoch_loop.max_steps = run_steps(trainer, data.epoch_steps())
        console.print(f"Data:\n{data.summary(steps)}", soft_wrap=True)
        console.print(_length(trainer, data, steps), soft_wrap=True)
    if validation is data.examples and rank() == 0:
        log.warning(
            "Validation reads the training rows, since no objective has others; set "
            "`data.objectives.NAME.validation` to sources, or to a share such as 0.1."
        )
    if prepared.validation:
        sizes_of = (f"{name}: {len(rows)} rows" for name, rows in prepared.validation.items())
        console.print(f"Validation: {'; '.join(sizes_of)}", soft_wrap=True)
    error = gate_error(prepared.settled)
    if error is not None and module.gate.action == "error":
        raise error
    return prepared


def _length(trainer: Any, data: Any, steps: int) -> str:
    """Return a line about the steps of a run and the length of its epochs."""
    passed = "" if isinstance(data.epoch, int) else f" (the rows of {data.epoch})"
    return f"Training: {steps} steps, in epochs of {limited(data.epoch_steps(), trainer)}{passed}"


def _batches(module: UnlearnModule, data: Any, steps: int) -> Iterator[dict[str, list[TokenBatch]]]:
    """Yield the batches of all ranks, step by step, and those of a validation."""
    plan = data.plan()
    for step in range(steps):
        yield data.batch(plan.step(step))
    for name, batch in _validation(module, data):
        yield {name: [batch.rows]}


def _validation(module: UnlearnModule, data: Any) -> Iterator[tuple[str, ValidationBatch]]:
    """Yield the batches of a validation with their objectives."""
    found = {} if module.prepared is None else module.prepared.validation
    return ((n, b) for n, rows in found.items() for b in data.validation_batches(n, rows))


def store_trunk(module: UnlearnModule, data: Any, steps: int) -> TrunkCache | None:
    """Store the outputs of the student's trunk for all rows of a run; see `trunk_cache`."""
    objectives, source = module.objectives, module.source
    read = (
        objectives[name].limit(batch).student
        for step in _batches(module, data, steps)
        for name, batches in step.items()
        if name in objectives
        for batch in batches
    )
    gold = (b.gold.student for _, b in _validation(module, data) if b.gold is not None)
    console = terminal(stderr=True, quiet=rank() > 0)
    requests = chain(read, gold)
    return trunk_cache(module.loaded_student(), source, source.cache_trunk, requests, console)


def fill_teacher_cache(module: UnlearnModule, data: Any, steps: int) -> None:
    """Give the teacher all inputs that the ranks will ask it about."""
    if module.teacher is not None:
        inputs = all_teacher_inputs(module.objectives, _batches(module, data, steps))
        module.teacher.foresee(inputs, module.trunk)
