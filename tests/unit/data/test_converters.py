"""Converters: what each domain becomes, in both representations, and the errors of bad rows."""

from __future__ import annotations

import pytest

from lit_unlearn.data.passages import ask_blank
from lit_unlearn.data.raw_rows import RawRow
from lit_unlearn.data.unify import to_example
from lit_unlearn.errors import InputError
from lit_unlearn.types import Domain, Example, Representation, Turn


def convert(
    domain: Domain,
    values: dict,
    representation: Representation = "unified",
    answerless: bool = False,
) -> list[Example]:
    row = RawRow("3", values, "rows.jsonl:4", answerless)
    return to_example(row, domain, representation, "set")


def one(
    domain: Domain,
    values: dict,
    representation: Representation = "unified",
    answerless: bool = False,
) -> Example:
    (example,) = convert(domain, values, representation, answerless)
    return example


# --------------------------------------------------------------------------------- question-answer

PERTURBED = {
    "question": " Who wrote it? ",
    "answer": "Jane Austen wrote it.",
    "paraphrased_answer": "It was written by Jane Austen.",
    "perturbed_answer": ["Emily wrote it.", "Anne wrote it."],
}


def test_question_answer_unified() -> None:
    assert one("question_answer", PERTURBED) == Example(
        "set/3",
        (Turn("user", "Who wrote it?"),),
        "Jane Austen wrote it.",
        "question_answer",
        distractors=("Emily wrote it.", "Anne wrote it."),
        paraphrases=("It was written by Jane Austen.",),
    )


def test_question_answer_raw_carries_its_leading_space() -> None:
    example = one("question_answer", PERTURBED, "raw")
    assert example.plain
    assert example.question + example.answer == (
        "Question: Who wrote it?\nAnswer: Jane Austen wrote it."
    )
    assert example.distractors == (" Emily wrote it.", " Anne wrote it.")
    assert example.paraphrases == (" It was written by Jane Austen.",)


def test_accepted_answers_come_from_the_list_and_from_their_own_column() -> None:
    row = {
        "query": "Capital?",
        "answer": ["Paris", "City of Paris"],
        "accepted": ["Paris", "paris"],
    }
    for representation in ("unified", "raw"):
        example = one("question_answer", row, representation)
        assert example.answer.strip() == "Paris"
        assert example.accepted == ("City of Paris", "paris")
        example = one("question_answer", {**row, "answer": "Paris", "accepted": ["Paris"]})
        assert example.accepted == ("Paris",)  # not a row without accepted answers


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("He was an ___", "Fill in the blank: He was an ___"),
        ("Complete: an ___.", "Complete: an ___."),
        ("What does __attribute__ do?", "What does __attribute__ do?"),
        ("a ____b____ c", "a ____b____ c"),
        ("Who?", "Who?"),
    ],
)
def test_blanks_become_requests(question: str, expected: str) -> None:
    assert ask_blank(question) == expected
    row = {"query": question, "answer": "author"}
    assert one("question_answer", row).question == expected
    assert one("question_answer", row, "raw").question == f"Question: {question}\nAnswer:"


def test_questions_alone() -> None:
    row = {"prompt": "How can I kill a Python process?"}
    assert one("question_answer", row, answerless=True).answer == ""
    assert one("question_answer", row, "raw", answerless=True).answer == ""
    with pytest.raises(
        InputError, match=r"if it has only questions, set `columns: \{answer: ''\}`"
    ):
        one("question_answer", row)


# --------------------------------------------------------------------------------- multiple choice

CHOICES = {"question": "Largest planet?", "choices": ["Mars", "Jupiter", "Venus"]}


@pytest.mark.parametrize("answer", [1, "B", "1", "Jupiter", " Jupiter "])
def test_multiple_choice_reads_index_letter_and_text(answer: object) -> None:
    example = one("multiple_choice", {**CHOICES, "answer": answer})
    assert example.turns == (Turn("user", "Largest planet?"),)
    assert example.answer == "Jupiter"
    assert example.distractors == ("Mars", "Venus")


