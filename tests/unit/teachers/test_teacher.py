"""Teachers: frozen, averaged, adapter-off."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from lit_unlearn.data.collation import tokens
from lit_unlearn.errors import InputError
from lit_unlearn.models.loading import LoRA, ModelSource, load_student
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.teachers import (
    AdapterOffTeacher,
    EMATeacher,
    FrozenTeacher,
    SmoothedTeacher,
    Teacher,
)

SOURCE = ModelSource(TINY_NAME)
ADAPTED = ModelSource(TINY_NAME, lora=LoRA(rank=2))
BATCH = tokens([[1, 5, 6, 7]], [2], [2], pad_id=0)
PEFT_WARNING = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


def shifted(student: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)


@PEFT_WARNING
@pytest.mark.parametrize(
    ("teacher", "source"),
    [(FrozenTeacher(), SOURCE), (EMATeacher(), SOURCE), (AdapterOffTeacher(), ADAPTED)],
    ids=["frozen", "ema", "adapter_off"],
)
def test_starts_as_the_student_and_stays(teacher: Teacher, source: ModelSource) -> None:
    student = load_student(source)
    teacher.attach(student, source)
    start = teacher.logits(BATCH)
    shifted(student)
    torch.testing.assert_close(teacher.logits(BATCH), start)
    assert not start.requires_grad
    assert student.training
    torch.testing.assert_close(fresh(source).logits(BATCH), start)


@PEFT_WARNING
def test_adapter_off_leaves_frozen_adapters_frozen() -> None:
    """Adapters switched on again would all be trained."""
    source = ModelSource(TINY_NAME, lora=LoRA(rank=2), trainable=["layers[.]1[.].*lora_"])
    student, teacher = load_student(source), AdapterOffTeacher()
    teacher.attach(student, source)
    before = [parameter.requires_grad for parameter in student.parameters()]
    teacher.logits(BATCH)
    assert [parameter.requires_grad for parameter in student.parameters()] == before
    adapters = [p.requires_grad for n, p in student.named_parameters() if "lora_" in n]
    assert 0 < sum(adapters) < len(adapters)


def fresh(source: ModelSource) -> Teacher:
    teacher = FrozenTeacher()
    teacher.attach(load_student(SOURCE), SOURCE)
    return teacher


def test_ema_worked_value() -> None:
    """Decay 0.75: teacher <- 0.75 t + 0.25 (t + 0.1) = t + 0.025."""
    student, teacher = load_student(SOURCE), EMATeacher(0.75)
    teacher.attach(student, SOURCE)
    before = [p.clone() for p in teacher.model().parameters()]
    shifted(student)
    teacher.after_step(student)
    for old, new in zip(before, teacher.model().parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.025)


def test_only_the_average_is_saved() -> None:
    student = load_student(SOURCE)
    frozen, average = FrozenTeacher(), EMATeacher()
    frozen.attach(student, SOURCE)
    average.attach(student, SOURCE)
    assert frozen.saved_module() is None
    assert average.saved_module() is average.model()
    assert not any(p.requires_grad for p in average.model().parameters())
    assert copy.deepcopy(frozen) is frozen


def test_teacher_dtype() -> None:
    teacher = FrozenTeacher(dtype="bfloat16")
    teacher.attach(load_student(SOURCE), SOURCE)
    assert next(teacher.model().parameters()).dtype == torch.bfloat16
    assert teacher.logits(BATCH).dtype == torch.float32


def test_smoothed_attention_is_that_of_smaller_queries() -> None:
    """Scores are linear in the queries, also behind rotary positions: q / tau does the same."""
    student, teacher = load_student(SOURCE), SmoothedTeacher(2.5)
    teacher.attach(student, SOURCE)
    start = fresh(SOURCE).logits(BATCH)
    assert not torch.allclose(teacher.logits(BATCH), start, atol=1e-3)
    smaller = fresh(SOURCE)
    with torch.no_grad():
        for name, weight in smaller.model().named_parameters():
            if "q_proj" in name:
                weight /= 2.5
    torch.testing.assert_close(teacher.logits(BATCH), smaller.logits(BATCH))
    assert teacher.identity() != SmoothedTeacher(2.0).identity() != FrozenTeacher().identity()


def test_smoothed_teacher_reads_no_trunk_of_the_student(tmp_path: Path) -> None:
    class Sharp:
        """Stored outputs of the student's trunk, which must not be asked for."""

    student, teacher = load_student(SOURCE), SmoothedTeacher(2.5, cache=str(tmp_path))
    teacher.attach(student, SOURCE)
    expected = teacher.logits(BATCH)
    teacher.foresee([BATCH], Sharp())  # type: ignore[arg-type]
    torch.testing.assert_close(teacher.logits(BATCH), expected)


@PEFT_WARNING
def test_bad_input() -> None:
    with pytest.raises(InputError, match="needs adapters"):
        AdapterOffTeacher().attach(load_student(SOURCE), SOURCE)
    with pytest.raises(InputError, match="AdapterOffTeacher or FrozenTeacher"):
        EMATeacher().attach(load_student(ADAPTED), ADAPTED)
    with pytest.raises(InputError, match=r"`model.teacher.init_args.temperature`"):
        SmoothedTeacher(0)
    with pytest.raises(InputError, match="`decay`"):
        EMATeacher(1.0)
