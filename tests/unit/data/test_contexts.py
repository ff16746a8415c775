"""Contexts: what the teacher sees, and what it must never see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lit_unlearn.data.contexts import (
    Adaptive,
    Context,
    ContextRow,
    Demonstrations,
    Echo,
    Instruction,
    Intent,
    NoContext,
)
from lit_unlearn.errors import InputError
from lit_unlearn.types import Turn

POOL = [f"Question {i}?" for i in range(10)]
ROW = ContextRow(
    (Turn("system", "Be kind."), Turn("user", "Question 0?")),
    refusal="No.",
    declined=POOL,
    answered=[("Two and two?", "Four.")],
)
ALL: list[Context] = [
    NoContext(),
    Instruction(),
    Intent("France"),
    Intent("France", reasoning_tokens=8, declined=1, answered=1, answered_from="retain"),
    Demonstrations(3),
    Demonstrations(2, answered=1, answered_from="retain"),
    Echo(1),
    Adaptive(),
]


@pytest.mark.parametrize("context", ALL, ids=lambda c: c.describe())
def test_ends_with_the_question_and_keeps_the_system_prompt(context: Context) -> None:
    turns = context.conversation(ROW)
    assert turns[-1] == Turn("user", "Question 0?")
    assert "Be kind." in turns[0].content
    assert [t.role for t in turns].count("system") == 1


def test_demonstrations_are_other_questions() -> None:
    turns = Demonstrations(3).conversation(ROW)[1:-1]
    assert [t.content for t in turns[1::2]] == ["No."] * 3
    assert "Question 0?" not in [t.content for t in turns]
    assert len({t.content for t in turns[::2]}) == 3


def test_echo_is_the_turn_before() -> None:
    assert Echo(2).conversation(ROW)[-3:-1] == (
        Turn("user", "Question 0?"),
        Turn("assistant", "No."),
    )


def test_declined_replies_recover_from_the_opener() -> None:
    row = ContextRow(ROW.turns, "No.", opener="Sure,", declined=POOL)
    replies = [t.content for t in Echo(1).conversation(row) if t.role == "assistant"]
    assert replies == ["Sure, No.", "Sure, No."]


def test_reasoning_stands_between_the_question_and_the_question() -> None:
    """Demonstrations, the request to think, the teacher's reasoning, and the question again."""
    context = Intent("France", reasoning_tokens=8, declined=1, answered=1, answered_from="retain")
    thought = replace(ROW, reasoning="It is about France.")
    system, *shown, request, reasoning, question = context.conversation(thought)
    assert context.thinking(ROW) == (system, request)
    assert [t.content for t in shown] == ["Two and two?", "Four.", "Question 1?", "No."]
    assert request.content.startswith("Question 0?\n\nDo not answer yet.")
    assert "France" in request.content
    assert "France" in system.content
    assert reasoning == Turn("assistant", "It is about France.")
    assert question == ROW.turns[-1]
    assert context.conversation(ROW)[-2].content  # a row whose reasoning was left out
    assert Intent("France").conversation(ROW) == Intent("France").conversation(thought)
    assert context.describe() == "intent + 1 declined + 1 answered + reasoning"


def test_ladder_of_adaptive() -> None:
    described = [context.describe() for context in Adaptive([3, 6]).ladder()]
    assert described == ["3 declined", "6 declined", "3 declined + echo", "6 declined + echo"]
    assert len(Demonstrations().ladder()) == 1
    described = [each.describe() for each in Adaptive([3, 8], echo_first=True).ladder()]
    assert described == ["3 declined + echo", "3 declined", "8 declined", "8 declined + echo"]
    assert Adaptive([8], echo_first=True).ladder() == Adaptive([8]).ladder()


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"only the fields \{refusal\}.*topic"):
        Instruction("Forget {topic}").conversation(ROW)
    with pytest.raises(InputError, match="answered_from"):
        Demonstrations(answered=2)
    with pytest.raises(InputError, match="answered_from"):
        Intent("France", answered=2)
    with pytest.raises(InputError, match="`reasoning_tokens`"):
        Intent("France", reasoning_tokens=-1)
    with pytest.raises(InputError, match="at least one number"):
        Adaptive([])


@pytest.mark.parametrize(
    ("context", "settings"),
    [
        (Demonstrations, {"declined": -1}),
        (Demonstrations, {"answered": -1, "answered_from": "retain"}),
        (Echo, {"declined": -1}),
        (Intent, {"topic": "France", "declined": -1}),
        (Intent, {"topic": "France", "answered": -1, "answered_from": "retain"}),
        (Adaptive, {"declined": [3, -1]}),
        (Adaptive, {"answered": -1, "answered_from": "retain"}),
    ],
)
def test_no_number_of_demonstrations_is_negative(
    context: type[Context], settings: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=r"`(declined|answered)` should be at least 0. Found -1"):
        context(**settings)
