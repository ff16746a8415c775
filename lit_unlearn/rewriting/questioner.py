"""Questions to a model, through the journal, so that nothing is asked twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from lit_unlearn.rewriting.backends import Backend
from lit_unlearn.rewriting.drafts import Made
from lit_unlearn.rewriting.journal import Journal, Reply, content_key, model_key
from lit_unlearn.rewriting.prompts import Ask
from lit_unlearn.rewriting.replies import read_reply
from lit_unlearn.utils.progress import Stage, shown


@dataclass(frozen=True)
class Answer:
    """What became of one question."""

    value: Any
    """Of the form that was asked for; None where no attempt gave one."""
    problem: str
    """What was wrong with the last attempt."""
    made: Made


class Asker:
    """Asks a model, as often as is needed and allowed.

    Args:
        backend: The model.
        journal: Holds what it said, also in earlier runs.
        attempts: Most attempts for each question.
        console: Shows the progress; None takes the standard error stream.
    """

    def __init__(
        self, backend: Backend, journal: Journal, attempts: int, console: Console | None = None
    ) -> None:
        self.backend = backend
        self.journal = journal
        self.attempts = attempts
        self._console = console
        self._identity = backend.identity()
        backend.proven = backend.proven or bool(self.known())

    def key(self, ask: Ask, attempt: int = 0) -> str:
        """The journal's key for a question."""
        return content_key(self._identity, ask, attempt)

    def known(self) -> list[Reply]:
        """What this model has said, also in earlier runs."""
        own = model_key(self._identity)
        return [reply for key, reply in self.journal.replies.items() if key.startswith(own)]

    def answers(self, name: str, asks: Sequence[Ask]) -> list[Answer]:
        """Answers in the order of the questions.

        A reply that does not have the form that was asked for is asked for again.

        Args:
            name: The stage, for the progress bar.
            asks: The questions; equal ones are asked once.

        Raises:
            InputError: The model cannot be used. What was answered before is in the journal.
        """
        found: dict[int, Answer] = {}
        still = list(range(len(asks)))
        with shown(Stage(name, len(asks), "questions"), self._console) as stage:
            for attempt in range(self.attempts):
                if attempt:
                    stage.more(len(still))
                replies = self._replies([asks[i] for i in still], attempt, stage)
                for i, reply in zip(still, replies, strict=True):
                    found[i] = self._answer(asks[i], attempt, reply)
                taken = [i for i, reply in zip(still, replies, strict=True) if reply is not None]
                still = [i for i in taken if found[i].value is None]
                if not still:
                    break
        return [found[i] for i in range(len(asks))]

    def _answer(self, ask: Ask, attempt: int, reply: Reply | None) -> Answer:
        made = Made("model", self.backend.name, self._identity, ask.version, attempt)
        if reply is None:
            return Answer(None, "the model did not take the question", made)
        value, problem = read_reply(reply.text, ask.schema)
        if problem and reply.cut:
            problem = f"the reply was cut off at {ask.max_tokens} tokens"
        return Answer(value, problem, made)

    def _replies(self, asks: Sequence[Ask], attempt: int, stage: Stage) -> list[Reply | None]:
        """From the journal, or from the model and then in the journal."""
        keys = [self.key(ask, attempt) for ask in asks]
        known = self.journal.replies
        missing = {key: ask for key, ask in zip(keys, asks, strict=True) if key not in known}
        stage.add(sum(key not in missing for key in keys))
        open_keys, often = list(missing), Counter(keys)
        for replies in self.backend.ask(list(missing.values()), attempt) if missing else ():
            self.journal.append({open_keys[i]: reply for i, reply in replies.items()})
            stage.add(sum(often[open_keys[i]] for i in replies))
        return [known.get(key) for key in keys]