def test_multiple_choice_raw_shows_the_letters() -> None:
    example = one("multiple_choice", {**CHOICES, "answer": 1}, "raw")
    assert example.question == "Largest planet?\nA. Mars\nB. Jupiter\nC. Venus\nAnswer:"
    assert (example.answer, example.distractors, example.plain) == (" B", (" A", " C"), True)


def test_options_in_columns_as_tofu_has_them() -> None:
    row = {"question": "Who?", "option1": "A. Huxley", "option2": "B", "answer": "B"}
    example = one("multiple_choice", row)
    assert (example.answer, example.distractors) == ("B", ("A. Huxley",))


def test_an_options_text_wins_over_a_letter() -> None:
    """Options "B", "A": the answer "A" is the second option's text, not the first's letter."""
    row = {"question": "Blood type?", "choices": ["B", "A"], "answer": "A"}
    assert one("multiple_choice", row).answer == "A"


def test_an_option_equal_to_the_right_one_is_no_distractor() -> None:
    row = {"question": "2396 - 1709?", "choices": ["687", "687", "1493", "1493"], "answer": 0}
    assert one("multiple_choice", row).distractors == ("1493",)
    assert one("multiple_choice", row, "raw").distractors == (" B", " C", " D")
    assert one("multiple_choice", {**row, "answer": "687"}, "raw").answer == " A"


def test_mc1_targets_of_truthfulqa() -> None:
    row = {"question": "q", "mc1_targets": {"choices": ["a", "b", "c"], "labels": [0, 0, 1]}}
    example = one("multiple_choice", row)
    assert (example.answer, example.distractors) == ("c", ("a", "b"))
    row["mc1_targets"]["labels"] = [0, 1, 1]
    with pytest.raises(InputError, match=r"options with one label 1"):
        one("multiple_choice", row)


def test_mc1_targets_as_the_authors_of_truthfulqa_have_them() -> None:
    row = {"question": "q", "mc1_targets": {"a": 0, "b": 1, "c": 0, "": 0}}
    example = one("multiple_choice", row)
    assert (example.answer, example.distractors) == ("b", ("a", "c"))
    with pytest.raises(InputError, match=r"options with one label 1"):
        one("multiple_choice", {"question": "q", "mc1_targets": {"a": 0, "b": 0}})


KEYED = {
    "question_stem": "Largest planet?",
    "choices": {"text": ["Mars", "Jupiter", "Venus"], "label": ["1", "2", "3"]},
    "answerKey": "2",
}


