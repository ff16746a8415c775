"""Encoding: student and teacher aligned on the answer, and nothing silent."""

from __future__ import annotations

import copy
import json
from typing import Any, ClassVar

import pytest
from tokenizers import Tokenizer
from transformers import AddedToken, PreTrainedTokenizerFast

from lit_unlearn.data.encoding import Encoder, EncodingError
from lit_unlearn.errors import InputError
from lit_unlearn.types import Example, Turn

CONTEXT = (Turn("system", "Say nothing."), Turn("user", "Who?"))
EXAMPLE = Example("set/1", (Turn("user", "Who?"),), "Ada.", "question_answer")


def _text(tokenizer: Any, ids: Any) -> str:
    return str(tokenizer.decode(list(ids)))


def test_student_and_teacher_share_the_answer(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    row = Encoder(tiny_tokenizer).encode(EXAMPLE, EXAMPLE.answer, teacher_turns=CONTEXT)
    assert row is not None
    answer = row.student_ids[row.student_start :]
    assert answer == row.teacher_ids[row.teacher_start :]
    assert row.target_count == len(answer) == row.predictions
    assert _text(tiny_tokenizer, answer) == "Ada.<|im_end|>"
    student = _text(tiny_tokenizer, row.student_ids[: row.student_start])
    teacher = _text(tiny_tokenizer, row.teacher_ids[: row.teacher_start])
    assert student == "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
    assert teacher == "<|im_start|>system\nSay nothing.<|im_end|>\n" + student


def test_prefill_is_part_of_both_prompts(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """The answer follows a prefill after a space; the un-prefilled version has its own spelling."""
    row = Encoder(tiny_tokenizer).encode(EXAMPLE, "No idea.", prefill="It is")
    assert row is not None
    assert _text(tiny_tokenizer, row.student_ids).endswith("assistant\nIt is No idea.<|im_end|>")
    assert _text(tiny_tokenizer, row.student_ids[row.student_start :]) == " No idea.<|im_end|>"
    # one byte, one token: the bare answer is a token shorter here, so the two cannot be aligned
    assert row.unprefilled_ids == ()


def test_an_answer_of_other_tokens_behind_the_prefill(
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Behind a space "Nob" is " No" + "b", else "N" + "ob": as many tokens, but other ones."""
    content = json.loads(tiny_tokenizer.backend_tokenizer.to_str())
    merges = [["\u0120", "N"], ["\u0120N", "o"], ["o", "b"]]
    content["model"]["merges"] = merges
    for index, pair in enumerate(merges):
        content["model"]["vocab"]["".join(pair)] = len(tiny_tokenizer) + index
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))
    bare = Encoder(tokenizer).encode(EXAMPLE, "Nob")
    row = Encoder(tokenizer).encode(EXAMPLE, "Nob", prefill="It is")
    assert bare is not None
    assert row is not None
    assert bare.target_count == row.target_count == 3
    assert bare.student_ids[-2] != row.student_ids[-2]
    assert row.unprefilled_ids == ()


def test_row_without_answer_predicts_one_position(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    row = Encoder(tiny_tokenizer).encode(EXAMPLE, None, teacher_turns=CONTEXT)
    assert row is not None
    assert (row.target_count, row.predictions) == (0, 1)
    assert row.student_start == len(row.student_ids)


def test_template_without_system_role(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}"
        "{{ raise_exception('no system role') }}{% endif %}[{{ m['role'] }}]{{ m['content'] }}"
        "<|im_end|>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    encoder = Encoder(tokenizer)
    text = _text(tokenizer, encoder.prompt_ids(CONTEXT))
    assert text == "[user]Say nothing.\n\nWho?<|im_end|>[assistant]"


def test_tokenizer_without_template(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = None
    row = Encoder(tokenizer).encode(EXAMPLE, EXAMPLE.answer)
    assert row is not None
    assert _text(tokenizer, row.student_ids) == "<|im_start|>Question: Who?\nAnswer: Ada.<|im_end|>"


def test_prefill_without_template(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """It begins where the answer would: the un-prefilled version has the same answer tokens."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = None
    encoder = Encoder(tokenizer)
    row = encoder.encode(EXAMPLE, "No idea.", prefill="It is")
    assert row is not None
    whole = "<|im_start|>Question: Who?\nAnswer: It is No idea.<|im_end|>"
    assert _text(tokenizer, row.student_ids) == whole
    bare = "<|im_start|>Question: Who?\nAnswer: No idea.<|im_end|>"
    assert _text(tokenizer, row.unprefilled_ids) == bare
    prompt = encoder.prompt_ids(EXAMPLE.turns, prefill="It is")
    assert list(row.student_ids[: row.student_start]) == prompt


@pytest.mark.parametrize(
    ("prompt", "prefill", "whole"),
    [
        ("Question: Who?\nAnswer:", "It is", "Question: Who?\nAnswer: It is Ada."),
        ("### Response:\n", "It is", "### Response:\nIt is Ada."),
        ("", "Once", "Once Ada."),
    ],
)
def test_prefill_of_plain_text(
    tiny_tokenizer: PreTrainedTokenizerFast, prompt: str, prefill: str, whole: str
) -> None:
    example = Example("p/1", (Turn("user", prompt),), " Ada.", "question_answer", plain=True)
    row = Encoder(tiny_tokenizer).encode(example, example.answer, prefill=prefill)
    assert row is not None
    assert _text(tiny_tokenizer, row.student_ids) == f"<|im_start|>{whole}<|im_end|>"


def test_template_with_a_space_before_the_answer(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """As Llama 2 and Vicuna have it: what is trained is what the template writes."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
        "{% else %} {{ m['content'] }} <|im_end|>{% endif %}{% endfor %}"
    )
    encoder = Encoder(tokenizer)
    for prefill, text in (
        ("", "[/INST] Ada. <|im_end|>"),
        ("It is", "[/INST] It is Ada. <|im_end|>"),
    ):
        row = encoder.encode(EXAMPLE, "Ada.", prefill=prefill)
        assert row is not None
        assert _text(tokenizer, row.student_ids) == f"[INST] Who? {text}"


def test_end_of_turn_that_is_no_named_token(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """As Phi 3 has it: its end of turn is an added special token, and an end of text follows."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_tokens([AddedToken("<|end|>", special=True), AddedToken("\n", special=False)])
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% else %}<|im_end|>{% endif %}"
    )
    row = Encoder(tokenizer).encode(EXAMPLE, "Ada.")
    assert row is not None
    assert _text(tokenizer, row.student_ids[row.student_start :]) == "Ada.\n<|end|>"


def test_plain_text_has_no_template(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    example = Example("p/1", (Turn("user", ""),), "Once upon a time.", "passage", plain=True)
    row = Encoder(tiny_tokenizer).encode(example, example.answer)
    assert row is not None
    assert row.student_start == 1  # the token that begins a text
    assert _text(tiny_tokenizer, row.student_ids) == "<|im_start|>Once upon a time.<|im_end|>"


def test_empty_answer(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(EncodingError, match=r"'set/1' has an empty answer"):
        Encoder(tiny_tokenizer).encode(EXAMPLE, "  ")
    encoder = Encoder(tiny_tokenizer, on_problem="warn")
    assert encoder.encode(EXAMPLE, "") is None
    assert encoder.problems == {"empty answer": 1}


def test_cut_answer(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    whole = Encoder(tiny_tokenizer).encode(EXAMPLE, EXAMPLE.answer)
    assert whole is not None
    limit = len(whole.student_ids) - 2
    with pytest.raises(EncodingError, match=rf"more than `max_length` = {limit}"):
        Encoder(tiny_tokenizer, max_length=limit).encode(EXAMPLE, EXAMPLE.answer)
    encoder = Encoder(tiny_tokenizer, max_length=limit, on_problem="warn")
    cut = encoder.encode(EXAMPLE, EXAMPLE.answer)
    assert cut is not None
    assert len(cut.student_ids) == limit
    assert encoder.problems["cut answer"] > 0


def test_teacher_cut_shortens_both(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    whole = Encoder(tiny_tokenizer).encode(EXAMPLE, EXAMPLE.answer, teacher_turns=CONTEXT)
    assert whole is not None
    encoder = Encoder(tiny_tokenizer, max_length=len(whole.teacher_ids) - 2, on_problem="warn")
    row = encoder.encode(EXAMPLE, EXAMPLE.answer, teacher_turns=CONTEXT)
    assert row is not None
    assert row.student_ids[row.student_start :] == row.teacher_ids[row.teacher_start :]
    assert row.target_count == whole.target_count - 2


class _Merging:
    """A tokenizer that merges the last prompt letter with the first of the answer."""

    chat_template = None
    eos_token = None
    eos_token_id = None
    bos_token_id = None
    all_special_tokens: tuple[str, ...] = ()
    added_tokens_decoder: ClassVar[dict[int, Any]] = {}

    def apply_chat_template(self, conversation: Any, **options: Any) -> str:
        return "".join(m["content"] for m in conversation if m["role"] != "system")

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(c) for c in text.replace("?A", "&")]}

    def decode(self, token_ids: Any, **options: Any) -> str:
        return "".join(map(chr, token_ids))


def test_prompt_that_is_no_prefix() -> None:
    example = Example("set/2", (Turn("user", "Who?"),), "Ada", "question_answer")
    with pytest.raises(EncodingError, match=r"'set/2'.*not the beginning of the whole"):
        Encoder(_Merging()).encode(example, "Ada")
    encoder = Encoder(_Merging(), on_problem="warn")
    row = encoder.encode(example, "Ada")
    assert row is not None
    assert row.student_ids == tuple(map(ord, "Who?Ada"))
    assert encoder.problems["boundary"] == 1  # student and teacher read the same


def test_a_template_that_never_ends(
    tiny_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loops in loops, which the sandbox allows."""
    monkeypatch.setattr("lit_unlearn.utils.chat_template._SECONDS", 0.1)
    tokenizer = copy.deepcopy(tiny_tokenizer)
    loop = "{% for i in range(99999) %}"
    tokenizer.chat_template = loop * 3 + "{% endfor %}" * 3
    with pytest.raises(InputError, match=r"chat template.*still computing after 0.1 s"):
        Encoder(tokenizer)


def test_a_context_reaches_a_plain_row(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """As running text before the row's own, which the student reads alone."""
    encoder = Encoder(tiny_tokenizer)
    context = (Turn("user", "One?"), Turn("assistant", "I pass."), Turn("user", "Two?"))
    seen = tiny_tokenizer.decode(encoder.prompt_ids(context, plain=True))
    assert seen.endswith("One? I pass.\n\nTwo?")
    assert tiny_tokenizer.decode(encoder.prompt_ids(context[-1:], plain=True)).endswith("Two?")
    assert "One?" not in tiny_tokenizer.decode(encoder.prompt_ids(context[-1:], plain=True))


def test_a_refusal_is_not_glued_to_a_plain_row(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """A gold answer brings its own white space; a refusal, or what the teacher said, does not."""
    asked = Example("p/2", (Turn("user", "Q: Who?\nA:"),), " Ada.", "question_answer", plain=True)
    for answer, text in ((asked.answer, "A: Ada.<|im_end|>"), ("No.", "A: No.<|im_end|>")):
        row = Encoder(tiny_tokenizer).encode(asked, answer)
        assert row is not None
        assert tiny_tokenizer.decode(row.student_ids).endswith(text)
