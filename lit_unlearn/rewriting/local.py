"""A chat model on this machine that replies to questions."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from lit_unlearn.errors import InputError, check_number
from lit_unlearn.evaluation.probes import Subject
from lit_unlearn.evaluation.subjects import Loading, load_subject, named_model
from lit_unlearn.models.dtypes import DType
from lit_unlearn.models.finding import fingerprint
from lit_unlearn.models.generation import generate_replies
from lit_unlearn.models.sampling import Sampling
from lit_unlearn.rewriting.backends import RETRY_TEMPERATURE, Backend
from lit_unlearn.rewriting.journal import Reply
from lit_unlearn.rewriting.prompts import Ask
from lit_unlearn.utils.chat_template import Template

__all__ = ["LocalModel", "Written"]

_STOPS = ('"', "\n")
_MARGIN = 8
"""Tokens that a text may exceed its largest length by, so that a cut text is recognised even if its
tokens, when counted again, are fewer."""


@dataclass
class LocalModel(Backend):
    """A chat model on this machine, through transformers.

    Args:
        path: Hub id, local folder, .gguf file, or `random-tiny`.
        revision: Branch, tag or commit on the hub.
        dtype: Dtype of the weights; in float32 replies do not depend on the batch.
        device: Name of a torch device (`cpu`, `cuda:1`); `auto` takes a GPU if there is one.
        batch_size: Questions per batch; replies are stored before the next batch starts.
        fill: Let the model write only the texts inside the JSON, so that small models keep to the
            form. The prompt is read again for each text. False lets the model write the whole
            reply.
        template: Settings of the chat template; for null see `Loading`.
    """

    path: str
    revision: str | None = None
    dtype: DType = "float32"
    device: str = "auto"
    batch_size: int = 8
    fill: bool = True
    template: Template | None = None

    def __post_init__(self) -> None:
        check_number("batch_size", self.batch_size, 1)
        self.parallel = self.batch_size
        self._subject: Subject | None = None

    @property
    def name(self) -> str:
        return self.path

    def identity(self) -> str:
        with named_model("backend.path"):
            found = fingerprint(self.path, self.revision)
        template = "" if self.template is None else f" {self.template}"
        return f"{found} {self.dtype}{'' if self.fill else ' free'}{template}"

    def ask(self, asks: Sequence[Ask], attempt: int) -> Iterator[dict[int, Reply]]:
        """Yield replies batch by batch; the questions of a batch have one form and like lengths."""
        subject = self._loaded()
        lengths = [len(_prompt(subject, ask, "")) for ask in asks]
        room = subject.encoder.max_length
        most = [ask.max_tokens + _MARGIN * len(ask.frame) for ask in asks]
        fitting = [i for i in range(len(asks)) if lengths[i] + most[i] <= room]

        def kind(index: int) -> tuple[int, int]:
            return asks[index].max_tokens, len(asks[index].frame)

        order = sorted(fitting, key=lambda i: (kind(i), -lengths[i]))
        for _, equal in groupby(order, key=kind):
            members = list(equal)
            for start in range(0, len(members), self.batch_size):
                batch = members[start : start + self.batch_size]
                started = time.perf_counter()
                write = _filled if self.fill and len(asks[batch[0]].frame) > 1 else _free
                written = write(subject, [asks[i] for i in batch], attempt)
                seconds = time.perf_counter() - started
                yield {
                    i: Reply(text, seconds, lengths[i], tokens, "", cut)
                    for i, (text, tokens, cut) in zip(batch, written, strict=True)
                }

    def _loaded(self) -> Subject:
        """Return the model, which is loaded for the first question."""
        if self._subject is None:
            with named_model("backend.path"):
                loading = Loading(self.dtype, self.device, template=self.template)
                found = load_subject(self.path, loading, self.revision)
            if not found.tokenizer.chat_template:
                raise InputError(
                    f"Parameter `backend.path` should name a chat model. Found {self.path!r}, "
                    "whose tokenizer has no chat template; give an instruction-tuned model."
                )
            self._subject = found
        return self._subject


Written = tuple[str, int, bool]
"""Reply, number of tokens that the model wrote, and whether the reply was cut off."""


def _free(subject: Subject, asks: Sequence[Ask], attempt: int) -> list[Written]:
    """Let the model write whole replies after the beginning of the form."""
    most = asks[0].max_tokens
    texts = _generate(subject, asks, [ask.frame[0] for ask in asks], most, attempt, ())
    return [
        (ask.frame[0] + text, count, count >= most)
        for ask, text in zip(asks, texts, strict=True)
        for count in [_tokens(subject, text)]
    ]


def _filled(subject: Subject, asks: Sequence[Ask], attempt: int) -> list[Written]:
    """Let the model write the texts of each form one by one; all forms have as many texts.

    A reply ends before the first pair of texts of which one is longer than its share of tokens.
    """
    size = len(asks[0].frame) - 1
    share = asks[0].max_tokens // size
    texts = [ask.frame[0] for ask in asks]
    closed = ["" for _ in asks]
    counts = [0 for _ in asks]
    live = list(range(len(asks)))
    for number in range(1, size + 1):
        own, drafts = [asks[i] for i in live], [texts[i] for i in live]
        values = _generate(subject, own, drafts, share, attempt, _STOPS) if live else []
        whole = []
        for i, value in zip(live, values, strict=True):
            tokens = _tokens(subject, value)
            counts[i] += tokens
            if tokens >= share:
                continue
            whole.append(i)
            if number % 2 == 0:
                closed[i] = texts[i] + value + asks[i].frame[-1]
            texts[i] += value + asks[i].frame[number]
        live = whole
    return [
        (end or text, count, not end)
        for end, text, count in zip(closed, texts, counts, strict=True)
    ]


def _generate(
    subject: Subject,
    asks: Sequence[Ask],
    drafts: Sequence[str],
    most: int,
    attempt: int,
    stops: Sequence[str],
) -> list[str]:
    model: Any = subject.model
    replies = generate_replies(
        model,
        subject.tokenizer,
        [_prompt(subject, ask, draft) for ask, draft in zip(asks, drafts, strict=True)],
        max_new_tokens=most + _MARGIN,
        sampling=Sampling(RETRY_TEMPERATURE, seed=attempt) if attempt else None,
        stops=stops,
        batch_size=len(asks),
    )
    return [reply for (reply,) in replies]


def _prompt(subject: Subject, ask: Ask, draft: str) -> list[int]:
    return subject.encoder.prompt_ids(ask.turns, prefill=draft)


def _tokens(subject: Subject, text: str) -> int:
    return len(subject.tokenizer(text, add_special_tokens=False)["input_ids"])