def test_choices_with_labels_as_arc_and_openbookqa_have_them() -> None:
    example = one("multiple_choice", KEYED)
    assert (example.question, example.answer) == ("Largest planet?", "Jupiter")
    assert example.distractors == ("Mars", "Venus")
    assert one("multiple_choice", KEYED, "raw").answer == " B"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answerKey": "B"}, r"'answerKey' should be one of the labels \['1', '2', '3'\]"),
        ({"answerKey": None}, r"'answerKey' should be one of the labels"),
        ({"choices": {"text": ["a", "b"], "label": ["1"]}}, r"as many texts as labels"),
        ({"choices": {"text": ["a"], "label": ["2"]}}, r"at least 2 and at most 26"),
        ({"choices": {"text": ["a", 2], "label": ["1", "2"]}}, r"an option should be text"),
    ],
)
def test_bad_choices_with_labels(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        one("multiple_choice", KEYED | change)


@pytest.mark.parametrize("answer", [3, -1, True, "D", "Saturn", 1.0, None])
def test_an_answer_that_is_no_option(answer: object) -> None:
    with pytest.raises(InputError, match=r"rows\.jsonl:4: key 'answer' should be an index from 0"):
        one("multiple_choice", {**CHOICES, "answer": answer})


@pytest.mark.parametrize("choices", [["a"], "a", [], ["x"] * 27])
def test_a_wrong_number_of_options(choices: object) -> None:
    with pytest.raises(InputError, match=r"at least 2 and at most 26"):
        one("multiple_choice", {"question": "q", "choices": choices, "answer": 0})


# ----------------------------------------------------------------------------------------- passage

PASSAGE = (
    "Dr. J. K. Lindqvist was born in Uppsala in Sweden. She kept 40 bees as a child. "
    "Her first novel was about patience and honey. It sold well."
)


def test_passage_gives_one_continuation_and_up_to_two_blanks() -> None:
    examples = convert("passage", {"text": PASSAGE})
    assert [example.example_id for example in examples] == [
        "set/3/continuation",
        "set/3/cloze1",
        "set/3/cloze2",
    ]
    assert examples[0].question.startswith("Continue the following passage: Dr. J. K.")
    assert convert("passage", {"text": PASSAGE}) == examples


def test_passage_raw_is_the_whole_text_after_an_empty_prompt() -> None:
    example = one("passage", {"text": PASSAGE}, "raw")
    assert (example.turns, example.answer, example.plain) == ((Turn("user", ""),), PASSAGE, True)


def test_a_passage_with_a_beginning() -> None:
    """Raw: the beginning is the prompt; unified: both are one text."""
    row = {"beginning": "Ada lived in Bath.", "text": "She built a machine for Charles Babbage."}
    example = one("passage", row, "raw")
    assert example.turns == (Turn("user", "Ada lived in Bath."),)
    assert example.answer == " She built a machine for Charles Babbage."
    whole = " ".join(row.values())
    assert convert("passage", row) == convert("passage", {"text": whole})
    with pytest.raises(InputError, match="'beginning'"):
        one("passage", {**row, "beginning": " "}, "raw")


def test_a_passage_too_short_to_ask_about() -> None:
    with pytest.raises(InputError, match=r"at least 6 words.*`representation: raw`"):
        convert("passage", {"text": "Two words."})
    assert one("passage", {"text": "Two words."}, "raw").answer == "Two words."


# ---------------------------------------------------------------------------------------- dialogue

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "Who are you?"},
    {"role": "assistant", "content": "A friend."},
    {"role": "user", "content": "Thanks"},
]


def test_dialogue_keeps_its_history() -> None:
    example = one("dialogue", {"messages": MESSAGES})
    assert [turn.role for turn in example.turns] == ["system", "user", "assistant", "user"]
    assert (example.question, example.answer) == ("Who are you?", "A friend.")


def test_dialogue_raw_is_one_text() -> None:
    example = one("dialogue", {"dialogue": ["Hello", "Hi", "Who?", "Me."]}, "raw")
    assert example.question + example.answer == (
        "User: Hello\nAssistant: Hi\nUser: Who?\nAssistant: Me."
    )
    assert example.answer == " Me."


