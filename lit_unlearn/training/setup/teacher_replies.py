"""Replies of the teacher before training, kept in the user's cache.

A reply is found by the teacher, the prompt's token ids and the longest length. Template, context
and prefill are part of the ids, so that every run with the same question finds it, whatever its
seed, thresholds or objectives.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.distributed.ranks import on_first, opened_on_first, share, world_size
from lit_unlearn.models.generation import generate_replies
from lit_unlearn.teachers.teacher import Teacher
from lit_unlearn.utils.append_log import AppendLog
from lit_unlearn.utils.digests import json_digest
from lit_unlearn.utils.disk import usable_cache
from lit_unlearn.utils.progress import Stage

__all__ = [
    "Asked",
    "Reply",
    "ReplyLog",
    "Speaker",
    "reply_key",
    "reply_log",
    "teacher_replies",
]

_VERSION = 1
"""Raised whenever the same teacher would give another reply to the same prompt."""
_AT_ONCE = 32
"""Prompts between two writes."""


@dataclass(frozen=True)
class Asked:
    """A prompt for the teacher."""

    prompt: tuple[int, ...]
    wanted: int | None = None
    """Token whose probability as the reply's first one is wanted."""


@dataclass(frozen=True)
class Reply:
    """A greedy reply of the teacher."""

    text: str
    first: float | None = None
    """Probability of the wanted token, 0 to 1; None where none was wanted."""


class ReplyLog(AppendLog[Reply]):
    """The replies of one teacher."""

    file_name = "replies.jsonl"
    user = "run"

    def encode(self, value: Reply) -> dict[str, Any]:
        return asdict(value)

    def decode(self, fields: dict[str, Any]) -> Reply:
        return Reply(**fields)


@dataclass
class Speaker:
    """The teacher with its encoder.

    ``start`` is the fingerprint of the start model; nothing is kept where it is empty.
    """

    teacher: Teacher
    encoder: Encoder
    start: str = ""
    from_cache: int = 0
    """Number of replies so far that were known."""
    asked: int = 0
    """Number of replies so far."""

    def known(self) -> str:
        """Return a line about the replies that were known; empty where none was."""
        if not self.from_cache:
            return ""
        return f"Teacher: {self.from_cache} of {self.asked} replies from the cache."

    def log(self) -> ReplyLog | None:
        """Return the log of this teacher's replies; None where they cannot be kept."""
        if not self.start:
            return None
        return reply_log(self.start, self.teacher, next(self.teacher.model().parameters()).dtype)


def reply_log(start: str, teacher: Teacher, dtype: torch.dtype) -> ReplyLog | None:
    """Return the log of a teacher's replies; None where they cannot be kept.

    Args:
        start: Fingerprint of the start model.
        teacher: The teacher, whose model need not be loaded.
        dtype: Dtype of its weights.
    """
    if type(teacher).identity is Teacher.identity:  # its settings are not known
        return None
    autocast = [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")]
    about = (start, teacher.identity(), str(dtype), autocast, transformers.__version__)
    folder = on_first(partial(usable_cache, "replies", json_digest(about)[:16]))
    return None if folder is None else ReplyLog(folder, shared=True)


def reply_key(asked: Asked, max_new_tokens: int) -> str:
    """Return the key of a reply in the log of its teacher."""
    return json_digest([_VERSION, asked.prompt, asked.wanted, max_new_tokens])


def teacher_replies(
    speaker: Speaker, asked: Sequence[Asked], max_new_tokens: int, stage: Stage
) -> list[Reply]:
    """Generate greedy replies in the order of the prompts; each rank generates its share."""
    log = speaker.log()
    keys = [reply_key(one, max_new_tokens) for one in asked]
    with opened_on_first(log):
        found = on_first(lambda: {} if log is None else log.read(keys))
        missing = {key: one for key, one in zip(keys, asked, strict=True) if key not in found}
        known = sum(key in found for key in keys)
        speaker.from_cache, speaker.asked = speaker.from_cache + known, speaker.asked + len(keys)
        if known:
            stage.add(known)
        rest = list(missing)
        for start in range(0, len(rest), _AT_ONCE * world_size()):
            part = rest[start : start + _AT_ONCE * world_size()]
            replies = _generated(speaker, [missing[key] for key in part], max_new_tokens, stage)
            fresh = dict(zip(part, replies, strict=True))
            if log is not None:
                on_first(partial(log.append, fresh))
            found |= fresh
    return [found[key] for key in keys]


def _generated(
    speaker: Speaker, asked: Sequence[Asked], max_new_tokens: int, stage: Stage
) -> list[Reply]:
    teacher = speaker.teacher
    count = stage.counter(len(asked), world_size())

    def generate(own: Sequence[Asked]) -> list[Reply]:
        first: list[float | None] = [None] * len(own)

        def observe(members: list[int], logits: Tensor) -> None:
            probabilities = torch.softmax(logits.float(), -1)
            for row, index in enumerate(members):
                wanted = own[index].wanted
                if wanted is not None:
                    first[index] = float(probabilities[row, wanted])

        replies = generate_replies(
            teacher.model(),  # type: ignore[arg-type]
            speaker.encoder.tokenizer,
            [one.prompt for one in own],
            max_new_tokens=max_new_tokens,
            progress=count,
            observe=observe,
            thoughts=speaker.encoder.thoughts,
        )
        return [Reply(text, each) for (text,), each in zip(replies, first, strict=True)]

    with teacher.speaking():
        return share(asked, generate, *teacher.models())
