"""Audit: ask the questions of all earlier requests again, after any later change of the model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lit_unlearn.attacks.quantisation import check_grid, quantised_copy
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.evaluate import evaluate
from lit_unlearn.evaluation.given_models import Model, loading_of
from lit_unlearn.evaluation.record_files import evaluation_files
from lit_unlearn.evaluation.records import EvaluationRecord
from lit_unlearn.evaluation.subjects import Loading, load_subject, named_model
from lit_unlearn.models.finding import find_model, fingerprint
from lit_unlearn.requests.battery import battery_suites
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.requests.knowledge import knowledge
from lit_unlearn.requests.ledger import LedgerEntry, latest, read_ledger, request_folder
from lit_unlearn.requests.manifest import KNOWN, recorded, threshold_of
from lit_unlearn.requests.thresholds import Check, checks
from lit_unlearn.requests.verify import manifest_or_problem, private_findings
from lit_unlearn.utils.ownership import check_targets, write_text
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.plain_json import json_text

__all__ = ["AUDIT", "Audit", "AuditedRequest", "audit"]

AUDIT = "audit.json"
GROUP_SIZE = 64
"""Number of neighbouring weights that share a scale, as in the suite `quantised`."""


@dataclass(frozen=True)
class AuditedRequest:
    """One request of a ledger, and what the model says to its questions now."""

    entry: LedgerEntry
    manifest: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Manifest of the request; empty if it cannot be used."""
    checks: Sequence[Check] = ()
    """The same thresholds with the figures of the model now; empty if it was not asked."""
    problem: str = ""
    """Reason why the questions were not asked; empty if they were."""

    @property
    def then(self) -> Sequence[Mapping[str, Any]]:
        """Checks in the request's manifest."""
        checks: Sequence[Mapping[str, Any]] = self.manifest.get("checks", ())
        return checks

    @property
    def came_back(self) -> list[Check]:
        """Checks that were met at the time of the request and are not met now."""
        pairs = zip(self.then, self.checks, strict=False)
        return [now for then, now in pairs if then["outcome"] == "met" and not now.met]

    @property
    def is_met(self) -> bool:
        """Whether all thresholds were measured and are met."""
        return not self.problem and all(check.met for check in self.checks)


@dataclass(frozen=True)
class Audit:
    """The requests of a ledger on one model."""

    model: str
    requests: Sequence[AuditedRequest]
    folder: Path | None
    """Folder of the files; None if nothing was written."""

    @property
    def is_met(self) -> bool:
        """Whether every request is met."""
        return all(request.is_met for request in self.requests)


def audit(
    model: str,
    ledger: str | Path,
    *,
    output: str | Path | None = None,
    bits: int | None = None,
    batch_size: int = 16,
    loading: Loading | None = None,
) -> Audit:
    """Ask the questions of all requests of a ledger again, and compare with their thresholds.

    The model may be any that `evaluate` reads: fine-tuned, merged, or quantised as GGUF. A request
    whose manifest or battery is missing or was changed is not asked, and its problem is named.

    Args:
        model: Hub id, local folder or .gguf file.
        ledger: File of the ledger.
        output: Folder for ``audit.json`` and an evaluation for each request, which has the
            replies; None writes nothing.
        bits: Round the weights to this many bits first, as in deployment; None for no rounding.
        batch_size: See `evaluate`.
        loading: See `evaluate`; None for the dtype `auto`, as in `erase`.

    Raises:
        ChangedError: The ledger was changed.
        InputError: The model or the ledger cannot be used.
    """
    if bits is not None:
        check_grid(bits, GROUP_SIZE)
    with named_model():
        find_model(model)
    folder = None if output is None else local_path(output)
    entries = latest(read_ledger(ledger))
    if not entries:
        raise InputError(f"Ledger {ledger} should have requests. Found none; give another ledger.")
    found = [_read(ledger, entry) for entry in entries]
    if folder is not None:
        inside = [evaluation_files(folder / entry.request) for entry in entries]
        targets = [folder / AUDIT, *(file for files in inside for file in files)]
        check_targets(folder, targets, [local_path(ledger)], "--output")
    loading = loading or Loading(dtype="auto")
    usable = not all(request.problem for request in found)
    asked = _served(model, bits, loading) if usable else model
    audited = []
    for request in found:
        place = None if folder is None else folder / request.entry.request
        how = {"output": place, "batch_size": batch_size, "loading": loading}
        audited.append(request if request.problem else _ask(request, ledger, asked, how))
    made = Audit(model, audited, folder)
    if folder is not None:
        write_text(folder / AUDIT, json_text(_as_json(made, bits), indent=1) + "\n")
    return made


def _read(ledger: str | Path, entry: LedgerEntry) -> AuditedRequest:
    """Return a request that was not asked yet, after checking its manifest and its battery."""
    place = RequestFolder(request_folder(ledger, entry))
    found = manifest_or_problem(place.root, ("battery/",), entry.manifest)
    if isinstance(found, str):
        return AuditedRequest(entry, problem=found)
    return AuditedRequest(entry, found)


def _served(model: str, bits: int | None, loading: Loading) -> Model:
    """Return a model as it is served: the path, or the model with rounded weights."""
    if bits is None:
        return model
    subject = load_subject(model, loading_of(model, loading))
    return quantised_copy(subject.model, bits, GROUP_SIZE), subject.tokenizer


def _ask(
    request: AuditedRequest, ledger: str | Path, model: Model, how: Mapping[str, Any]
) -> AuditedRequest:
    place = RequestFolder(request_folder(ledger, request.entry))
    suites = battery_suites(place.battery)
    start = str(place.before) if _has_start(place, request.manifest) else None
    found = evaluate(model, suites, start=start, **how).records["model"]
    before = recorded(request.manifest, "before")
    return replace(request, checks=[_check(then, found, before) for then in request.then])


def _check(
    then: Mapping[str, Any], record: EvaluationRecord, before: EvaluationRecord | None
) -> Check:
    """Compare a figure now with the threshold of that time."""
    bound = threshold_of(then)
    if bound.figure == KNOWN:
        now = knowledge(record)
        return Check(bound, math.nan, now.value, now.low, now.high, now.count, now.note)
    return checks([bound], record, before)[0]


def _has_start(place: RequestFolder, manifest: Mapping[str, Any]) -> bool:
    """Return whether the start model and its evaluation are there, as they were.

    Their owner may have deleted both, as they have the forgotten content; or another model may be
    in the place of the start model, such as one of an earlier request that was carried out again.
    """
    states = {each.state for each in private_findings(place.root, manifest, "before/")}
    start = manifest["weights"]["start"]
    try:
        return states == {"as written"} and fingerprint(start["model"]) == start["fingerprint"]
    except InputError:
        return False


def _as_json(made: Audit, bits: int | None) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "model": made.model,
        "bits": bits,
        "met": made.is_met,
        "requests": [
            {
                **asdict(each.entry),
                "problem": each.problem,
                "came_back": [check.name for check in each.came_back],
                "checks": [
                    {
                        "figure": check.name,
                        "bound": check.bound,
                        "then": then["value"],
                        **{k: getattr(check, k) for k in ("value", "low", "high", "count")},
                        "outcome": check.outcome,
                        "note": check.note,
                    }
                    for then, check in zip(each.then, each.checks, strict=False)
                ],
            }
            for each in made.requests
        ],
    }
