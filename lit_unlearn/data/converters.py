"""Conversion of one raw row into examples: one function for each domain and both representations.

In ``unified``, an example is a chat conversation whose last turn is a question. In ``raw``, it is
plain text: ``turns[0].content`` directly followed by ``answer``. Therefore answers, distractors
and paraphrases begin with their white space in ``raw``. `Example.accepted` is compared with
generated text and never begins with white space.
"""

from collections.abc import Iterable
from string import ascii_uppercase
from typing import Any

from lit_unlearn.data.conversations import past_turns
from lit_unlearn.data.fields import (
    EXPECTED_KEYS,
    checked_text,
    find_key,
    text_of,
    texts_of,
    wrong_type,
)
from lit_unlearn.data.passages import CONTINUE, ask_blank, clozes, continuation
from lit_unlearn.data.raw_rows import RawRow, bad_row
from lit_unlearn.types import Domain, Example, Representation, Turn

__all__ = ["instruction", "multiple_choice", "options_of", "passage", "question_answer"]


def question_answer(row: RawRow, example_id: str, representation: Representation) -> list[Example]:
    r"""Convert a question with its answer; the first of several answers is the gold answer.

    Other answers and the column ``accepted`` count as correct; so does the gold answer itself, and
    a row whose ``accepted`` has nothing else keeps it. ``perturbed_answer`` gives the
    distractors and ``paraphrased_answer`` the paraphrases, as in TOFU. A question with a blank
    (RWKU level 1) becomes a request to fill it in. Raw: ``Question: ...\nAnswer:``.
    """
    question = _question(row, "question_answer")
    answers = _answers(row, "question_answer")
    plain = representation == "raw"
    space = " " if plain else ""
    prompt = f"Question: {question}\nAnswer:" if plain else ask_blank(question)
    spellings = tuple(texts_of(row, "accepted"))
    return [
        Example(
            example_id,
            (Turn("user", prompt),),
            _after_space(answers[0], space) if answers else "",
            "question_answer",
            accepted=_distinct([*answers[1:], *spellings], besides=answers[:1]) or spellings[:1],
            distractors=tuple(space + text for text in texts_of(row, "perturbed_answer")),
            paraphrases=tuple(space + text for text in texts_of(row, "paraphrased_answer")),
            plain=plain,
        )
    ]


def multiple_choice(row: RawRow, example_id: str, representation: Representation) -> list[Example]:
    """Convert a question with options: the right one is the answer, the others are distractors.

    Options are the list ``choices`` or the columns ``option1``, ``option2``, ...; ``answer`` is the
    text of the right one, its letter, or its index from 0. The forms of ARC, OpenBookQA and
    CommonsenseQA (see `options_of`) are read too. An option with the text of the right one is not a
    distractor. Raw: the question with its lettered options; answer and distractors are letters.
    """
    question = _question(row, "multiple_choice")
    options, right = options_of(row)
    if representation == "unified":
        others = _distinct(options, besides=[options[right]])
        turns = (Turn("user", ask_blank(question)),)
        return [Example(example_id, turns, options[right], "multiple_choice", distractors=others)]
    letters = ascii_uppercase[: len(options)]
    listed = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, options, strict=True))
    return [
        Example(
            example_id,
            (Turn("user", f"{question}\n{listed}\nAnswer:"),),
            f" {letters[right]}",
            "multiple_choice",
            distractors=tuple(f" {letter}" for letter in letters if letter != letters[right]),
            plain=True,
        )
    ]


def passage(row: RawRow, example_id: str, representation: Representation) -> list[Example]:
    """Convert a passage into a continuation and up to two blanks to fill in (see `passages`).

    The column ``beginning``, if any, holds words in front of the text. Raw: the whole text is the
    answer to the beginning, or to an empty prompt as in language modelling.
    """
    text = text_of(row, find_key(row, EXPECTED_KEYS["passage"][0], "passage"))
    beginning = text_of(row, "beginning") if "beginning" in row.values else ""
    if representation == "raw":
        answer = _after_space(text, " " if beginning else "")
        return [Example(example_id, (Turn("user", beginning),), answer, "passage", plain=True)]
    text = f"{beginning} {text}".lstrip()
    pairs: list[tuple[str, str, str]] = []
    cut = continuation(text)
    if cut is not None:
        pairs.append(("continuation", CONTINUE + cut[0], cut[1]))
    for number, cloze in enumerate(clozes(text), start=1):
        pairs.append((f"cloze{number}", cloze.question, cloze.answer))
    if not pairs:
        raise bad_row(
            row.location,
            f"a passage should have at least 6 words (characters in scripts without spaces). Found "
            f"{text!r}; join short lines, set `on_bad_row: skip`, or use `representation: raw`.",
        )
    return [
        Example(f"{example_id}/{kind}", (Turn("user", question),), answer, "passage")
        for kind, question, answer in pairs
    ]


