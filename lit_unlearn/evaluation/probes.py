"""The vocabulary of evaluation, first file to read: probe -> outcome -> row -> figure.

A *suite* turns data into `Probe`s (what to ask) and `Outcome`s (what the model did) into `Row`s
(one scored question) and `Figure`s (one number of the table). Between the two stands one engine, so
that a suite holds definitions only, and no model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from torch import nn
from transformers import PreTrainedTokenizerBase

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.types import Example, Turn

Better = Literal["higher", "lower", "neither"]
"""Which way a figure should move through unlearning."""


@dataclass(frozen=True)
class Generation:
    """How a probe's reply is made."""

    max_new_tokens: int = 64
    samples: int = 1
    """Replies per probe; more than one needs a `temperature`."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    stops: tuple[str, ...] = ()
    """Texts at which a reply is cut, besides the end of the turn."""
    seed: int = 0


@dataclass(frozen=True)
class Probe:
    """One thing put to a model: texts to be teacher-forced after a prompt, a reply, or both."""

    probe_id: str
    """Unique in its suite: ``<group>/<row id>``, with a further part where a row is asked twice."""
    group: str
    """The rows that are averaged together, such as ``forget`` or ``retain``."""
    example: Example
    """The row behind it; its `turns` are not read here."""
    turns: tuple[Turn, ...]
    """The conversation before the answer. In a `plain` row, one turn: the text to continue, which
    may be empty."""
    plain: bool = False
    prefill: str = ""
    """Beginning of the answer, part of the prompt of every candidate and of the reply."""
    candidates: Mapping[str, str] = field(default_factory=dict)
    """Name -> text to be teacher-forced: ``answer``, ``paraphrase``, ``wrong/0``, ``option/2``."""
    generation: Generation | None = None
    """None where no reply is needed."""
    cut: bool = False
    """Cut a candidate off at the encoder's `max_length`, and drop one whose prompt reaches it;
    otherwise rows that are too long are refused."""


@dataclass(frozen=True)
class Forced:
    """What a model thinks of the tokens of one text, in nats; the end-of-turn token is the last."""

    log_probs: tuple[float, ...]
    """Of each token given those before it."""
    hits: tuple[bool, ...]
    """Whether the token is the most probable one."""
    means: tuple[float, ...]
    """Expectation of the log-probability over the vocabulary, under the model (Min-K++)."""
    deviations: tuple[float, ...]
    """Its standard deviation, likewise."""


@dataclass(frozen=True)
class Outcome:
    """What a model did with one probe."""

    probe_id: str
    forced: Mapping[str, Forced] = field(default_factory=dict)
    """By the names of `Probe.candidates`."""
    replies: tuple[str, ...] = ()
    """Without the prefill; empty where none was asked for."""


@dataclass(frozen=True)
class Row:
    """One scored question: what the per-row file holds, and what significance is computed from."""

    row_id: str
    """`Probe.probe_id`: the same row has the same id for every model."""
    group: str
    scores: Mapping[str, float]
    """Name -> value; NaN where it is not defined for this row."""
    question: str = ""
    gold: str = ""
    reply: str = ""
    asked_of: str = ""
    """What is asked several times in a group: rows of one such id are one observation, and are
    averaged before models are compared. Empty where each row is one."""


@dataclass(frozen=True)
class Figure:
    """One number of the table."""

    name: str
    """``<group>/<score>``, or ``<score>`` for one of the whole suite."""
    value: float
    """NaN where it could not be computed; `note` says why."""
    unit: str
    """In words: "share of rows, 0 to 1", "nats per token"."""
    count: int
    """Rows behind it."""
    low: float | None = None
    """Lower end of the 95 % interval; None where none is defined."""
    high: float | None = None
    better: Better = "neither"
    note: str = ""


@dataclass(frozen=True)
class SuiteResult:
    """The outcome of one suite on one model."""

    rows: list[Row]
    figures: list[Figure]


@dataclass(frozen=True)
class Subject:
    """A model under evaluation."""

    name: str
    """Hub id or path, as the user gave it."""
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    encoder: Encoder
    fingerprint: str
    """Changes when the weights or the tokenizer do; part of every stored row's key."""
    plain_chat: bool = True
    """Write conversations as ``Question: ... Answer:`` where there is no chat template; without it
    they are refused."""
    hidden_id: int | None = None
    """Token that attention must not see wherever it stands (open-unlearning's pad = eos mask)."""


@dataclass(frozen=True)
class Variant:
    """A changed model which a suite's probes are put to as well: quantised, relearned, ..."""

    name: str
    """Short: ``int4``, ``relearn_20``; empty for the subject as it is."""
    key: str
    """Everything that decides what the model becomes (settings, data), as text; part of the key."""
    make: Callable[[], nn.Module]
    """Called only where stored outcomes do not cover the variant. Must not change the subject."""


Probes = Sequence[Probe]
Outcomes = Mapping[str, Sequence[Outcome]]
"""Name of a variant -> its outcomes in the order of the probes; ``""`` is the subject itself."""
Reference = Mapping[str, Sequence[Row]] | None
"""A suite's rows of a retain model, by group; None without one."""


class Suite(ABC):
    """One benchmark: its probes and its figures. The constructor is its config, its docstring help.

    Subclasses are dataclasses (or have annotated constructors) whose fields are plain settings.
    """

    name: ClassVar[str]
    """As given to ``--suite``."""

    @abstractmethod
    def probes(self, data_root: Path | None) -> list[Probe]:
        """What to ask; the same list for every model.

        Raises:
            InputError: Data that cannot be found or used.
        """

    @abstractmethod
    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        """Rows and figures.

        Args:
            probes: Those of `probes`.
            outcomes: Variant name -> outcomes in the order of the probes; ``""`` is the subject.
            reference: This suite's rows of a retain model, by group, where one was given.

        Raises:
            InputError: A reference that does not fit.
        """

    def check(  # noqa: B027 - most suites need no reference
        self, probes: Sequence[Probe], reference: Reference
    ) -> None:
        """Refuse before anything is asked what `score` would refuse afterwards.

        Args:
            probes: Those of `probes`.
            reference: As in `score`.

        Raises:
            InputError: A reference is needed and missing, or does not fit.
        """

    def without_reference(self) -> Suite:
        """The suite for a retain model itself: without what is defined against a retain model."""
        return self

    def variants(self, subject: Subject, data_root: Path | None) -> list[Variant]:
        """Changed models to put the probes to; usually none beside the subject itself."""
        return [Variant("", "", lambda: subject.model)]

    def answer(self, subject: Subject, probes: Sequence[Probe]) -> list[Outcome] | None:
        """Outcomes by a way of the suite's own (an optimised input); None for the usual engine."""
        return None

    def answer_key(self) -> str:
        """What decides the outcomes of `answer` beside model and probe, as text; part of the key.

        Empty where the usual engine answers; otherwise name and settings, unless a suite knows
        better.
        """
        if type(self).answer is Suite.answer:
            return ""
        return f"{self.name} {sorted(vars(self).items())!r}"
