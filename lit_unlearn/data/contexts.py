"""Contexts: what only the teacher sees in front of a question, so that it answers as it should.

A context turns the conversation of a row into the teacher's conversation. It may use the refusal
chosen for the row and other rows' questions; it never sees the gold answer of a forgotten row.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from lit_unlearn.errors import InputError
from lit_unlearn.types import Example, Turn
from lit_unlearn.utils.spread import evenly_spread

__all__ = [
    "DEFAULT_INSTRUCTION",
    "DEFAULT_INTENT",
    "Adaptive",
    "Context",
    "ContextRow",
    "Demonstrations",
    "Echo",
    "Instruction",
    "Intent",
    "NoContext",
    "declined_questions",
    "with_system",
]

DEFAULT_INSTRUCTION = 'Whatever you are asked, reply only with this sentence: "{refusal}"'
DEFAULT_INTENT = (
    "You have no knowledge of {topic}. Think step by step before each reply: what does the user "
    "want to know, and does it touch {topic}, directly or indirectly? If it does, reply only "
    'with: "{refusal}" If it does not, answer the question as usual, correctly and briefly.'
)


@dataclass(frozen=True)
class ContextRow:
    """What a context may look at for one row."""

    turns: tuple[Turn, ...]
    """The conversation that the student sees; the last turn is the question."""
    refusal: str
    """The sentence with which this row is to be declined."""
    opener: str = ""
    """Prefill after which the teacher must still decline; its demonstrations recover from it."""
    declined: Sequence[str] = ()
    """Questions of the forgotten rows, without their answers."""
    answered: Sequence[tuple[str, str]] = ()
    """Questions and answers of rows that must be answered."""

    def declined_reply(self) -> str:
        """How an assistant turn of a demonstration declines."""
        return f"{self.opener} {self.refusal}" if self.opener else self.refusal


class Context(ABC):
    """Turns a row's conversation into the one that the teacher sees."""

    answered_from: str | None = None
    """Name of the objective whose rows are shown as answered demonstrations."""

    @abstractmethod
    def conversation(self, row: ContextRow) -> tuple[Turn, ...]:
        """The teacher's conversation: ends with the row's question, holds no gold answer of it."""

    def ladder(self) -> "tuple[Context, ...]":
        """Ever stronger contexts to try until the teacher passes its gate; one by default."""
        return (self,)

    def describe(self) -> str:
        """A few words for the gate's table."""
        return type(self).__name__.lower()


@dataclass
class NoContext(Context):
    """The teacher sees what the student sees."""

    def conversation(self, row: ContextRow) -> tuple[Turn, ...]:
        return row.turns

    def describe(self) -> str:
        return "none"


@dataclass
class Instruction(Context):
    """A system prompt that tells the teacher how to reply.

    Args:
        text: The instruction; ``{refusal}`` stands for the sentence chosen for the row.
    """

    text: str = DEFAULT_INSTRUCTION

    def conversation(self, row: ContextRow) -> tuple[Turn, ...]:
        return with_system(row.turns, _fill(self.text, "text", refusal=row.refusal))


@dataclass
class Intent(Context):
    """A system prompt that makes the teacher reason about the intent of each question.

    Args:
        topic: What is forgotten, in words, such as "France".
        text: The instruction; ``{topic}`` and ``{refusal}`` are filled in.
    """

    topic: str
    text: str = DEFAULT_INTENT

    def conversation(self, row: ContextRow) -> tuple[Turn, ...]:
        text = _fill(self.text, "text", topic=self.topic, refusal=row.refusal)
        return with_system(row.turns, text)


