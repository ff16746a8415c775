"""ContrastTeacher: the formula, what it says when it generates, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from lit_unlearn.data.collation import tokens
from lit_unlearn.errors import InputError
from lit_unlearn.models.forward import FrozenReader
from lit_unlearn.models.generation import generate_answers
from lit_unlearn.models.loading import ModelSource, load_base, load_student
from lit_unlearn.models.tiny import TINY_NAME, tiny_model
from lit_unlearn.teachers.contrast import ContrastTeacher, contrast

SOURCE = ModelSource(TINY_NAME)
BATCH = tokens([[1, 5, 6, 7], [1, 9, 8]], [2, 1], [2, 2], pad_id=0)


@pytest.fixture
def other(tmp_path: Path) -> str:
    """A folder with another random model of the same vocabulary."""
    tiny_model(seed=3).save_pretrained(tmp_path / "reinforced")  # type: ignore[no-untyped-call]
    return str(tmp_path / "reinforced")


def attached(path: str, **options: Any) -> ContrastTeacher:
    teacher = ContrastTeacher(path, **options)
    teacher.attach(load_student(SOURCE), SOURCE)
    return teacher


def test_worked_value() -> None:
    """(1, 2, 3) less twice relu((2, 1, 3.5) - (1, 2, 3)) = (1, 0, 0.5): (-1, 2, 2)."""
    base, reinforced = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 1.0, 3.5])
    assert contrast(base, reinforced, 2.0).tolist() == [-1, 2, 2]
    assert torch.equal(contrast(base, base, 5.0), base)
    assert (contrast(base, reinforced, 1.0) <= base).all()


def test_logits_are_those_of_two_models(other: str) -> None:
    teacher = attached(other, scale=0.5)
    base = FrozenReader(load_base(SOURCE)).logits(BATCH)
    reinforced = FrozenReader(tiny_model(seed=3)).logits(BATCH)
    found = teacher.logits(BATCH)
    torch.testing.assert_close(found, base - 0.5 * (reinforced - base).clamp(min=0))
    assert not found.requires_grad


def test_reinforced_by_nothing_is_the_start_model(tmp_path: Path) -> None:
    load_base(SOURCE).save_pretrained(tmp_path)  # type: ignore[no-untyped-call]
    base = FrozenReader(load_base(SOURCE)).logits(BATCH)
    torch.testing.assert_close(attached(str(tmp_path)).logits(BATCH), base)


def test_generation_follows_the_contrast(
    tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """Greedy replies with two caches, batched, equal the contrast's argmax token by token.

    The reinforced model is sharper in what the base would say, so that the contrast is not.
    """
    sharper: Any = tiny_model()
    with torch.no_grad():
        sharper.model.norm.weight.mul_(1.5)
        sharper.model.layers[0].mlp.down_proj.weight.mul_(1.1)
    sharper.save_pretrained(tmp_path)
    teacher = attached(str(tmp_path), scale=1.5)
    prompts, length = [[1, 5, 6, 7], [1, 9]], 12
    speaker: Any = teacher.model()
    with teacher.speaking():
        replies = generate_answers(speaker, tiny_tokenizer, prompts, max_new_tokens=length)
    expected = []
    for prompt in prompts:
        ids = list(prompt)
        while len(ids) < len(prompt) + length:
            step = tokens([ids], [len(ids)], [1], pad_id=0)
            following = int(teacher.logits(step).argmax())
            if following in (0, 1, 2):
                break
            ids.append(following)
        text = tiny_tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)
        expected.append(str(text).strip())
    assert replies == expected
    alone = generate_answers(speaker, tiny_tokenizer, prompts, max_new_tokens=length)
    assert alone != replies


def test_stays_as_it_started(other: str) -> None:
    student = load_student(SOURCE)
    teacher = ContrastTeacher(other)
    teacher.attach(student, SOURCE)
    start = teacher.logits(BATCH)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1)
    torch.testing.assert_close(teacher.logits(BATCH), start)
    held = teacher.unsaved_module()
    assert isinstance(held, nn.ModuleList)
    assert len(held) == 2
    assert teacher.saved_module() is None
    assert not any(parameter.requires_grad for parameter in held.parameters())


def test_dtype_and_identity(other: str) -> None:
    teacher = attached(other, dtype="bfloat16")
    held = teacher.unsaved_module()
    assert held is not None
    assert {p.dtype for p in held.parameters()} == {torch.bfloat16}
    assert teacher.logits(BATCH).dtype == torch.float32
    names = {ContrastTeacher(other, scale).identity() for scale in (1.0, 2.0)}
    assert len(names) == 2


def test_bad_input(other: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`scale` of ContrastTeacher"):
        ContrastTeacher(other, scale=0)
    with pytest.raises(InputError, match="hidden states; use FrozenTeacher"):
        attached(other).hidden(BATCH)
    small = tiny_model(vocabulary=50)
    small.save_pretrained(tmp_path / "small")  # type: ignore[no-untyped-call]
    with pytest.raises(InputError, match=r"`path` of ContrastTeacher.*vocabulary of 259 tokens"):
        attached(str(tmp_path / "small"))
