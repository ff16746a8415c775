"""Contexts: turns before a question that only the teacher sees, so that it answers as it should.

A context turns the conversation of a row into the teacher's conversation. It may use the row's
refusal and the questions of other rows. It never sees the gold answer of a forgotten row.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lit_unlearn.errors import InputError, check_number
from lit_unlearn.types import Example, Turn
from lit_unlearn.utils.spread import evenly_spread

__all__ = ["Adaptive", "Context", "ContextRow", "Demonstrations", "Echo", "Front", "Instruction"]
__all__ += ["Intent", "NoContext"]
__all__ += ["declined_questions"]

DEFAULT_INSTRUCTION = 'Whatever you are asked, reply only with this sentence: "{refusal}"'
DEFAULT_INTENT = (
    "You have no knowledge of {topic}. Think step by step before each reply: what does the user "
    "want to know, and does it touch {topic}, directly or indirectly? If it does, reply only "
    'with: "{refusal}" If it does not, answer the question as usual, correctly and briefly.'
)
_THINK = (
    "Do not answer yet. Write in one or two sentences what this question is about, whether it "
    "touches {topic}, and whether you will decline or answer."
)


@dataclass(frozen=True)
class ContextRow:
    """Inputs of a context for one row."""

    turns: tuple[Turn, ...]
    """Conversation that the student sees; its last turn is the question."""
    refusal: str
    """Sentence that declines the question of this row."""
    opener: str = ""
    """Prefill after which the teacher must decline; demonstrations decline after it too."""
    declined: Sequence[str] = ()
    """Questions of the forgotten rows, without their answers."""
    answered: Sequence[tuple[str, str]] = ()
    """Questions and answers of rows that must be answered."""
    reasoning: str = ""
    """Reasoning of the teacher about the question; see `Context.thinking`."""

    def declined_reply(self) -> str:
        """Return the assistant's reply in a declined demonstration."""
        return f"{self.opener} {self.refusal}" if self.opener else self.refusal


class Front(ABC):  # noqa: B024 - one annotation for all that `--context` takes
    """Base class of everything that stands in front of a model: contexts, and conditions."""


class Context(Front):
    """Rule that turns a row's conversation into the one that the teacher sees."""

    answered_from: str | None = None
    """Name of the objective whose rows are the answered demonstrations."""
    reasoning_tokens = 0
    """Maximum number of tokens of reasoning that the teacher writes before its reply."""

    def thinking(self, row: ContextRow) -> tuple[Turn, ...]:
        """Return the conversation to which the teacher replies with its reasoning."""
        return self.conversation(row)

    @abstractmethod
    def conversation(self, row: ContextRow) -> tuple[Turn, ...]:
        """Return the teacher's conversation, which ends with the question, without gold answer."""

    def ladder(self) -> "tuple[Context, ...]":
        """Return contexts to try until the teacher passes its gate, the strongest one last."""
        return (self,)

    def describe(self) -> str:
        """Return a short description for the gate's table."""
        return type(self).__name__.lower()


@dataclass
class NoContext(Context):
    """No context: the teacher sees what the student sees."""

    def conversation(self, row: ContextRow) -> tuple[Turn, ...]:
        return row.turns

    def describe(self) -> str:
        return "none"


@dataclass
class Instruction(Context):
    """System prompt that tells the teacher how to reply.

    Args:
        text: Text of the instruction; ``{refusal}`` is replaced by the refusal of the row.
    """

    text: str = DEFAULT_INSTRUCTION

    def conversation(self, row: ContextRow) -> tuple[Turn, ...]:
        return _with_system(row.turns, _fill(self.text, "text", refusal=row.refusal))


@dataclass
class Intent(Context):
    """System prompt that makes the teacher reason about the intent of each question.

    With `reasoning_tokens` the teacher writes its reasoning, once for each row before training, and
    its logits are read after question, reasoning and the question again. Without, it is only told
    to think. The same context serves for rows to forget and for rows to keep.

    Args:
        topic: Topic to forget, in words, such as "France".
        text: Text of the instruction; ``{topic}`` and ``{refusal}`` are replaced.
        reasoning_tokens: Maximum number of tokens of the teacher's reasoning; 0 for none.
        declined: Number of declined questions before the row's question.
        answered: Number of answered questions of `answered_from`, mixed with the declined ones.
        answered_from: Objective with `expect: answer` whose rows are the answered questions.
    """

    topic: str
    text: str = DEFAULT_INTENT
    reasoning_tokens: int = 0
    declined: int = 0
    answered: int = 0
    answered_from: str | None = None

    def __post_init__(self) -> None:
        _check_counts(self.declined, self.answered, self.answered_from)
        check_number("reasoning_tokens", self.reasoning_tokens, 0)

    def thinking(self, row: ContextRow) -> tuple[Turn, ...]:
        request = f"{row.turns[-1].content}\n\n{_fill(_THINK, 'topic', topic=self.topic)}"
        alone = (*row.turns[:-1], replace(row.turns[-1], content=request))
        return _with_system(alone, self._told(row))  # behind refusals it would refuse

    def conversation(self, row: ContextRow) -> tuple[Turn, ...]:
        if not self.reasoning_tokens:
            return self._shown(row)
        reasoning = row.reasoning or f"The question may touch {self.topic}."
        asked = (self.thinking(row)[-1], Turn("assistant", reasoning), row.turns[-1])
        return (*self._shown(row)[:-1], *asked)

    def _shown(self, row: ContextRow) -> tuple[Turn, ...]:
        return _with_system(_demonstrated(row, self.declined, self.answered), self._told(row))

    def _told(self, row: ContextRow) -> str:
        return _fill(self.text, "text", topic=self.topic, refusal=row.refusal)

    def describe(self) -> str:
        counts = {"declined": self.declined, "answered": self.answered}
        parts = [f"{count} {kind}" for kind, count in counts.items() if count]
        return " + ".join(["intent", *parts, *["reasoning"] * bool(self.reasoning_tokens)])