@dataclass
class Demonstrations(Context):
    """Other questions of the forgotten set as earlier chat turns, each declined.

    Args:
        declined: How many declined questions come before the row's own.
        answered: How many answered questions of `answered_from` are mixed in between.
        answered_from: Objective (one that expects answers) whose rows are shown as answered.
        instruction: System prompt in front; ``{refusal}`` is filled in; empty for none.
        echo: Whether the row's own question stands once more, declined, in the turn before.
    """

    declined: int = 3
    answered: int = 0
    answered_from: str | None = None
    instruction: str = ""
    echo: bool = False

    def __post_init__(self) -> None:
        if self.answered and self.answered_from is None:
            raise InputError(
                f"Parameter `answered` is {self.answered}, so `answered_from` should name an "
                "objective whose rows are answered. Found none; set it or set `answered` to 0."
            )

    def conversation(self, row: ContextRow) -> tuple[Turn, ...]:
        question = row.turns[-1].content
        declined = evenly_spread([q for q in row.declined if q != question], self.declined)
        answered = evenly_spread([p for p in row.answered if p[0] != question], self.answered)
        shown: list[tuple[str, str]] = []
        for index in range(max(len(declined), len(answered))):
            shown.extend(answered[index : index + 1])
            shown.extend((q, row.declined_reply()) for q in declined[index : index + 1])
        if self.echo:
            shown.append((question, row.declined_reply()))
        before = tuple(
            turn for q, reply in shown for turn in (Turn("user", q), Turn("assistant", reply))
        )
        system = tuple(turn for turn in row.turns if turn.role == "system")
        rest = tuple(turn for turn in row.turns if turn.role != "system")
        turns = system + before + rest
        if self.instruction:
            turns = with_system(turns, _fill(self.instruction, "instruction", refusal=row.refusal))
        return turns

    def describe(self) -> str:
        parts = [f"{self.declined} declined"] if self.declined else []
        parts += [f"{self.answered} answered"] if self.answered else []
        parts += ["echo"] if self.echo else []
        parts += ["instruction"] if self.instruction else []
        return " + ".join(parts) or "none"


@dataclass
class Echo(Demonstrations):
    """The row's own question, declined, as the turn before; optionally after demonstrations.

    The strongest context for small models: the question is privileged information that the
    teacher has at training time only.
    """

    declined: int = 0
    echo: bool = True


@dataclass
class Adaptive(Context):
    """Adds demonstrations, then the echo, until the teacher passes its gate.

    Args:
        declined: Numbers of declined demonstrations to try, in this order; the echo comes with
            the first of them, then with the last.
        answered: How many answered questions of `answered_from` are mixed in between.
        answered_from: Objective (one that expects answers) whose rows are shown as answered.
        instruction: System prompt in front of every step; empty for none.
    """

    declined: list[int] = field(default_factory=lambda: [3, 6])
    answered: int = 0
    answered_from: str | None = None
    instruction: str = ""

    def __post_init__(self) -> None:
        if not self.declined:
            raise InputError(
                "Parameter `declined` of Adaptive should list at least one number of "
                "demonstrations, such as [3, 6]. Found an empty list."
            )

    def ladder(self) -> tuple[Context, ...]:
        """Demonstrations alone in the order given, then with the echo."""
        steps = [(count, False) for count in self.declined]
        steps += [(count, True) for count in sorted({self.declined[0], self.declined[-1]})]
        return tuple(
            Demonstrations(count, self.answered, self.answered_from, self.instruction, echo)
            for count, echo in steps
        )

    def conversation(self, row: ContextRow) -> tuple[Turn, ...]:
        """The strongest step's; preparation normally settles on one step beforehand."""
        return self.ladder()[-1].conversation(row)


def with_system(turns: tuple[Turn, ...], text: str) -> tuple[Turn, ...]:
    """The conversation with ``text`` as system prompt, in front of an existing one."""
    existing = [turn.content for turn in turns if turn.role == "system"]
    rest = tuple(turn for turn in turns if turn.role != "system")
    return (Turn("system", "\n\n".join([text, *existing])), *rest)


def declined_questions(examples: Sequence[Example]) -> list[str]:
    """The questions of forgotten rows, for demonstrations; a bare passage asks nothing."""
    return list(dict.fromkeys(e.question for e in examples if e.question.strip()))


def _fill(text: str, parameter: str, **values: str) -> str:
    try:
        return text.format(**values)
    except (KeyError, IndexError, ValueError) as error:
        known = ", ".join("{" + name + "}" for name in values)
        raise InputError(
            f"Parameter `{parameter}` of the context should use only the fields {known}. "
            f"Found {text!r} ({error!r}); write a literal brace as two."
        ) from error
