"""Rows of a request: questions to forget and to keep, and their division into training and battery.

Questions come from the given rows and texts; neighbours are given, or chosen or written by
`rewriting`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from lit_unlearn.data.duplicates import normalise
from lit_unlearn.data.prefills import read_openers
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.requests.battery import Battery, qa_lines
from lit_unlearn.requests.given import PASSAGE_WORDS, QUESTIONS, Given, read, ready
from lit_unlearn.requests.request import Request
from lit_unlearn.rewriting.backends import Backend, Rules
from lit_unlearn.rewriting.leaks import Forgotten
from lit_unlearn.rewriting.local import LocalModel
from lit_unlearn.rewriting.rewrite import Foresee, RewriteSettings, rewrite
from lit_unlearn.rewriting.source_texts import QA, SourceText
from lit_unlearn.utils.digests import text_digest
from lit_unlearn.utils.ownership import own_folder
from lit_unlearn.utils.spread import evenly_spread

__all__ = ["FEW", "NOTES", "ROW_FILES", "RequestRows"]
__all__ += ["divide", "make_rows", "read_notes", "write_rows"]

FEW = 8
"""Largest number of questions of which none is held out."""
ASKED = 40
"""Largest number of questions of each group of the battery."""
_HELD_OUT = 0.25
_ANCHORS, _WANTED, _MOST = 4, 160, 20
"""Neighbours of each question to forget; more for few questions, so that there are enough."""
_OPENERS = 3
_REWORDINGS = (
    "A friend wants to know: {question}",
    "{question} Please answer in one sentence.",
    "Do you happen to know this? {question}",
    "I have one question for you. {question}",
)
_NONE = QA("", "")
NOTES = "notes.txt"
ROW_FILES = ("forget", "neighbor", "general")
"""Names of the files with rows for training, without their suffix."""


def _builtin(split: str, *names: str) -> list[Source]:
    return [Source(f"builtin:{name}", split=split) for name in names]


@dataclass(frozen=True)
class RequestRows:
    """Questions for training and for the battery."""

    forget: Sequence[QA]
    neighbor: Sequence[QA]
    general: Sequence[QA]
    battery: Battery
    notes: Sequence[str] = field(default_factory=list)
    """Sentences for the user about rows that were left out, and about few rows."""


def make_rows(
    request: Request,
    given: Given,
    folder: Path,
    console: Console | None = None,
    foresee: Foresee | None = None,
) -> RequestRows:
    """Make all rows of a request.

    Args:
        request: The request.
        given: Its rows.
        folder: Folder of `rewrite`, in which a stopped writer resumes.
        console: Console for the progress; None shows nothing.
        foresee: See `rewrite`.

    Raises:
        InputError: No question can be made, or the writer cannot be used.
    """
    count = max(sum(len(text.ready) for text in given.forget), 1)
    anchors = min(_MOST, max(_ANCHORS, -(-_WANTED // count)))
    settings = RewriteSettings(
        backend=_writer(request),
        forget=list(given.sources),
        keep=[] if given.neighbors else _builtin("train", "neighbor", "general"),
        output=folder,
        questions=QUESTIONS,
        passage_words=PASSAGE_WORDS,
        anchors=0 if given.neighbors else anchors,
        forgotten=[request.forget.subject] if request.forget.subject else [],
    )
    made = rewrite(settings, console, foresee)
    # a question that was given counts even if a rule finds it unclear
    kept = [
        c.qa
        for c in made.candidates
        if c.part == "forget"
        if c.is_accepted or c.made.by == "source"
    ]
    if not kept:
        raise InputError(
            "Parameter `forget` should have rows of which questions can be made. Found none in "
            f"{len(given.forget)} texts ({folder / 'rejected.jsonl'} says why); give `questions`, "
            "or a `writer`."
        )
    anchored = [c.qa for c in made.accepted("anchors")]
    return divide(request, kept, anchored, given)


def _writer(request: Request) -> Backend:
    return Rules() if request.writer is None else LocalModel(request.writer, dtype="auto")


def divide(
    request: Request, forget: Sequence[QA], anchors: Sequence[QA], given: Given
) -> RequestRows:
    """Divide the questions of a request into those for training and those for the battery.

    Args:
        request: The request.
        forget: Questions to forget; repeated ones count once.
        anchors: Neighbours that were chosen or written, if none are given.
        given: The rows of the request.
    """
    unique, notes = _unique(forget), list[str]()
    if len(unique) < len(forget):
        notes.append(
            f"{len(forget) - len(unique)} repeated questions to forget count once, with the first "
            "of their answers. Give further answers as `accepted`."
        )
    trained, held = _split(unique, request.seed)
    if not held:
        notes.append(
            f"With {len(trained)} questions ({FEW} or fewer) none is held out: the battery asks "
            "the trained ones, in their words and in others. It does not show whether anything "
            "else about the subject is forgotten."
        )
    if given.neighbors:
        near = _given(given.neighbors, "neighbors", request, notes)
    else:
        near = list(anchors), _harmless(_builtin("eval", "neighbor"), unique, request)
        notes.append(
            "No neighbours were given: questions about European countries that come with "
            "the package take their place. Give `keep.neighbors` of the same form and "
            "language to see what is lost near the forgotten."
        )
    if given.general:
        general = _given(given.general, "general", request, notes)
    else:
        train = _builtin("train", "general", "instructions")
        general = (
            _harmless(train, unique, request),
            _harmless(_builtin("eval", "general"), unique, request),
        )
    if not near[0] and not general[0]:
        raise InputError(
            "Parameter `keep` should have rows that do not contain the subject to be forgotten. "
            f"Found none of {len(given.neighbors) + len(given.general)}; add others."
        )
    shown = evenly_spread(trained, ASKED)
    battery = Battery(
        forget=evenly_spread(held or trained, ASKED),
        trained=shown,
        reworded=[_reworded(row, number) for number, row in enumerate(shown)],
        neighbor=evenly_spread(near[1], ASKED),
        general=evenly_spread(general[1], ASKED),
        prefills=evenly_spread(read_openers("builtin:eval"), _OPENERS),
    )
    return RequestRows(trained, near[0] or general[0], general[0] or near[0], battery, notes)


def _given(
    texts: Sequence[SourceText], name: str, request: Request, notes: list[str]
) -> tuple[list[QA], list[QA]]:
    """Return given rows for training and for the battery, without those with the subject."""
    rows, subject = _unique(ready(texts)), request.forget.subject
    named = Forgotten((), [subject] if subject else [])
    clean = [row for row in rows if not named.problem(row, _NONE)]
    if len(clean) < len(rows):
        notes.append(
            f"{len(rows) - len(clean)} of the rows of `keep.{name}` were left out, as they contain "
            "the subject."  # not its name: notes become a part of the dossier
        )
    trained, held = _split(clean, request.seed)
    if trained and not held:
        notes.append(
            f"With {len(trained)} rows of `keep.{name}` the battery asks the trained ones."
        )
    return trained, held or trained


def _harmless(sources: Sequence[Source], forget: Sequence[QA], request: Request) -> list[QA]:
    """Return the rows of built-in sets that contain no answer to be forgotten."""
    subject, asked = request.forget.subject, {normalise(row.question) for row in forget}
    forgotten = Forgotten(forget, [subject] if subject else [])
    return [
        row
        for row in ready(read(sources))
        if normalise(row.question) not in asked and not forgotten.problem(row, _NONE)
    ]


def _unique(rows: Iterable[QA]) -> list[QA]:
    return list({normalise(row.question): row for row in reversed(list(rows))}.values())[::-1]


def _split(rows: Sequence[QA], seed: int) -> tuple[list[QA], list[QA]]:
    """Return rows for training and held-out ones, by the seed and the questions alone."""
    if len(rows) <= FEW:
        return list(rows), []
    count = min(round(_HELD_OUT * len(rows)), ASKED)
    order = sorted(rows, key=lambda row: text_digest(f"{seed} {normalise(row.question)}"))
    held = {row.question for row in order[:count]}
    return (
        [row for row in rows if row.question not in held],
        [row for row in rows if row.question in held],
    )


def _reworded(row: QA, number: int) -> QA:
    template = _REWORDINGS[number % len(_REWORDINGS)]
    return replace(row, question=template.replace("{question}", row.question))


def write_rows(folder: Path, rows: RequestRows) -> None:
    """Write the rows for training, and the notes; replaces what the package wrote earlier."""
    with own_folder(folder) as made:
        for name in ROW_FILES:
            (made / f"{name}.jsonl").write_text(qa_lines(getattr(rows, name)), "utf-8")
        (made / NOTES).write_text("".join(f"{note}\n" for note in rows.notes), "utf-8")


def read_notes(folder: Path) -> list[str]:
    """Return the notes about rows that `write_rows` wrote."""
    return (folder / NOTES).read_text("utf-8").splitlines()
