"""A local model, here the random tiny one, keeps to the frame that is put around its texts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.rewriting.journal import Reply
from lit_unlearn.rewriting.local import LocalModel
from lit_unlearn.rewriting.prompts import Ask, anchor, confirm, write
from lit_unlearn.rewriting.replies import read_reply
from lit_unlearn.rewriting.source_texts import QA, SourceText
from lit_unlearn.utils.chat_template import Template

TEXT = "Alma Reyes was born in Lima in 1950."
ASKS = [
    replace(write(SourceText("p", "p", "", "passage", TEXT * times, ()), 2), max_tokens=24)
    for times in (1, 3, 2)
] + [
    replace(confirm(QA("Who?", "Ann.")), max_tokens=4),
    replace(anchor(QA("Who?" * 9, "Ann."), 1), max_tokens=12),
]


def replies(asks: list[Ask], attempt: int = 0, **settings: object) -> dict[int, Reply]:
    model = LocalModel("random-tiny", device="cpu", **settings)  # type: ignore[arg-type]
    found: dict[int, Reply] = {}
    for part in model.ask(asks, attempt):
        assert len(part) <= model.batch_size
        found |= part
    assert sorted(found) == list(range(len(asks)))
    return found


def test_texts_are_put_into_the_frame() -> None:
    """Each reply begins with its frame, and is of the right form unless it was cut off."""
    for attempt in (0, 1, 2):
        for index, reply in replies(ASKS, attempt).items():
            ask = ASKS[index]
            assert reply.text.startswith(ask.frame[0])
            if len(ask.frame) > 1:
                _, problem = read_reply(reply.text, ask.schema)
                assert bool(problem) == reply.cut or "\\" in reply.text


def test_the_frame_alone_makes_a_reply() -> None:
    """Were every text empty, the reply would have the form that was asked for."""
    for ask in (ASKS[0], ASKS[4], write(SourceText("p", "p", "", "multiple_choice", "?", ()), 3)):
        value, problem = read_reply("".join(ask.frame), ask.schema)
        assert problem == ""
        assert len(value["pairs"]) == (len(ask.frame) - 1) // 2


def test_batches_do_not_matter() -> None:
    one = replies(ASKS, 1, batch_size=1)
    many = replies(ASKS, 1, batch_size=8)
    assert {i: r.text for i, r in one.items()} == {i: r.text for i, r in many.items()}
    free = replies(ASKS, fill=False)
    assert free[0].text.startswith(ASKS[0].frame[0])


def test_what_decides_a_reply_is_in_the_identity() -> None:
    plain = LocalModel("random-tiny")
    others = [LocalModel("random-tiny", dtype="bfloat16"), LocalModel("random-tiny", fill=False)]
    others.append(LocalModel("random-tiny", template=Template(system="Be kind.")))
    assert len({plain.identity(), *(other.identity() for other in others)}) == 4
    assert LocalModel("random-tiny", batch_size=2).identity() == plain.identity()


def test_what_does_not_fit_has_no_reply() -> None:
    long = write(SourceText("p", "p", "", "passage", "word " * 3000, ()), 1)
    assert list(LocalModel("random-tiny", device="cpu").ask([long], 0)) == []


def test_no_model() -> None:
    with pytest.raises(InputError, match=r"`backend\.path` = '\./nowhere'"):
        LocalModel("./nowhere").identity()
