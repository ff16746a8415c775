"""Earlier requests: their rows join the training of a later one, which must not teach them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from lit_unlearn.data.duplicates import normalise
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.models.finding import fingerprint
from lit_unlearn.requests.ledger import LedgerEntry, latest, read_ledger, request_folder
from lit_unlearn.requests.request import Request
from lit_unlearn.requests.verify import manifest_or_problem
from lit_unlearn.rewriting.leaks import Forgotten
from lit_unlearn.rewriting.source_texts import QA, read_texts
from lit_unlearn.utils.digests import file_digest, json_digest
from lit_unlearn.utils.paths import local_path

__all__ = ["Earlier", "ancestors", "read_earlier"]

_READ = ("request.yaml", "rows/forget.jsonl", "battery/forget.jsonl")
"""Files of an earlier request's folder that a later request reads."""


@dataclass(frozen=True)
class Earlier:
    """Content of the earlier requests that join a later one."""

    ids: Sequence[str] = ()
    trained: Sequence[QA] = ()
    """Questions that they trained; these are the rows that join."""
    held_out: Sequence[QA] = ()
    """Questions that they only asked."""
    subjects: Sequence[str] = ()
    digest: str = ""
    """SHA-256 of all of this; empty without an earlier request."""
    apart: Sequence[str] = ()
    """Ids of the ledger's other requests; a model that was changed since does not show its line."""
    start: str = ""
    """Model from before the first of them; empty if it is not there any more, or was changed."""

    @property
    def about_teacher(self) -> str:
        """Note about the teacher of the request that they join."""
        first = f"model from before request {self.ids[0]}"
        if self.start:
            return f"The teacher is the {first} ({self.start}), which has what must stay unharmed."
        return (
            f"The teacher is this request's start model, as the {first} is not there unchanged. If "
            "you have it, name it as `teacher`: it has what must stay unharmed."
        )

    @property
    def asked(self) -> list[QA]:
        """All questions."""
        return [*self.trained, *self.held_out]

    @property
    def questions(self) -> set[str]:
        """The normalised texts of all questions."""
        return {normalise(row.question) for row in self.asked}

    @property
    def answers(self) -> Forgotten:
        """The subjects and whole answers, which no row to keep may contain.

        Single words of an answer count only if they are accepted spellings. So rows that a user
        gave are left out for a reason that the user can see.
        """
        whole = [replace(r, accepted=r.accepted or (r.answer.strip(" .!?"),)) for r in self.asked]
        return Forgotten(whole, list(self.subjects))


def read_earlier(request: Request, own: Path) -> Earlier:
    """Return what joins from the earlier requests that a request names, or that its ledger has.

    Args:
        request: The request.
        own: Its folder.

    Raises:
        InputError: The folder of an earlier request is missing, was changed, or is `own`.
    """
    known = _of_ledger(request)
    line = ancestors(known, fingerprint(request.model)) if known else []
    folders = {local_path(each): "" for each in request.earlier or ()}
    folders |= {request_folder(str(request.ledger), each): each.manifest for each in line}
    manifests = []
    for folder, digest in folders.items():
        if folder.resolve() == own.resolve():
            raise InputError(
                f"Parameter `earlier` should name folders of other requests. Found {folder}, which "
                "is this request's own; remove it."
            )
        problem = manifest_or_problem(folder, _READ, digest or None)
        if isinstance(problem, str):
            why = "the ledger names it" if digest else "`earlier` names it"
            left = "`earlier: []`" if len(folders) == 1 else "`earlier` to the other folders"
            raise InputError(
                f"Folder {folder} should hold an earlier request as it was written ({why}). "
                f"Found: {problem.rstrip('.')}. Restore it from a copy; or set {left}, but then "
                "nothing in this training keeps that request forgotten."
            )
        manifests.append(problem)
    ids = {entry.request for entry in line}
    apart = {e.request for e in known if e.start != e.end and e.request not in ids}
    start = _start(manifests[0]) if manifests else ""
    return replace(_joined(list(folders)), apart=sorted(apart), start=start)


def _start(manifest: Mapping[str, Any]) -> str:
    """Return the path of a request's start model, or nothing if it is not there unchanged."""
    start = manifest["weights"]["start"]
    path = str(start["model"])
    try:
        return path if fingerprint(path) == start["fingerprint"] else ""
    except (InputError, OSError):
        return ""


def ancestors(entries: Sequence[LedgerEntry], model: str) -> list[LedgerEntry]:
    """Return the requests that lead to a model, oldest first, each with its latest entry.

    Args:
        entries: Entries of a ledger.
        model: Fingerprint of the model.
    """
    line, found = {model}, set[str]()
    for entry in reversed(entries):
        if entry.end in line and entry.start != entry.end:  # equal: there was nothing to forget
            line.add(entry.start)
            found.add(entry.request)
    return [entry for entry in latest(entries) if entry.request in found]


def _of_ledger(request: Request) -> list[LedgerEntry]:
    """Return the other entries of the ledger; none if the request names earlier ones itself."""
    if request.earlier is not None or request.ledger is None:
        return []
    found = read_ledger(request.ledger) if local_path(request.ledger).is_file() else ()
    return [entry for entry in found if entry.request != request.id]


def _joined(folders: Sequence[Path]) -> Earlier:
    if not folders:
        return Earlier()
    requests = [yaml.safe_load((f / _READ[0]).read_text("utf-8")) for f in folders]
    subjects = [each["forget"].get("subject") for each in requests]
    trained, held_out = ([qa for f in folders for qa in _rows(f / name)] for name in _READ[1:])
    known = {normalise(row.question) for row in trained}
    return Earlier(
        [str(each["id"]) for each in requests],
        trained,
        [row for row in held_out if normalise(row.question) not in known],
        [subject for subject in subjects if subject],
        json_digest([[file_digest(f / name) for name in _READ] for f in folders]),
    )


def _rows(file: Path) -> list[QA]:
    source = Source(str(file), domain="question_answer")
    texts = read_texts([source], None, "error", 1, 1)  # the numbers are for passages
    return [row for text in texts for row in text.ready]
