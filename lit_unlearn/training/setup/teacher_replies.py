"""What the teacher writes after prompts, before training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.distributed.ranks import share, world_size
from lit_unlearn.models.generation import generate_answers
from lit_unlearn.teachers.teacher import Teacher
from lit_unlearn.utils.progress import Stage


def teacher_replies(
    teacher: Teacher,
    prompts: Sequence[Sequence[int]],
    encoder: Encoder,
    max_new_tokens: int,
    stage: Stage,
) -> list[str]:
    """Greedy replies in the order of the prompts, each written by one of the processes.

    Args:
        teacher: Attached.
        prompts: Token ids.
        encoder: Has the tokenizer.
        max_new_tokens: Of each reply.
        stage: Told of the progress.
    """
    speak = partial(
        generate_answers,
        teacher.model(),  # type: ignore[arg-type]
        encoder.tokenizer,
        max_new_tokens=max_new_tokens,
        progress=stage.counter(len(prompts), world_size()),
    )
    with teacher.speaking():
        return [*share(prompts, speak, *teacher.models())]
