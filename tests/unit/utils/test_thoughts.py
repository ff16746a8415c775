"""Replies of models that think end their thoughts in time, and hold the answer alone."""

from __future__ import annotations

import copy

import torch
from transformers import AddedToken, PreTrainedModel, PreTrainedTokenizerFast

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.models.generation import generate_replies, stop_ids
from lit_unlearn.types import Turn
from lit_unlearn.utils.chat_template import Template
from lit_unlearn.utils.thoughts import ThoughtLimit, Thoughts

THOUGHTS = Thoughts(opening=(7, 8), mark=(5,), closing=(5, 6))


def test_where_the_model_thinks_and_where_thoughts_end() -> None:
    assert THOUGHTS.follow([1, 7, 8])
    assert not THOUGHTS.follow([7, 8, 1])
    assert THOUGHTS.end([1, 5, 2]) == 2
    assert THOUGHTS.end([1, 2]) == -1


def test_thoughts_are_closed_after_their_limit_and_never_end_the_reply() -> None:
    limit = ThoughtLimit(THOUGHTS, [True, False], start=1, most=2, ends=[3])

    def chosen(*replies: list[int]) -> list[int]:
        scores = torch.zeros(2, 9)
        scores[:, 3] = 1.0  # both would end
        ids = torch.tensor([[0, *reply] for reply in replies])
        return [int(i) for i in limit(ids, scores).argmax(-1)]

    assert chosen([1], [1]) == [0, 3]  # within the thoughts the end is not possible
    assert chosen([1, 1], [1, 1]) == [5, 3]
    assert chosen([1, 1, 5], [1, 1, 1]) == [6, 3]
    assert chosen([1, 1, 5, 6], [1, 1, 1, 1]) == [3, 3]
    assert chosen([1, 5, 1], [1, 1, 1]) == [3, 3]  # the model closed them itself


def test_a_reply_holds_the_answer_alone(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """What is written behind the closing is what the same prompt with these thoughts gives."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_tokens([AddedToken("<t>"), AddedToken("</think>")])
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}</think>{% endif %}"
        "{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}[assistant]"
        "{% if not enable_thinking %}</think>{% endif %}{% endif %}"
    )
    tiny_model.resize_token_embeddings(len(tokenizer))
    encoder = Encoder(tokenizer, template=Template(enable_thinking=True))
    prompts = [encoder.prompt_ids([Turn("user", "Hi?")])]
    thoughts = encoder.thoughts
    assert thoughts is not None
    ((made,),) = generate_replies(
        tiny_model, tokenizer, prompts, max_new_tokens=12, thoughts=thoughts
    )
    ends = stop_ids(tiny_model, tokenizer)
    ids = list(prompts[0])
    for step in range(12):  # the same by hand: six thoughts, the closing, and the answer
        with torch.no_grad():
            logits = tiny_model(torch.tensor([ids])).logits[0, -1]
        if step < 6:
            logits[ends] = -torch.inf
        token = int(logits.argmax()) if not 6 <= step < 6 + len(thoughts.closing) else -1
        if token in ends:
            break
        ids.append(token if token >= 0 else thoughts.closing[step - 6])
    answer = ids[len(prompts[0]) + 6 + len(thoughts.closing) :]
    assert made == tokenizer.decode(answer, skip_special_tokens=True).strip()
    ((plain,),) = generate_replies(tiny_model, tokenizer, prompts, max_new_tokens=12)
    assert made != plain
