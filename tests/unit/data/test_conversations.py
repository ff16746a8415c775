"""Conversations and preference pairs in every shape that public data sets give them."""

from __future__ import annotations

from typing import Any

import pytest

from lit_unlearn.data.raw_rows import RawRow
from lit_unlearn.data.unify import to_example
from lit_unlearn.errors import InputError
from lit_unlearn.types import Domain, Example, Turn

USER, REPLY = {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}
OTHER = {"role": "assistant", "content": "Nobody."}
FIRST = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
HI = (Turn("user", "Hi?"), Turn("assistant", "Hello."))
WHO = Turn("user", "Who?")


def convert(domain: Domain, values: dict[str, Any], raw: bool = False) -> Example:
    row = RawRow("3", values, "rows.jsonl:4")
    (example,) = to_example(row, domain, "raw" if raw else "unified", "set")
    return example


def share(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"from": name, "value": text} for name, text in turns]


@pytest.mark.parametrize(
    "values",
    [
        {"messages": [USER, REPLY]},
        {"conversations": share(("human", "Who?"), ("gpt", "Me."))},
        {"conversation": [USER, REPLY]},
        {"conversation": [{"from": "human", "text": "Who?"}, {"from": "gpt", "text": "Me."}]},
        {"conversations": ["Who?", "Me."]},
        *({"conversations": share((u, "Who?"), (a, "Me."))} for u, a in
          [("user", "assistant"), ("prompter", "bing"), ("Human", "chatgpt"), ("human", "bard"),
           ("human", "model"), ("user", "bot")]),
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Wh"},
                                                   {"type": "text", "text": "o?"}]}, REPLY]},
        {"messages": [{**USER, "name": "x", "weight": 1}, {**REPLY, "tool_calls": None}]},
        {"prompt": [USER], "completion": [REPLY]},
        {"prompt": "Who?", "completion": "Me."},
        {"prompt": [USER], "completion": REPLY},
    ],
)  # fmt: skip
def test_a_conversation(values: dict[str, Any]) -> None:
    example = convert("dialogue", values)
    assert (example.turns, example.answer, example.rejected) == ((WHO,), "Me.", ())


@pytest.mark.parametrize(
    "values",
    [
        {"messages": [{"role": "system", "content": "S."}, USER, REPLY]},
        {"messages": [{"role": "developer", "content": "S."}, USER, REPLY]},
        {"conversations": share(("system", "S."), ("human", "Who?"), ("gpt", "Me."))},
        {"system": "S.", "conversations": share(("human", "Who?"), ("gpt", "Me."))},
        {"system": "S.", "prompt": "Who?", "chosen": "Me.", "rejected": "Nobody."},
    ],
)
def test_a_system_prompt(values: dict[str, Any]) -> None:
    assert convert("dialogue", values).turns == (Turn("system", "S."), WHO)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"conversations": share(("human", "a"), ("observation", "b"), ("gpt", "c"))},
         r"rows\.jsonl:4.*tools cannot be trained.*'observation'.*on_bad_row: skip"),
        ({"messages": [USER, {"role": "tool", "content": "4"}, REPLY]}, r"role 'tool'"),
        ({"messages": [USER, {"role": "function", "content": "4"}, REPLY]}, r"role 'function'"),
        ({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{}]}, REPLY]},
         r"role 'assistant' with a tool's call"),
        ({"conversations": share(("narrator", "a"), ("gpt", "c"))},
         r"a role should be one of system, developer, user, .*Found str 'narrator'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
         r"texts \(type text\)\. Found dict"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, r"Found dict.*'text'"),
        ({"messages": [{"role": "user"}]}, r"an object of role and content, or of from and value"),
        ({"messages": [{"role": "user", "content": None}, REPLY]}, r"the user's content"),
        ({"conversations": "Who?"}, r"a list of turns"),
        ({"conversations": share(("gpt", "Hello."))}, r"a user turn before its last assistant"),
    ],
)  # fmt: skip
def test_bad_conversations_name_the_row(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        convert("dialogue", values)


# ------------------------------------------------------------------------------ preference pairs

HH = "\n\nHuman: Who?\n\nAssistant: "


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": "Who?", "chosen": "Me.", "rejected": "Nobody."},
        {"question": "Who?", "chosen": "Me.", "rejected": "Nobody."},
        {"instruction": "Who?", "input": "", "chosen": "Me.", "rejected": "Nobody."},
        {"prompt": [USER], "chosen": [REPLY], "rejected": [OTHER]},
        {"chosen": [USER, REPLY], "rejected": [USER, OTHER]},
        {"prompt": "Who?", "chosen": [USER, REPLY], "rejected": [USER, OTHER]},
        {"prompt": "Who?", "chosen": [REPLY], "rejected": [OTHER]},
        {"chosen": HH + "Me.", "rejected": HH + "Nobody."},
        {"conversations": share(("human", "Who?")), "chosen": {"from": "gpt", "value": "Me."},
         "rejected": {"from": "gpt", "value": "Nobody."}},
        {"messages": [USER], "chosen": ["Me."], "rejected": ["Nobody."]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("domain", ["preference", "dialogue", "question_answer", "instruction"])
def test_a_preference_pair(values: dict[str, Any], domain: Domain) -> None:
    example = convert(domain, values)
    assert (example.turns, example.answer) == ((WHO,), "Me.")
    assert (example.rejected, example.domain) == (("Nobody.",), domain)


def test_pairs_of_longer_conversations_and_as_plain_text() -> None:
    whole = {"chosen": [*FIRST, USER, REPLY], "rejected": [*FIRST, USER, OTHER]}
    for values in (whole, {**whole, "prompt": [*FIRST, USER]}, {**whole, "prompt": "Hi?"}):
        assert convert("preference", values).turns == (*HI, WHO)
    raw = convert("preference", whole, raw=True)
    assert raw.question == "User: Hi?\nAssistant: Hello.\nUser: Who?\nAssistant:"
    assert (raw.answer, raw.rejected) == (" Me.", (" Nobody.",))
    several = {"prompt": "Who?", "chosen": "Me.", "rejected": ["Nobody.", "You."]}
    assert convert("preference", several).rejected == ("Nobody.", "You.")
    task = {"instruction": "Name it.", "input": "a cat", "chosen": "Me.", "rejected": "No."}
    assert convert("instruction", task).question == "Name it.\n\na cat"


def test_a_gold_answer_stays_the_answer() -> None:
    values = {"question": "Who?", "answer": "Gold.", "chosen": "Me.", "rejected": "Nobody."}
    example = convert("question_answer", values)
    assert (example.answer, example.rejected) == ("Gold.", ())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt": "Who?", "chosen": "Me."}, r"rows\.jsonl:4.*without rejected"),
        ({"prompt": "Who?", "rejected": "Me."}, r"without chosen"),
        ({"chosen": "Me.", "rejected": "No."}, r"without a prompt.*add a column 'prompt'"),
        ({"chosen": [USER, REPLY], "rejected": [*FIRST, OTHER]}, r"answer the same conversation"),
        ({"prompt": [USER], "chosen": [USER], "rejected": [OTHER]}, r"end with the answer"),
        ({"prompt": "Who?", "chosen": "", "rejected": "No."}, r"'chosen' should be text"),
        ({"prompt": "Who?", "chosen": "Me.", "rejected": None}, r"'rejected'"),
        ({"prompt": "Who?", "chosen": 3, "rejected": "No."}, r"'chosen'"),
    ],
)
def test_bad_pairs_name_the_row(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        convert("preference", values)
