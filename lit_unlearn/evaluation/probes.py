"""The types of evaluation: probe -> outcome -> row -> figure. Read this file first.

A suite turns data into probes, and outcomes into rows and figures. The engine turns probes into
outcomes; a suite therefore holds no model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import nn
from transformers import PreTrainedTokenizerBase

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.types import Example, Turn

if TYPE_CHECKING:
    from lit_unlearn.evaluation.conditions import Condition

__all__ = [
    "Better",
    "BlockMap",
    "Effort",
    "Figure",
    "Forced",
    "Generation",
    "Outcome",
    "Outcomes",
]
__all__ += ["Probe", "Probes", "Reference", "Row", "Start", "Subject", "Suite", "SuiteResult"]
__all__ += ["Variant"]

Better = Literal["higher", "lower", "neither"]
"""Direction in which unlearning should move a figure."""


@dataclass(frozen=True)
class Generation:
    """Settings of a probe's reply."""

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
    """One question: texts to teacher-force after a prompt, a reply to generate, or both."""

    probe_id: str
    """Id, unique in the suite: ``<group>/<row id>``, and a third part if a row is asked twice."""
    group: str
    """Name of the rows that are averaged together, such as ``forget`` or ``retain``."""
    example: Example
    """Row of the question; the engine does not read its `turns`."""
    turns: tuple[Turn, ...]
    """Conversation before the answer. If the probe is `plain`: one turn, the text to continue,
    which may be empty."""
    plain: bool = False
    prefill: str = ""
    """Beginning of the answer, part of the prompt of every candidate and of the reply."""
    candidates: Mapping[str, str] = field(default_factory=dict)
    """Name -> text to be teacher-forced: ``answer``, ``paraphrase``, ``wrong/0``, ``option/2``."""
    generation: Generation | None = None
    """Settings of the reply; None if the suite needs no reply."""
    cut: bool = False
    """Whether candidates are truncated at the encoder's `max_length`, and dropped if the prompt
    alone reaches it; otherwise rows that are too long are refused."""


@dataclass(frozen=True)
class Forced:
    """Statistics of the tokens of one text, in nats; the last is the end-of-turn token."""

    log_probs: tuple[float, ...]
    """Log-probability of each token, given the previous tokens."""
    hits: tuple[bool, ...]
    """Whether the token is the most probable one."""
    means: tuple[float, ...]
    """Expectation of the log-probability over the vocabulary, under the model (Min-K++)."""
    deviations: tuple[float, ...]
    """Standard deviation of the log-probability over the vocabulary, under the model."""


@dataclass(frozen=True)
class Outcome:
    """Statistics and replies of a model for one probe."""

    probe_id: str
    forced: Mapping[str, Forced] = field(default_factory=dict)
    """Statistics by the names of `Probe.candidates`."""
    replies: tuple[str, ...] = ()
    """Replies without the prefill; empty if the probe asks for none."""
    states: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Hidden states by name; empty if the suite reads none."""


@dataclass(frozen=True)
class Row:
    """One scored question; significance is computed over rows."""

    row_id: str
    """`Probe.probe_id`: the same row has the same id for every model."""
    group: str
    scores: Mapping[str, float]
    """Score -> value; NaN if it is not defined for this row."""
    question: str = ""
    gold: str = ""
    reply: str = ""
    asked_of: str = ""
    """Id of a question that is asked several times in a group; its rows are averaged to one
    observation before models are compared. Empty if each row is an observation."""


@dataclass(frozen=True)
class Figure:
    """One number of the table."""

    name: str
    """``<group>/<score>``, or ``<score>`` for a figure of the whole suite."""
    value: float
    """NaN if it could not be computed; `note` says why."""
    unit: str
    """Unit in words: "share of rows, 0 to 1", "nats per token"."""
    count: int
    """Number of rows from which it is computed."""
    low: float | None = None
    """Lower end of the 95 % interval; None without an interval."""
    high: float | None = None
    better: Better = "neither"
    note: str = ""


@dataclass(frozen=True)
class BlockMap:
    """Means over rows by decoder block, for a picture."""

    unit: str
    blocks: Sequence[int]
    """Numbers of the blocks, counted from 1."""
    values: Sequence[Sequence[float]]
    """``[block][token]``, for the answer's first tokens."""


