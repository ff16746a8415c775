"""Reasoning that the teacher writes about rows before training, under contexts that ask for it."""

from collections.abc import Sequence

from lit_unlearn.data.contexts import Context
from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.scores import is_correct
from lit_unlearn.training.setup.teacher_replies import Asked, Speaker, teacher_replies
from lit_unlearn.training.setup.views import Material, context_rows
from lit_unlearn.types import Example
from lit_unlearn.utils.progress import Stage

__all__ = ["reasoning_of"]


def reasoning_of(
    name: str,
    indices: Sequence[int],
    context: Context,
    material: Material,
    speaker: Speaker | None,
    stage: Stage,
) -> dict[int, str]:
    """Let the teacher write its reasoning about rows of an objective; greedy, and kept on disk.

    Reasoning that contains the answer of a row to forget is left out: no context may contain it.

    Returns:
        The reasoning by the row's index; nothing where the context asks for none.

    Raises:
        InputError: The context asks for reasoning, and there is no teacher.
    """
    if not context.reasoning_tokens:
        return {}
    if speaker is None:
        raise InputError(
            f"Parameter `data.objectives.{name}.context.init_args.reasoning_tokens` is "
            f"{context.reasoning_tokens}, so `model.teacher` should be set. Found none; set it, or "
            "set `reasoning_tokens` to 0."
        )
    stage.more(len(indices))
    examples, encoder = material.examples[name], speaker.encoder
    rows = context_rows(name, indices, context, material)
    asked = [
        Asked(tuple(encoder.prompt_ids(context.thinking(row), plain=examples[index].plain)))
        for index, row in zip(indices, rows, strict=True)
    ]
    replies = teacher_replies(speaker, asked, context.reasoning_tokens, stage)
    found = {index: reply.text.strip() for index, reply in zip(indices, replies, strict=True)}
    if material.objectives[name].expect == "answer":
        return found
    return {index: "" if _leaks(text, examples[index]) else text for index, text in found.items()}


def _leaks(text: str, example: Example) -> bool:
    gold = [answer for answer in (example.answer, *example.accepted) if answer.strip()]
    return bool(gold) and is_correct(text, gold)