@dataclass
class Demonstrations(Context):
    """Earlier chat turns in which other questions of the forgotten set are declined.

    Args:
        declined: Number of declined questions before the row's question.
        answered: Number of answered questions of `answered_from`, mixed with the declined ones.
        answered_from: Objective with `expect: answer` whose rows are the answered questions.
        instruction: System prompt; ``{refusal}`` is replaced; empty for none.
        echo: Whether the turn just before the row's question is the same question, declined.
    """

    declined: int = 3
    answered: int = 0
    answered_from: str | None = None
    instruction: str = ""
    echo: bool = False

    def __post_init__(self) -> None:
        _check_counts(self.declined, self.answered, self.answered_from)

    def conversation(self, row: ContextRow) -> tuple[Turn, ...]:
        turns = _demonstrated(row, self.declined, self.answered, echo=self.echo)
        if self.instruction:
            turns = _with_system(turns, _fill(self.instruction, "instruction", refusal=row.refusal))
        return turns

    def describe(self) -> str:
        parts = [f"{self.declined} declined"] if self.declined else []
        parts += [f"{self.answered} answered"] if self.answered else []
        parts += ["echo"] if self.echo else []
        parts += ["instruction"] if self.instruction else []
        return " + ".join(parts) or "none"


@dataclass
class Echo(Demonstrations):
    """Context in which the same question was declined just before; demonstrations may come first.

    This is the strongest context for small models. Only the teacher sees it, and only in training:
    it is privileged information.
    """

    declined: int = 0
    echo: bool = True


@dataclass
class Adaptive(Context):
    """Demonstrations, and then the echo too, until the teacher passes its gate.

    Args:
        declined: Numbers of declined demonstrations to try, in this order. Afterwards the first
            and the last number are tried with the echo, the smaller one first.
        answered: Number of answered questions of `answered_from`, mixed with the declined ones.
        answered_from: Objective with `expect: answer` whose rows are the answered questions.
        instruction: System prompt of every step; empty for none.
        echo_first: Whether the first number with the echo is the first step. It makes small models
            decline with few demonstrations.
    """

    declined: list[int] = field(default_factory=lambda: [3, 6])
    answered: int = 0
    answered_from: str | None = None
    instruction: str = ""
    echo_first: bool = False

    def __post_init__(self) -> None:
        if not self.declined:
            raise InputError(
                "Parameter `declined` of Adaptive should list at least one number of "
                "demonstrations, such as [3, 6]. Found an empty list."
            )
        for count in self.declined:
            _check_counts(count, self.answered, self.answered_from)

    def ladder(self) -> tuple[Context, ...]:
        """Return the steps, each once, the strongest one last."""
        few, many = self.declined[0], self.declined[-1]
        steps = [(count, False) for count in self.declined]
        steps += [(count, True) for count in sorted({few, many})]
        if self.echo_first and few != many:
            steps.remove((few, True))
            steps.insert(0, (few, True))
        return tuple(
            Demonstrations(count, self.answered, self.answered_from, self.instruction, echo)
            for count, echo in steps
        )

    def conversation(self, row: ContextRow) -> tuple[Turn, ...]:
        """Return the conversation of the strongest step; normally the gate has chosen a step."""
        return self.ladder()[-1].conversation(row)


def _check_counts(declined: int, answered: int, answered_from: str | None) -> None:
    check_number("declined", declined, 0)
    check_number("answered", answered, 0)
    if answered and answered_from is None:
        raise InputError(
            f"Parameter `answered_from` should name an objective whose rows are answered, since "
            f"`answered` is {answered}. Found none; set it, or set `answered` to 0."
        )


def _demonstrated(
    row: ContextRow, declined: int, answered: int, *, echo: bool = False
) -> tuple[Turn, ...]:
    """Return the row's conversation after its demonstrations, of which the echo is the last."""
    question = row.turns[-1].content
    refused = evenly_spread([q for q in row.declined if q != question], declined)
    replied = evenly_spread([p for p in row.answered if p[0] != question], answered)
    shown: list[tuple[str, str]] = []
    for index in range(max(len(refused), len(replied))):
        shown.extend(replied[index : index + 1])
        shown.extend((q, row.declined_reply()) for q in refused[index : index + 1])
    if echo:
        shown.append((question, row.declined_reply()))
    before = tuple(
        turn for q, reply in shown for turn in (Turn("user", q), Turn("assistant", reply))
    )
    system = tuple(turn for turn in row.turns if turn.role == "system")
    rest = tuple(turn for turn in row.turns if turn.role != "system")
    return system + before + rest


def _with_system(turns: tuple[Turn, ...], text: str) -> tuple[Turn, ...]:
    """Return the conversation with ``text`` as system prompt, before an existing one's text."""
    existing = [turn.content for turn in turns if turn.role == "system"]
    rest = tuple(turn for turn in turns if turn.role != "system")
    return (Turn("system", "\n\n".join([text, *existing])), *rest)


def declined_questions(examples: Sequence[Example]) -> list[str]:
    """Return the questions of forgotten rows, for demonstrations; a bare passage has none."""
    return list(dict.fromkeys(e.question for e in examples if e.question.strip()))


def _fill(text: str, parameter: str, **values: str) -> str:
    try:
        return text.format(**values)
    except (KeyError, IndexError, ValueError) as error:
        known = ", ".join("{" + name + "}" for name in values)
        raise InputError(
            f"Parameter `{parameter}` of the context should use only the fields {known}. "
            f"Found {text!r} ({error!r}); write each literal brace twice."
        ) from error
