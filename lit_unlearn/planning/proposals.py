"""Switches that would save memory, each with what it saves, the most effective first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from lit_unlearn.models.loading import LoRA
from lit_unlearn.planning.setting import Setting
from lit_unlearn.teachers import AdapterOffTeacher, EMATeacher, FrozenTeacher

_MOST_DEVICES = 64


@dataclass(frozen=True)
class Proposal:
    """One switch, or several together."""

    options: str
    """What to add to the command line."""
    note: str
    """What else it changes."""
    setting: Setting
    peak: int
    """Bytes on a device afterwards."""


def proposals(
    setting: Setting, peak_of: Callable[[Setting], int], rows: int, cacheable: bool
) -> list[Proposal]:
    """Each switch by itself, the one that leaves least in memory first; only those that save.

    Args:
        setting: What is set now.
        peak_of: Bytes on a device under a setting.
        rows: Most rows of an objective in a step.
        cacheable: Whether every objective reads the teacher's logits alone.
    """
    now = peak_of(setting)
    made = [
        Proposal(options, note, changed, peak_of(changed))
        for options, note, changed in _switches(setting, rows, cacheable)
    ]
    return sorted((p for p in made if p.peak < 0.98 * now), key=lambda p: p.peak)


def enough(
    setting: Setting,
    peak_of: Callable[[Setting], int],
    rows: int,
    cacheable: bool,
    limit: float,
) -> list[Proposal]:
    """Switches to set together until it fits, the most effective one at each turn.

    Args:
        setting: What is set now.
        peak_of: Bytes on a device under a setting.
        rows: Most rows of an objective in a step.
        cacheable: Whether every objective reads the teacher's logits alone.
        limit: Bytes of a device.

    Returns:
        The switches in order; the last one's peak is above the limit if nothing is enough.
    """
    chosen: list[Proposal] = []
    while not chosen or chosen[-1].peak > limit:
        at = chosen[-1].setting if chosen else setting
        further = proposals(at, peak_of, rows, cacheable)
        if not further:
            break
        # more devices cost money, and adapters change the method: only where the rest is too little
        chosen.append(min(further, key=lambda p: (p.peak > limit, _price(p), p.peak)))
    return chosen


def _price(proposal: Proposal) -> int:
    if "devices" in proposal.options:
        return 2
    return 1 if "lora" in proposal.options else 0


def _switches(setting: Setting, rows: int, cacheable: bool) -> Iterator[tuple[str, str, Setting]]:
    """Options, what else they change, and the setting that they make."""
    source, teacher = setting.source, setting.teacher
    if setting.gathered == "exact diagnostics":
        yield (
            "--model.diagnostics sketch",
            "cosines are estimates, to about 0.004",
            replace(setting, gathered="sketch"),
        )
    if not source.activation_checkpointing:
        yield (
            "--model.student.activation_checkpointing true",
            "a second forward pass: a step takes up to a third longer",
            replace(setting, source=replace(source, activation_checkpointing=True)),
        )
    size = setting.micro_batch_rows or rows
    if size > 1:
        yield (
            f"--data.micro_batch_rows {max(1, size // 4)}",
            "the same gradients from smaller matrices",
            replace(setting, micro_batch_rows=max(1, size // 4)),
        )
    yield from _teachers(setting, cacheable)
    if source.lora is None and source.noise is None and not isinstance(teacher, EMATeacher):
        adapted = replace(setting, source=replace(source, lora=LoRA(), trainable=None))
        swap = isinstance(teacher, FrozenTeacher) and teacher.path is None and not teacher.cache
        yield (
            "--model.student.lora.rank 16" + " --model.teacher AdapterOffTeacher" * swap,
            "trains adapters instead of the weights: another method; raise the learning rate",
            replace(adapted, teacher=AdapterOffTeacher()) if swap else adapted,
        )
    devices = setting.devices * 2
    if devices <= _MOST_DEVICES:
        yield (
            f"--trainer.strategy fsdp2 --trainer.devices {devices}",
            "rows, weights, gradients and optimizer are shared out",
            replace(setting, strategy="fsdp2", devices=devices),
        )


def _teachers(setting: Setting, cacheable: bool) -> Iterator[tuple[str, str, Setting]]:
    teacher = setting.teacher
    if not isinstance(teacher, FrozenTeacher):
        return
    if cacheable and teacher.cache is False:
        yield (
            "--model.teacher.init_args.cache true",
            "rows are read once, before the first step; see the size on disk",
            replace(setting, teacher=FrozenTeacher(teacher.dtype, teacher.path, cache=True)),
        )
    if (teacher.dtype or setting.source.dtype) == "float32":
        yield (
            "--model.teacher.init_args.dtype bfloat16",
            "the teacher's logits are rounded",
            replace(setting, teacher=FrozenTeacher("bfloat16", teacher.path, teacher.cache)),
        )
