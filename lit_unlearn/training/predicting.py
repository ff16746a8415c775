"""Replies of a run's student to questions, shared out over the processes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.questions import Asked
from lit_unlearn.distributed.ranks import share
from lit_unlearn.evaluation.asking import replies
from lit_unlearn.evaluation.probes import Generation, Subject
from lit_unlearn.evaluation.suites.common import probe_of
from lit_unlearn.models.start_checks import longest_sequence

if TYPE_CHECKING:
    from lit_unlearn.training.module import UnlearnModule

__all__ = ["predictions"]


def predictions(
    module: UnlearnModule, batch: Sequence[int], batch_idx: int
) -> list[dict[str, str | None]]:
    """Return the replies to questions in their order, the same in every process.

    Args:
        module: The module with the student; its data module has the questions and the settings of
            replies.
        batch: Numbers of the questions.
        batch_idx: Number of the batch.

    Returns:
        For each question `objective`, `example_id`, `question`, `gold` and `generated`.

    Raises:
        InputError: A question cannot be put to the model.
    """
    data: Any = module.trainer.datamodule  # type: ignore[attr-defined]
    asked: list[Asked] = [data.asked[number] for number in batch]
    student, tokenizer = module.loaded_student(), module.tokenizer
    longest = longest_sequence(student, data.max_length)
    encoder = Encoder(tokenizer, longest, "warn", data.template)
    subject = Subject(module.source.path, student, tokenizer, encoder, "")
    settings = Generation(data.questions.max_new_tokens)
    probes = [probe_of(row, name or "", settings) for name, row in asked]
    answer = partial(replies, subject, batch_size=data.questions.batch_size)
    with torch.inference_mode(False):  # FSDP2 gathers no weights as inference tensors
        said = share(probes, answer, student)
    return [
        {
            "objective": name,
            "example_id": row.example_id,
            "question": row.question,
            "gold": row.answer,
            "generated": reply,
        }
        for (name, row), (reply,) in zip(asked, said, strict=True)
    ]