@dataclass(frozen=True)
class SuiteResult:
    """Rows and figures of one suite on one model."""

    rows: list[Row]
    figures: list[Figure]
    maps: Mapping[str, BlockMap] = field(default_factory=dict)
    """Title of the picture -> map."""


@dataclass(frozen=True)
class Subject:
    """A model under evaluation."""

    name: str
    """Hub id or path, as the user gave it."""
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    encoder: Encoder
    fingerprint: str
    """Text that changes with weights or tokenizer; part of the key of stored outcomes."""
    plain_chat: bool = True
    """Whether conversations are written as ``Question: ... Answer:`` if there is no chat template;
    otherwise they are refused."""
    hidden_id: int | None = None
    """Token that is masked from attention at all positions (open-unlearning's pad = eos mask)."""
    condition: Condition | None = None
    """What stands in front of the model; None for nothing. The fingerprint contains its key."""


@dataclass(frozen=True)
class Start:
    """The start model of an evaluation, for suites that read it beside the evaluated model."""

    name: str
    """Name as in `Subject`."""
    key: Callable[[], str]
    """Function that returns a text which changes with the weights."""
    load: Callable[[], Subject]
    """Function that returns the model; the first call loads it."""


@dataclass(frozen=True)
class Variant:
    """A changed model that also answers a suite's probes: quantised, relearned, ..."""

    name: str
    """Short name, ``int4`` or ``relearn_20``; empty for the unchanged subject."""
    key: str
    """Text of the settings and data of the change; part of the key of stored outcomes."""
    make: Callable[[], nn.Module]
    """Function that returns the model without changing the subject; called only if an outcome is
    not stored."""


@dataclass(frozen=True)
class Effort:
    """The work of a suite, for a forecast of its time."""

    models: int = 1
    """Number of models that answer all probes: the subject and its variants."""
    rows: float = 0.0
    """Additional rows that pass through a model; a backward pass counts as two."""


Probes = Sequence[Probe]
Outcomes = Mapping[str, Sequence[Outcome]]
"""Name of a variant -> its outcomes in the order of the probes; ``""`` is the subject."""
Reference = Mapping[str, Sequence[Row]] | None
"""Rows of a suite on a retain model, by group; None without a retain model."""


class Suite(ABC):
    """One benchmark or attack: its probes and its figures.

    Subclasses are dataclasses (or have annotated constructors) whose fields are plain settings: the
    constructor is the config, and its docstring the help.
    """

    name: ClassVar[str]
    """Name for ``--suite``."""
    takes_condition: ClassVar[bool] = True
    """Whether a `Condition` can stand before its questions."""

    def forgets(self, group: str) -> bool:
        """Return whether the rows of a group should be forgotten; all of them by default."""
        return True

    @abstractmethod
    def probes(self, data_root: Path | None) -> list[Probe]:
        """Return the probes, the same for every model; refuse data that cannot be found or used."""

    @abstractmethod
    def score(self, probes: Probes, outcomes: Outcomes, reference: Reference = None) -> SuiteResult:
        """Return the rows and figures of all probes of the suite, or of some rows' probes.

        `reference` holds the rows of a retain model; it is refused if they are not the same rows.
        """

    def check(  # noqa: B027 - most suites need no reference
        self, probes: Sequence[Probe], reference: Reference
    ) -> None:
        """Refuse a reference that `score` would refuse or miss; called before any model is run."""

    def without_reference(self) -> Suite:
        """Return the suite for a retain model, without figures that are defined against one."""
        return self

    def with_start(self, start: Start) -> Suite:
        """Return the suite with the start model; most suites do not need it."""
        return self

    def variants(self, subject: Subject, data_root: Path | None) -> list[Variant]:
        """Return the models that answer the probes; usually the subject alone."""
        return [Variant("", "", lambda: subject.model)]

    def effort(self, probes: Probes) -> Effort | None:
        """Return the work of the suite; None if its `answer` does unknown work."""
        return None if type(self).answer is not Suite.answer and self.answer_key() else Effort()

    def answer(self, subject: Subject, probes: Probes) -> list[Outcome] | None:
        """Return outcomes that the suite computes (for an optimised input); None for the engine."""
        return None

    def answer_key(self) -> str:
        """Return what `answer` depends on besides model and probe; part of the outcome's key.

        The default is empty if the engine answers, and otherwise the name and the settings.
        """
        if type(self).answer is Suite.answer:
            return ""
        return f"{self.name} {sorted(vars(self).items())!r}"