def instruction(row: RawRow, example_id: str, representation: Representation) -> list[Example]:
    """Convert an instruction, its ``input`` if it has one, and its output.

    The columns ``system`` and ``history`` give the turns before it. Raw: text with the headings of
    Alpaca (``### Instruction:`` and so on).
    """
    task = text_of(row, find_key(row, EXPECTED_KEYS["instruction"][0], "instruction"))
    given = row.values.get("input") or ""
    given = checked_text(row, "key 'input'", given) if given != "" else ""
    answers = _answers(row, "instruction")
    answer = answers[0] if answers else ""
    before = past_turns(row)
    if representation == "unified":
        content = f"{task}\n\n{given}" if given else task
        return [Example(example_id, (*before, Turn("user", content)), answer, "instruction")]
    middle = [f"### Input:\n{given}"] if given else []
    parts = [*(turn.content for turn in before), f"### Instruction:\n{task}", *middle]
    prompt = "\n\n".join([*parts, "### Response:"])
    answer = _after_space(answer, "\n")
    return [Example(example_id, (Turn("user", prompt),), answer, "instruction", plain=True)]


def _question(row: RawRow, domain: Domain) -> str:
    names = EXPECTED_KEYS[domain][0]
    if domain == "multiple_choice":
        names = (*names, "question_stem")  # OpenBookQA
    return text_of(row, find_key(row, names, domain))


def _answers(row: RawRow, domain: Domain) -> list[str]:
    """Return the gold answer and other answers; none if the source has only questions."""
    if row.answerless:
        return []
    key = find_key(row, EXPECTED_KEYS[domain][-1], domain)
    answers = texts_of(row, key)
    if not answers:
        raise bad_row(row.location, f"key {key!r} should hold an answer. Found an empty list.")
    return answers


def options_of(row: RawRow) -> tuple[list[str], int]:
    """Return the options of a multiple-choice row in their order, and the index of the right one.

    Options have the forms of `multiple_choice`, ``choices`` as ``{text: [...], label: [...]}`` with
    ``answerKey`` (ARC, OpenBookQA, CommonsenseQA), and TruthfulQA's ``mc1_targets``, either as
    ``{choices: [...], labels: [...]}`` (hub) or as ``{option: label}`` (the authors' file).
    """
    targets, listed = row.values.get("mc1_targets"), row.values.get("choices")
    if isinstance(targets, dict):
        return _labelled(row, targets)
    if isinstance(listed, dict):
        return _keyed(row, listed)
    key = find_key(row, EXPECTED_KEYS["multiple_choice"][1], "multiple_choice")
    if key == "choices":
        options = texts_of(row, key)
    else:
        numbers = range(1, len(row.values) + 1)
        names = [f"option{n}" for n in numbers if f"option{n}" in row.values]
        options = [text_of(row, name) for name in names]
    _check_number(row, options)
    answer = row.values[find_key(row, ("answer",), "multiple_choice")]
    return options, _right_option(row, options, answer)


def _check_number(row: RawRow, options: list[str]) -> None:
    if not 2 <= len(options) <= len(ascii_uppercase):
        raise wrong_type(row, "the options", "at least 2 and at most 26 texts", options)


def _labelled(row: RawRow, targets: dict[str, Any]) -> tuple[list[str], int]:
    """Read the options of TruthfulQA, each with the label 1 (right) or 0.

    In the authors' file 17 lists end with an empty wrong option; these options are left out.
    """
    given = {text: label for text, label in targets.items() if text or label}
    texts, labels = list(given), list(given.values())
    if {"choices", "labels"} <= targets.keys():
        texts, labels = list(targets["choices"]), list(targets["labels"])
    options = [checked_text(row, "an option", text) for text in texts]
    if labels.count(1) != 1 or len(labels) != len(options):
        raise wrong_type(row, "key 'mc1_targets'", "options with one label 1", labels)
    _check_number(row, options)
    return options, labels.index(1)


def _keyed(row: RawRow, listed: dict[str, Any]) -> tuple[list[str], int]:
    """Read the options of ARC and similar sets: texts with labels, and the right label."""
    texts, labels, right = listed.get("text"), listed.get("label"), row.values.get("answerKey")
    if not isinstance(texts, list) or not isinstance(labels, list) or len(texts) != len(labels):
        raise wrong_type(row, "key 'choices'", "an object of as many texts as labels", listed)
    if right not in labels:
        raise wrong_type(row, "key 'answerKey'", f"one of the labels {labels}", right)
    options = [checked_text(row, "an option", text) for text in texts]
    _check_number(row, options)
    return options, labels.index(right)


def _right_option(row: RawRow, options: list[str], answer: object) -> int:
    """Return the index of the right option, given by its index, text or letter."""
    names: dict[str, int] = {str(index): index for index in range(len(options))}
    names |= {ascii_uppercase[index]: index for index in range(len(options))}
    names |= {text: index for index, text in reversed(list(enumerate(options)))}
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(options):
        return answer
    if isinstance(answer, str) and answer.strip() in names:
        return names[answer.strip()]
    last = len(options) - 1
    expected = f"an index from 0 to {last}, a letter from A to {ascii_uppercase[last]}, or the text"
    raise wrong_type(row, "key 'answer'", f"{expected} of an option", answer)


def _after_space(text: str, space: str) -> str:
    return space + text if text else ""


def _distinct(texts: Iterable[str], besides: Iterable[str]) -> tuple[str, ...]:
    """Return each text once, in order, without the texts in ``besides``."""
    left_out = set(besides)
    return tuple(text for text in dict.fromkeys(texts) if text not in left_out)
