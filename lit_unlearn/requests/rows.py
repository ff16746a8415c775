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
from lit_unlearn.requests.earlier import Earlier
from lit_unlearn.requests.given import PASSAGE_WORDS, QUESTIONS, Given, read, ready
from lit_unlearn.requests.languages import language_notes
from lit_unlearn.requests.request import Request
from lit_unlearn.rewriting.backends import Backend, Rules
from lit_unlearn.rewriting.leaks import Forgotten
from lit_unlearn.rewriting.local import LocalModel
from lit_unlearn.rewriting.rewrite import Foresee, RewriteSettings, rewrite
from lit_unlearn.rewriting.source_texts import QA, SourceText
from lit_unlearn.utils.digests import text_digest
from lit_unlearn.utils.ownership import own_folder, write_text
from lit_unlearn.utils.spread import evenly_spread

__all__ = ["EARLIER", "FEW", "NOTES", "ROW_FILES", "RequestRows"]
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
EARLIER = "earlier"
"""Name of a further one, if rows of earlier requests join."""


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
    earlier: Sequence[QA] = ()
    """Questions of earlier requests."""


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
        forgotten=[*_subjects(request), *given.earlier.subjects],
    )
    for file, lines in given.unwritten.items():
        write_text(Path(file), lines)
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
    earlier = _joining(given.earlier, unique, notes)
    gone = [*unique, *given.earlier.asked], [*_subjects(request), *given.earlier.subjects]
    if len(unique) < len(forget):
        notes.append(
            f"{len(forget) - len(unique)} repeated questions to forget count once, with the first "
            "of their answers. Give further answers as `accepted`."
        )
    trained, held = _split(unique, request.seed)
    if not held:
        notes.append(
            f"No question is held out, as there are {FEW} or fewer (found: {len(trained)}). The "
            "battery asks the trained ones, in their words and in others. It does not show "
            "whether anything else about the subject is forgotten."
        )
    notes += language_notes(unique)
    if given.neighbors:
        near = _given(given.neighbors, "neighbors", request, given.earlier, notes)
    else:
        anchors = _harmless(anchors, given.earlier.asked, given.earlier.subjects)
        near = anchors, _harmless(ready(read(_builtin("eval", "neighbor"))), *gone)
        notes.append(
            "No neighbours were given: questions about European countries that come with "
            "the package take their place. Give `keep.neighbors` of the same form and "
            "language to see what is lost near the forgotten."
        )
    if given.general:
        general = _given(given.general, "general", request, given.earlier, notes)
    else:
        sources = _builtin("train", "general", "instructions"), _builtin("eval", "general")
        train, asked = (_harmless(ready(read(each)), *gone) for each in sources)
        general = train, asked
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
    kept = near[0] or general[0], general[0] or near[0]
    return RequestRows(trained, *kept, battery, notes, earlier)


def _joining(earlier: Earlier, forget: Sequence[QA], notes: list[str]) -> list[QA]:
    """Return the rows of earlier requests, without questions that this one has itself."""
    if earlier.apart:
        notes.append(
            f"Requests of the ledger that did not lead to this model: {', '.join(earlier.apart)}. "
            "Their rows do not join. If the model was changed since, name their folders as "
            "`earlier`."
        )
    if not earlier.ids:
        return []
    own, rows = {normalise(row.question) for row in forget}, _unique(earlier.trained)
    joining = [row for row in rows if normalise(row.question) not in own]
    repeated = f", without {len(rows) - len(joining)} that this request has itself"
    notes.append(
        f"Questions of earlier requests that join the training: {len(joining)} "
        f"({', '.join(earlier.ids)}){repeated * (joining != rows)}. Rows to keep with their "
        "subjects or answers are left out."
    )
    return joining


def _subjects(request: Request) -> list[str]:
    return [request.forget.subject] if request.forget.subject else []


def _given(
    texts: Sequence[SourceText], name: str, request: Request, earlier: Earlier, notes: list[str]
) -> tuple[list[QA], list[QA]]:
    """Return given rows for training and for the battery, without those with the subject."""
    rows = _unique(ready(texts))
    # not by their names: notes become a part of the dossier
    barred = {
        "the subject": Forgotten((), _subjects(request)),
        "a subject or an answer of an earlier request": earlier.answers,
    }
    for what, gone in barred.items():
        clean = [row for row in rows if not gone.problem(row, _NONE)]
        if len(clean) < len(rows):
            notes.append(
                f"{len(rows) - len(clean)} of the rows of `keep.{name}` were left out, as they "
                f"contain {what}."
            )
        rows = clean
    trained, held = _split(rows, request.seed)
    if trained and not held:
        notes.append(
            f"No row of `keep.{name}` is held out, as there are few (found: {len(trained)}): the "
            "battery asks the trained ones."
        )
    return trained, held or trained


def _harmless(rows: Sequence[QA], forget: Sequence[QA], subjects: Sequence[str]) -> list[QA]:
    """Return the rows that contain no answer to be forgotten."""
    asked, forgotten = {normalise(row.question) for row in forget}, Forgotten(forget, subjects)
    return [
        row
        for row in rows
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
        if rows.earlier:
            (made / f"{EARLIER}.jsonl").write_text(qa_lines(rows.earlier), "utf-8")
        (made / NOTES).write_text("".join(f"{note}\n" for note in rows.notes), "utf-8")


def read_notes(folder: Path) -> list[str]:
    """Return the notes about rows that `write_rows` wrote."""
    return (folder / NOTES).read_text("utf-8").splitlines()
