"""Replies of models, stored on disk as they arrive, so that a resumed run repeats no question."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from lit_unlearn.rewriting.prompts import Ask
from lit_unlearn.utils.append_log import AppendLog
from lit_unlearn.utils.digests import json_digest, text_digest

__all__ = ["FILE_NAME", "Journal", "Reply", "content_key", "model_key"]

FILE_NAME = "journal.jsonl"


@dataclass(frozen=True)
class Reply:
    """Reply of a model to one question."""

    text: str
    seconds: float = 0.0
    """Time from the question to the reply; for a batch, that of the whole batch."""
    prompt_tokens: int = 0
    reply_tokens: int = 0
    reply_id: str = ""
    """Id of the reply on the server."""
    cut: bool = False
    """Whether the reply reached its largest length."""


def content_key(model: str, ask: Ask, attempt: int) -> str:
    """Return the key of a reply, 80 digits: `model_key`, and a digest of all that decides it."""
    content = [model, ask.version, ask.prompt, ask.max_tokens, attempt]
    return model_key(model) + json_digest(content)


def model_key(model: str) -> str:
    """Return the first 16 digits of the keys of all replies of one model."""
    return text_digest(model)[:16]


class Journal(AppendLog[Reply]):
    """The replies in one folder, by their `content_key`."""

    file_name = FILE_NAME
    user = "rewriting run"

    @cached_property
    def replies(self) -> dict[str, Reply]:
        """All replies by their keys, those of earlier runs too."""
        return self.read()

    def append(self, values: Mapping[str, Reply]) -> None:
        super().append(values)
        self.replies.update(values)

    def encode(self, value: Reply) -> dict[str, Any]:
        return asdict(value)

    def decode(self, fields: dict[str, Any]) -> Reply:
        return Reply(**fields)
