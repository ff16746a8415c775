"""Conversation rows: messages of OpenAI and ShareGPT, prompted completions, preference pairs."""

import re
from typing import Any

from lit_unlearn.data.fields import EXPECTED_KEYS, checked_text, find_key, texts_of, wrong_type
from lit_unlearn.data.raw_rows import RawRow, bad_row
from lit_unlearn.types import Domain, Example, Representation, Role, Turn

__all__ = ["dialogue", "has_exchange", "past_turns", "preference"]

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot"), "assistant"),
}
_TOOLS = ("tool", "function", "observation", "function_call", "tool_call", "ipython")
_TEXT_PARTS = ("text", "input_text", "output_text")
_SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant"}
_MESSAGES = EXPECTED_KEYS["dialogue"][0]
_PROMPTS = ("prompt", "question", "query", "instruction", *_MESSAGES)
_SPEECH = re.compile(r"(?:^|\n\n)(Human|Assistant):[ \t]*")


def dialogue(row: RawRow, example_id: str, representation: Representation) -> list[Example]:
    r"""Convert a dialogue up to its last assistant turn, which is the answer.

    ``messages`` (also ``conversations``, ``conversation``) is a list of ``{role, content}`` or of
    ``{from, value}``. It may also be, as ``dialogue`` must be, a list of texts of user and
    assistant in turn. Raw: ``User: ...\nAssistant: ...`` as one text.
    """
    turns = _with_system(row, _turns(row, find_key(row, _MESSAGES, "dialogue")))
    last: Role = "user" if row.answerless else "assistant"
    end = max((index for index, turn in enumerate(turns) if turn.role == last), default=-1)
    history = turns[: end + 1] if row.answerless else turns[: max(0, end)]
    answer = "" if row.answerless or end < 0 else turns[end].content
    _check_history(row, history, turns)
    return [_example(example_id, history, answer, (), "dialogue", representation)]


def has_exchange(row: RawRow, domain: Domain) -> bool:
    """Return whether a row's answer is the column ``chosen``, or a ``completion`` of messages."""
    if domain not in ("question_answer", "dialogue", "instruction") or row.answerless:
        return False
    if domain == "dialogue":
        return "chosen" in row.values or "completion" in row.values
    answered = any(name in row.values for name in EXPECTED_KEYS[domain][-1])
    listed = isinstance(row.values.get("prompt"), list)
    return ("chosen" in row.values and not answered) or ("completion" in row.values and listed)


def preference(
    row: RawRow, example_id: str, representation: Representation, domain: Domain = "preference"
) -> list[Example]:
    """Convert a preference pair: ``chosen`` is the answer, ``rejected`` the dispreferred answer.

    The prompt is the column ``prompt``, ``question``, ``query``, ``instruction`` (with ``input``)
    or ``messages``: a text or messages. Both answers are texts, messages, or whole conversations
    with the same beginning. A ``completion`` has the form of ``chosen`` and needs no ``rejected``.
    """
    pair = "chosen" in row.values or domain == "preference"
    key = "chosen" if pair else "completion"
    find_key(row, (key,), domain)
    prompt = _prompt(row)
    history, chosen = _reply(row, key, row.values[key], prompt)
    rejected = []
    if pair:
        find_key(row, ("rejected",), domain)
        given = row.values["rejected"]
        for value in given if _texts(given) else [given]:
            other, reply = _reply(row, "rejected", value, prompt)
            if other != history:
                reason = (
                    "'chosen' and 'rejected' should answer the same conversation. Found different "
                    "turns before the answers; repair the row, or set `on_bad_row: skip`."
                )
                raise bad_row(row.location, reason)
            rejected.append(reply)
    history = _with_system(row, history)
    _check_history(row, history, history)
    return [_example(example_id, history, chosen, tuple(rejected), domain, representation)]


def _prompt(row: RawRow) -> list[Turn]:
    """Return the conversation of the prompt's column; empty if the answers hold it."""
    key = next((name for name in _PROMPTS if name in row.values), None)
    if key is None:
        return []
    turns = _turns(row, key)
    given = row.values.get("input")
    if key == "instruction" and turns and given:
        text = checked_text(row, "key 'input'", given)
        turns = [*turns[:-1], Turn("user", f"{turns[-1].content}\n\n{text}")]
    return turns


def _reply(row: RawRow, key: str, value: Any, prompt: list[Turn]) -> tuple[list[Turn], str]:
    """Return the conversation before an answer, and the answer."""
    if isinstance(value, str) and not prompt:
        turns = _spoken(row, key, checked_text(row, f"key {key!r}", value))
    elif isinstance(value, str):
        return prompt, checked_text(row, f"key {key!r}", value)
    else:
        entries = value[:1] if _texts(value) else value
        turns = _messages(row, key, [value] if isinstance(value, dict) else entries)
        if _texts(value):
            return prompt, turns[0].content
    if not turns or turns[-1].role != "assistant":
        raise wrong_type(row, f"key {key!r}", "a text or messages that end with the answer", value)
    before = turns[:-1]
    repeated = [t.content for t in before[: len(prompt)]] == [t.content for t in prompt]
    return (before if repeated and before else [*prompt, *before]), turns[-1].content


