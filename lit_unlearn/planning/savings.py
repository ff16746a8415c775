"""Switches that would save memory, each with its effect, the most effective first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from lit_unlearn.models.loading import LoRA
from lit_unlearn.planning.scenario import Scenario
from lit_unlearn.teachers import AdapterOffTeacher, EMATeacher, FrozenTeacher

__all__ = ["Saving", "Switch", "savings", "savings_until"]

_MOST_DEVICES = 64

Switch = tuple[str, str, Scenario]
"""Options, their other effects, and the scenario with them."""


@dataclass(frozen=True)
class Saving:
    """One switch."""

    options: str
    """Arguments to add to the command line."""
    note: str
    """Other effects of the switch."""
    scenario: Scenario
    """The scenario with the switch."""
    peak: int
    """Bytes of a device with the switch."""


def savings(
    scenario: Scenario, peak_of: Callable[[Scenario], int], rows: int, cacheable: bool
) -> list[Saving]:
    """Return the switches that save memory, each by itself, the most effective first.

    Args:
        scenario: The current scenario.
        peak_of: Function that returns the bytes of a device under a scenario.
        rows: Largest number of rows of an objective in a step.
        cacheable: Whether a cache can store all that objectives read from the teacher.
    """
    now = peak_of(scenario)
    found = [Saving(*each, peak_of(each[2])) for each in _switches(scenario, rows, cacheable)]
    return sorted((s for s in found if s.peak < 0.98 * now), key=lambda s: s.peak)


def savings_until(
    limit: float,
    scenario: Scenario,
    peak_of: Callable[[Scenario], int],
    rows: int,
    cacheable: bool,
) -> list[Saving]:
    """Return switches to combine until the run fits; each is the most effective one that remains.

    Args:
        limit: Bytes of a device.
        scenario: The current scenario.
        peak_of: Function that returns the bytes of a device under a scenario.
        rows: Largest number of rows of an objective in a step.
        cacheable: Whether a cache can store all that objectives read from the teacher.

    Returns:
        The switches in order. The last one's peak is above the limit if nothing is enough.
    """
    chosen: list[Saving] = []
    while not chosen or chosen[-1].peak > limit:
        at = chosen[-1].scenario if chosen else scenario
        further = savings(at, peak_of, rows, cacheable)
        if not further:
            break
        chosen.append(min(further, key=lambda s: (s.peak > limit, _price(s), s.peak)))
    return chosen


def _price(saving: Saving) -> int:
    """Return 0 for usual switches, 1 for adapters (another method), 2 for devices (money)."""
    if "devices" in saving.options:
        return 2
    return 1 if "lora" in saving.options else 0


def _switches(scenario: Scenario, rows: int, cacheable: bool) -> Iterator[Switch]:
    source = scenario.source
    if scenario.gradients == "exact diagnostics":
        yield (
            "--model.diagnostics sketch",
            "cosines are estimates, to about 0.004",
            replace(scenario, gradients="sketch"),
        )
    if not source.activation_checkpointing:
        yield (
            "--model.student.activation_checkpointing true",
            "a second forward pass: up to a third more FLOPs in a step",
            replace(scenario, source=replace(source, activation_checkpointing=True)),
        )
    size = scenario.micro_batch_rows or rows
    if size > 1:
        yield (
            f"--data.micro_batch_rows {max(1, size // 4)}",
            "the same gradients from smaller matrices",
            replace(scenario, micro_batch_rows=max(1, size // 4)),
        )
    yield from _teacher_switches(scenario, cacheable)
    devices = scenario.devices * 2
    if devices <= _MOST_DEVICES:
        yield (
            f"--trainer.strategy fsdp2 --trainer.devices {devices}",
            "rows, weights, gradients and optimizer are divided among devices",
            replace(scenario, strategy="fsdp2", devices=devices),
        )


def _teacher_switches(scenario: Scenario, cacheable: bool) -> Iterator[Switch]:
    source, teacher = scenario.source, scenario.teacher
    if isinstance(teacher, FrozenTeacher):
        if cacheable and teacher.cache is False:
            yield (
                "--model.teacher.init_args.cache true",
                "rows are read once, before the first step; see the size on disk",
                replace(scenario, teacher=FrozenTeacher(teacher.dtype, teacher.path, cache=True)),
            )
        if (teacher.dtype or source.dtype) == "float32":
            yield (
                "--model.teacher.init_args.dtype bfloat16",
                "the teacher's logits are rounded",
                replace(scenario, teacher=FrozenTeacher("bfloat16", teacher.path, teacher.cache)),
            )
    if source.lora is None and source.noise is None and not isinstance(teacher, EMATeacher):
        adapted = replace(scenario, source=replace(source, lora=LoRA(), trainable=None))
        swap = isinstance(teacher, FrozenTeacher) and teacher.path is None and not teacher.cache
        yield (
            "--model.student.lora.rank 16" + " --model.teacher AdapterOffTeacher" * swap,
            "trains adapters instead of the weights: another method; raise the learning rate",
            replace(adapted, teacher=AdapterOffTeacher()) if swap else adapted,
        )