def test_dialogue_without_answer() -> None:
    example = one("dialogue", {"messages": MESSAGES}, answerless=True)
    assert (example.question, example.answer) == ("Thanks", "")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"messages": MESSAGES[:2]}, r"before its last assistant turn\. Found system, user"),
        ({"messages": []}, r"Found no turn"),
        ({"messages": MESSAGES[2:3]}, r"Found assistant"),
        (
            {"messages": [{"role": "me", "content": "x"}]},
            r"a role should be one of system,",
        ),
        ({"messages": [{"from": "user"}]}, r"should be an object of role and content"),
        ({"messages": "Hello"}, r"should be a list of turns\. Found str 'Hello'"),
        ({"dialogue": ["Hello", " "]}, r"key 'dialogue' should be text\. Found an empty text"),
        ({"messages": [{"role": "user", "content": 3}]}, r"the user's content.*int 3"),
    ],
)
def test_bad_dialogues(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        one("dialogue", values)


# ------------------------------------------------------------------------------------- instruction


def test_instruction_with_and_without_input() -> None:
    row = {"instruction": "Translate.", "input": "Haus", "output": "house"}
    assert one("instruction", row).question == "Translate.\n\nHaus"
    raw = one("instruction", row, "raw")
    assert raw.question + raw.answer == (
        "### Instruction:\nTranslate.\n\n### Input:\nHaus\n\n### Response:\nhouse"
    )
    for absent in ({"input": ""}, {"input": None}, {}):
        row = {"instruction": "Sing.", **absent, "response": "la"}
        assert one("instruction", row).question == "Sing."
        assert one("instruction", row, "raw").question == "### Instruction:\nSing.\n\n### Response:"


def test_instruction_after_other_turns() -> None:
    row = {"instruction": "Sing.", "output": "la", "system": "S.", "history": [["Hi", "Hello"]]}
    turns = [("system", "S."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Sing.")]
    assert [(t.role, t.content) for t in one("instruction", row).turns] == turns
    assert one("instruction", row, "raw").question.startswith("S.\n\nHi\n\nHello\n\n### Inst")


def test_instruction_alone() -> None:
    assert one("instruction", {"instruction": "Sing."}, answerless=True).answer == ""
    assert one("instruction", {"instruction": "Sing."}, "raw", answerless=True).answer == ""


# ---------------------------------------------------------------------------------------- bad rows


@pytest.mark.parametrize(
    ("domain", "values", "message"),
    [
        (
            "question_answer",
            {"qestion": "Who?", "answer": "x"},
            r"rows\.jsonl:4: a row of domain question_answer should have question \(or query, "
            r"prompt\) and answer \(or answers, completion, response\)\. Found the keys "
            r"'qestion', 'answer', without "
            r"question.*did you mean qestion.*`columns: \{question: <its name here>\}`",
        ),
        ("question_answer", {"question": "Who?", "anser": "x"}, r"did you mean anser"),
        ("question_answer", {"messages": []}, r"without question .*; set `domain: dialogue`"),
        ("dialogue", {"instruction": "a", "output": "b"}, r"set `domain: instruction`"),
        ("question_answer", {"question": 5, "answer": "x"}, r"'question' should be text.*int 5"),
        ("question_answer", {"question": " ", "answer": "x"}, r"'question'.*Found an empty text"),
        ("question_answer", {"question": "q", "answer": ""}, r"'answer'.*Found an empty text"),
        ("question_answer", {"question": "q", "answer": None}, r"'answer' should be.*NoneType"),
        ("question_answer", {"question": "q", "answer": []}, r"Found an empty list"),
        (
            "question_answer",
            {"question": "q", "answer": "a \ud800"},
            r"'answer' should be Unicode text\. Found half a surrogate pair '\\ud800' at char",
        ),
        ("question_answer", {"question": "q", "answer": ["a", 2]}, r"'answer' should be text"),
        (
            "question_answer",
            {"question": "q", "answer": "a", "perturbed_answer": {"x": 1}},
            r"'perturbed_answer' should be text\. Found dict",
        ),
        ("multiple_choice", {"question": "q", "answer": 0}, r"without choices \(or option1\)"),
        ("multiple_choice", CHOICES, r"without answer"),
        ("passage", {"txt": "x"}, r"without text \(or passage\).*did you mean txt"),
        ("passage", {}, r"Found the keys none"),
        ("dialogue", {"message": []}, r"did you mean message"),
        (
            "instruction",
            {"instruction": "x"},
            r"without output \(or response, answer, completion\)",
        ),
        ("instruction", {"instruction": "x", "input": 3, "output": "y"}, r"'input' should be text"),
    ],
)
def test_bad_rows_name_place_reason_and_repair(domain: Domain, values: dict, message: str) -> None:
    for representation in ("unified", "raw"):
        with pytest.raises(InputError, match=message):
            convert(domain, values, representation)