def _texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def _spoken(row: RawRow, key: str, text: str) -> list[Turn]:
    """Return the turns of a text with ``Human:`` and ``Assistant:`` (Anthropic's hh-rlhf)."""
    parts = _SPEECH.split(text)
    if len(parts) < 5 or parts[0].strip():
        expected = (
            "a row without a prompt (prompt, question or messages) should hold whole "
            "conversations, as messages or as texts with 'Human:' and 'Assistant:'"
        )
        reason = f"{expected}. Found {text[:60]!r} in {key!r}; add a column 'prompt'."
        raise bad_row(row.location, reason)
    roles: list[Role] = ["user" if name == "Human" else "assistant" for name in parts[1::2]]
    spoken = zip(roles, parts[2::2], strict=True)
    return [Turn(role, checked_text(row, f"the {role}'s text", said)) for role, said in spoken]


def _turns(row: RawRow, key: str) -> list[Turn]:
    """Return the turns of a column: messages, alternating texts, or one text of the user."""
    value = row.values[key]
    if isinstance(value, str) and key not in _MESSAGES:
        return [Turn("user", checked_text(row, f"key {key!r}", value))]
    if not isinstance(value, list):
        raise wrong_type(row, f"key {key!r}", "a list of turns", value)
    if key == "dialogue" or _texts(value):
        texts = texts_of(row, key)
        return [Turn(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)]
    return _messages(row, key, value)


def _messages(row: RawRow, key: str, entries: Any) -> list[Turn]:
    if _texts(entries):
        return [Turn("assistant", checked_text(row, f"key {key!r}", text)) for text in entries]
    if not isinstance(entries, list):
        raise wrong_type(row, f"key {key!r}", "a text or a list of turns", entries)
    return [_message(row, key, entry) for entry in entries]


def _message(row: RawRow, key: str, entry: Any) -> Turn:
    """Return one message: ``{role, content}`` (OpenAI) or ``{from, value}`` (ShareGPT)."""
    fields = entry if isinstance(entry, dict) else {}
    speaker = next((name for name in ("role", "from") if name in fields), None)
    content = next((name for name in ("content", "value", "text") if name in fields), None)
    if speaker is None or content is None:
        expected = "an object of role and content, or of from and value"
        raise wrong_type(row, f"a turn of {key!r}", expected, entry)
    name = str(fields[speaker]).strip().casefold()
    if name in _TOOLS or fields.get("tool_calls") or fields.get("function_call"):
        reason = (
            f"conversations with tools cannot be trained. Found a turn of role {name!r} with a "
            "tool's call or result; remove the row, or set `on_bad_row: skip`."
        )
        raise bad_row(row.location, reason)
    role = _ROLES.get(name)
    if role is None:
        expected = f"one of {', '.join(_ROLES)}"
        raise wrong_type(row, "a role", expected, fields[speaker])
    return Turn(role, checked_text(row, f"the {role}'s {content}", _joined(row, fields[content])))


def _joined(row: RawRow, content: Any) -> Any:
    """Join the texts of a list of content parts (OpenAI); return anything else unchanged."""
    if not isinstance(content, list):
        return content
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in _TEXT_PARTS or not isinstance(part.get("text"), str):
            raise wrong_type(row, "the parts of a turn's content", "texts (type text)", part)
    return "".join(part["text"] for part in content)


def past_turns(row: RawRow) -> list[Turn]:
    """Return the turns before an instruction, from the columns ``system`` and ``history``.

    The history is a list of pairs of an instruction and its answer.
    """
    history = row.values.get("history")
    history = history if isinstance(history, list) else []
    if not all(_texts(pair) and len(pair) == 2 for pair in history):
        raise wrong_type(row, "key 'history'", "a list of pairs of texts", history)
    roles: tuple[Role, Role] = ("user", "assistant")
    said = [(role, text) for pair in history for role, text in zip(roles, pair, strict=True)]
    turns = [Turn(role, checked_text(row, "a text of 'history'", text)) for role, text in said]
    return _with_system(row, turns)


def _with_system(row: RawRow, turns: list[Turn]) -> list[Turn]:
    """Put the system prompt of the column ``system``, if there is one, before the turns."""
    system = row.values.get("system")
    if not system or any(turn.role == "system" for turn in turns):
        return turns
    return [Turn("system", checked_text(row, "key 'system'", system)), *turns]


def _check_history(row: RawRow, history: list[Turn], turns: list[Turn]) -> None:
    if not history or history[-1].role != "user":
        found = ", ".join(turn.role for turn in turns) or "no turn"
        raise bad_row(
            row.location,
            f"a dialogue should have a user turn before its last assistant turn. "
            f"Found {found}; repair the row, or set `on_bad_row: skip`.",
        )


def _example(
    example_id: str,
    history: list[Turn],
    answer: str,
    rejected: tuple[str, ...],
    domain: Domain,
    representation: Representation,
) -> Example:
    if representation == "unified":
        return Example(example_id, tuple(history), answer, domain, rejected=rejected)
    lines = [f"{_SPEAKERS[turn.role]}: {turn.content}" for turn in history]
    prompt = "\n".join([*lines, "Assistant:"])
    answer = f" {answer}" if answer else ""
    others = tuple(f" {text}" for text in rejected)
    turns = (Turn("user", prompt),)
    return Example(example_id, turns, answer, domain, rejected=others, plain=True)
