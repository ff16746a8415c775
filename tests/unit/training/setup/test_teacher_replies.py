"""Replies of the teacher: one pass for reply and first token, and asked once for all runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lit_unlearn.data.collation import tokens
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.models.forward import answer_logits
from lit_unlearn.models.loading import ModelSource, load_student
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.teachers import FrozenTeacher
from lit_unlearn.training.setup.teacher_replies import Asked, Reply, Speaker, teacher_replies
from lit_unlearn.utils.progress import Stage

pytestmark = pytest.mark.usefixtures("own_cache")

PROMPTS = [tuple(range(5, 45)) + end for end in ((50,), (60, 61), (70, 71, 72), (50, 51))]
ASKED = [Asked(prompt, 9) for prompt in PROMPTS]


class Counted(FrozenTeacher):
    """Counts the tokens that its model reads."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[int] = []
        source = ModelSource(TINY_NAME)
        self.attach(load_student(source), source)
        embeddings: Any = self.model().get_submodule("model.embed_tokens")
        embeddings.register_forward_hook(self._count)

    def _count(self, _: object, given: tuple[Tensor], __: object) -> None:
        self.read.append(given[0].numel())


@pytest.fixture
def teacher() -> Counted:
    return Counted()


def ask(
    teacher: FrozenTeacher, tokenizer: PreTrainedTokenizerFast, asked: list[Asked] = ASKED
) -> tuple[list[Reply], int]:
    """The replies, and how many of them were known."""
    speaker = Speaker(teacher, Encoder(tokenizer), "start model")
    return teacher_replies(speaker, asked, 4, Stage("", 0)), speaker.from_cache


def test_first_tokens_come_from_the_pass_that_begins_the_reply(
    teacher: Counted, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """The prompts' tree without the last tokens, then these, and 3 further steps of 4."""
    found, _ = ask(teacher, tiny_tokenizer)
    assert teacher.read == [44, 4, 4, 4, 4]
    for prompt, reply in zip(PROMPTS, found, strict=True):
        logits = answer_logits(teacher.model(), tokens([prompt], [len(prompt)], [1], 0))
        assert reply.first == pytest.approx(float(torch.softmax(logits, -1)[0, 9]), rel=1e-5)


def test_another_run_asks_only_what_is_new(
    teacher: Counted, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    first, _ = ask(teacher, tiny_tokenizer)
    teacher.read.clear()
    again, known = ask(teacher, tiny_tokenizer)
    assert (again, known, teacher.read) == (first, 4, [])
    more = [*ASKED[:2], Asked((7, 8, 9))]
    found, known = ask(teacher, tiny_tokenizer, more)
    assert (found[:2], known) == (first[:2], 2)
    assert teacher.read[0] == 3


def test_what_is_damaged_is_asked_again(
    teacher: Counted, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    first, _ = ask(teacher, tiny_tokenizer)
    (file,) = (tmp_path / "cache" / "replies").rglob("replies.jsonl")
    lines = file.read_text("utf-8").splitlines()
    file.write_text("\n".join([lines[0], lines[1].replace("text", "tent"), *lines[2:]]) + "\n{")
    found, known = ask(teacher, tiny_tokenizer)
    assert ([reply.text for reply in found], known) == ([reply.text for reply in first], 3)
    assert found[1].first == pytest.approx(first[1].first, rel=1e-5)  # read alone this time
    assert ask(teacher, tiny_tokenizer) == (found, 4)


def test_another_teacher_is_asked(
    teacher: Counted, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    ask(teacher, tiny_tokenizer)
    model: Any = teacher.model()
    model.bfloat16()
    assert ask(teacher, tiny_tokenizer)[1] == 0


def test_a_teacher_without_identity_of_its_own_is_not_kept(
    teacher: Counted, tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(FrozenTeacher, "identity")
    assert ask(teacher, tiny_tokenizer)[1] == 0
    assert ask(teacher, tiny_tokenizer)[1] == 0


def test_a_cache_that_cannot_be_written(
    teacher: Counted,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A file stands where the folder should be: the run goes on, and says that nothing is kept."""
    (tmp_path / "cache").write_text("")
    assert len(ask(teacher, tiny_tokenizer)[0]) == len(PROMPTS)
    assert "Nothing is kept for later runs" in caplog.text
