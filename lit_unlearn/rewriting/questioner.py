"""Ask a model through the journal, so that no question is asked twice."""

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

__all__ = ["Answer", "Asker"]


@dataclass(frozen=True)
class Answer:
    """Outcome of one question."""

    value: Any
    """Value of the requested form; None if no attempt gave one."""
    problem: str
    """Problem of the last attempt."""
    made: Made


class Asker:
    """Client of a model that repeats a question, at most `attempts` times, until the form is right.

    The journal has the replies of the model, including those of earlier runs.
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
        """Return the journal's key of a question."""
        return content_key(self._identity, ask, attempt)

    def known(self) -> list[Reply]:
        """Return the replies of this model, those of earlier runs too."""
        own = model_key(self._identity)
        return [reply for key, reply in self.journal.replies.items() if key.startswith(own)]

    def answers(self, name: str, asks: Sequence[Ask]) -> list[Answer]:
        """Return answers in the order of the questions; equal questions are asked once.

        A question whose reply does not have the requested form is asked again. If the model fails,
        earlier replies stay in the journal. `name` is the stage on the progress bar.
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
        """Return replies from the journal; ask the model for missing ones."""
        keys = [self.key(ask, attempt) for ask in asks]
        known = self.journal.replies
        missing = {key: ask for key, ask in zip(keys, asks, strict=True) if key not in known}
        stage.add(sum(key not in missing for key in keys))
        open_keys, often = list(missing), Counter(keys)
        for replies in self.backend.ask(list(missing.values()), attempt) if missing else ():
            self.journal.append({open_keys[i]: reply for i, reply in replies.items()})
            stage.add(sum(often[open_keys[i]] for i in replies))
        return [known.get(key) for key in keys]
