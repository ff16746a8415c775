"""Replies of the teacher before training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.distributed.ranks import share, world_size
from lit_unlearn.models.generation import generate_answers
from lit_unlearn.teachers.teacher import Teacher
from lit_unlearn.utils.progress import Stage

__all__ = ["teacher_replies"]


def teacher_replies(
    teacher: Teacher,
    prompts: Sequence[Sequence[int]],
    encoder: Encoder,
    max_new_tokens: int,
    stage: Stage,
) -> list[str]:
    """Generate greedy replies in the order of the prompts; each rank generates its share.

    Args:
        teacher: The attached teacher.
        prompts: Token ids.
        encoder: Encoder with the tokenizer.
        max_new_tokens: Longest reply, in tokens.
        stage: Counts the prompts.
    """
    generate = partial(
        generate_answers,
        teacher.model(),  # type: ignore[arg-type]
        encoder.tokenizer,
        max_new_tokens=max_new_tokens,
        progress=stage.counter(len(prompts), world_size()),
        thoughts=encoder.thoughts,
    )
    with teacher.speaking():
        return [*share(prompts, generate, *teacher.models())]
