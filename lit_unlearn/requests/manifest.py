"""Manifest of a request: digests, figures with intervals, thresholds and the verdict, as JSON.

The forgotten content is not in it. A plain digest of a short text would let anybody confirm a
guess of the text; private files and rows are therefore given by the SHA-256 of a random salt that
is followed by their content. The salt stays in the request's folder.
"""

import hashlib
import json
import math
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

import lit_unlearn
from lit_unlearn.errors import ChangedError, InputError
from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.evaluation.record_files import METRICS, ROWS, read_evaluation
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord
from lit_unlearn.models.finding import fingerprint
from lit_unlearn.report.evaluation_table import BALANCE
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.requests.request import DEFAULT_RECIPE
from lit_unlearn.requests.salt import make_salt, salted
from lit_unlearn.requests.thresholds import Threshold
from lit_unlearn.utils.digests import checked_text, file_digest, json_digest
from lit_unlearn.utils.ownership import MARKER
from lit_unlearn.utils.paths import read_file
from lit_unlearn.utils.plain_json import nan_to_null

__all__ = ["KNOWN", "MANIFEST_SCHEMA"]
__all__ += ["build_manifest", "manifest_text", "private_digests", "read_manifest"]
__all__ += ["recorded", "row_digests", "threshold_of"]

MANIFEST_SCHEMA = 1
"""Version of the manifest; increased when the name or meaning of a key changes."""
KNOWN = "questions/known"
"""Name of the figure `knowledge`, which has no suite of its own."""
_PACKAGES = ("torch", "transformers", "tokenizers", "lightning", "datasets", "safetensors", "numpy")


def build_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a finished request; creates the salt if there is none.

    Raises:
        InputError: A file of the request is missing or damaged, or an evaluation is not one of the
            request's model.
    """
    place = RequestFolder(folder)
    salt = make_salt(folder)
    before = read_evaluation(place.before)
    verdict = _read_json(place.verdict)
    request = yaml.safe_load(place.request.read_text("utf-8"))
    trained = verdict["verdict"] != "nothing to forget"  # an earlier attempt may have left files
    after = read_evaluation(place.after) if trained else None
    return {
        "schema_version": MANIFEST_SCHEMA,
        "request": _asked(request),
        "verdict": verdict["verdict"],
        "notes": verdict["notes"],
        "known": verdict["known"],
        "checks": verdict["checks"] or [_nothing_known(verdict)],
        "weights": _weights(place, before, after),
        "figures": {
            heading: _figures(record)
            for heading, record in (("before", before), ("after", after))
            if record is not None
        },
        "files": private_digests(folder, salt),
        "rows": row_digests(folder, salt),
        "salt": {"sha256": hashlib.sha256(salt.encode()).hexdigest()},
        "seeds": _seeds(place.run / "config.yaml") if trained else {},
        "code": _code(),
        "environment": _environment(),
    }


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """Return the text of ``manifest.json``: the manifest, and its digest."""
    return checked_text(nan_to_null(manifest))


def read_manifest(file: Path) -> dict[str, Any]:
    """Return the content of ``manifest.json``.

    Raises:
        ChangedError: A byte of it was changed, or it is not one that `erase` wrote.
        InputError: There is none, or it is of another schema version.
    """
    try:
        text = read_file(file).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        raise InputError(
            f"Folder {file.parent} should hold the evidence of a request. Found no readable "
            f"{file.name}; `lit-unlearn erase` writes it."
        ) from None
    try:
        content = json.loads(text)["content"]
        same = checked_text(content) == text  # spaces count too
    except (ValueError, LookupError, TypeError, RecursionError):
        same, content = False, None
    if not same or not isinstance(content, dict):
        raise ChangedError(
            f"File {file} should be as it was written. Found another content than its digest says; "
            "ask its owner for the original."
        )
    if content.get("schema_version") != MANIFEST_SCHEMA:
        raise InputError(
            f"File {file} should have schema_version {MANIFEST_SCHEMA}. Found "
            f"{content.get('schema_version')}; read it with the version of lit-unlearn that wrote "
            "it."
        )
    try:
        _check_shape(content)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ChangedError(
            f"File {file} should have the keys and values that `lit-unlearn erase` writes. Found "
            f"others ({type(error).__name__}: {' '.join(str(error).split())}); ask its owner for "
            "the original."
        ) from None
    return content


def _check_shape(content: Mapping[str, Any]) -> None:
    """Raise an error if a part is missing: another manifest can have a digest of its own."""
    models = [content["weights"]["start"], *content["weights"].values()]
    rows = [digest for file in content["rows"].values() for digest in file]
    texts = [content["request"]["id"], content["verdict"], content["salt"]["sha256"]]
    texts += [content["dossier"]["sha256"], *content["files"].values(), *rows]
    texts += [model[name] for model in models for name in ("model", "fingerprint")]
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong:
        raise TypeError(f"{wrong[0]!r:.40} is no text")
    for check in content["checks"]:
        threshold_of(check)
        check["outcome"], check["value"]
    for heading in ("before", "after"):
        recorded(content, heading)


def recorded(manifest: Mapping[str, Any], heading: str) -> EvaluationRecord | None:
    """Return the evaluation ``before`` or ``after`` of a manifest, without rows; None if absent."""
    known = manifest["figures"].get(heading)
    if known is None:
        return None
    suites: dict[str, list[Figure]] = {}
    for entry in known["figures"]:
        own = {name: value for name, value in entry.items() if name != "suite"}
        own["value"] = math.nan if own["value"] is None else own["value"]
        suites.setdefault(entry["suite"], []).append(Figure(**own))
    balance = suites.pop(BALANCE, [])
    made = {name: SuiteRecord(name, {}, 0.0, 0.0, [], own) for name, own in suites.items()}
    model = manifest["weights"]["start" if heading == "before" else "end"]["model"]
    facts = (known["fingerprint"], made, known["settings"], known["versions"], balance)
    return EvaluationRecord(model, *facts)


def threshold_of(check: Mapping[str, Any]) -> Threshold:
    """Return the threshold of a manifest's check."""
    return Threshold(*(check[name] for name in ("figure", "at_most", "at_least", "of_start")))


# ---------------------------------------------------------------------------------------- digests


def private_digests(folder: Path, salt: str) -> dict[str, str]:
    """Return path -> salted SHA-256 of each file that stays with the owner of a request."""
    return {
        file.relative_to(folder).as_posix(): salted(salt, file.read_bytes())
        for file in _private(RequestFolder(folder))
    }


def row_digests(folder: Path, salt: str) -> dict[str, list[str]]:
    """Return path -> salted SHA-256 of each row of each file of rows, without its line break."""
    files = (file for file in _private(RequestFolder(folder)) if file.suffix == ".jsonl")
    return {
        file.relative_to(folder).as_posix(): [
            salted(salt, line) for line in file.read_bytes().splitlines()
        ]
        for file in files
        if file.name != ROWS
    }


def _private(place: RequestFolder) -> Iterator[Path]:
    """Yield the files that stay with the owner, except the salt and weights, in a fixed order."""
    single = [place.request, place.verdict, place.run / "config.yaml"]
    single += [each / name for each in (place.before, place.after) for name in (METRICS, ROWS)]
    yield from (file for file in single if file.is_file())
    for folder in (place.battery, place.rows):
        yield from sorted(f for f in folder.rglob("*") if f.is_file() and f.name != MARKER)


def _weights(
    place: RequestFolder, before: EvaluationRecord, after: EvaluationRecord | None
) -> dict[str, dict[str, str]]:
    """Return path and fingerprint of both models; refuse an evaluation of another model."""
    models = {"start": (before.model, before)}
    if after is not None:
        models["end"] = (str(place.model), after)
    found = {}
    for name, (path, record) in models.items():
        found[name] = {"model": path, "fingerprint": fingerprint(path)}
        if not record.fingerprint.startswith(found[name]["fingerprint"]):
            raise InputError(
                f"Evaluation {place.before if name == 'start' else place.after} should be one of "
                f"{path} as it is now. Found another fingerprint; evaluate again."
            )
    if after is not None:
        found["end"]["model"] = place.model.relative_to(place.root).as_posix()
    return found


# ---------------------------------------------------------------------------------------- content


def _asked(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request without what should be forgotten: only numbers of texts and questions."""
    forget = request["forget"]
    kinds = {name: len(forget.get(name) or []) for name in ("texts", "questions", "rows")}
    return {
        "id": request["id"],
        "model": request["model"],
        "recipe": request.get("recipe") or DEFAULT_RECIPE,
        "seed": request.get("seed") or 0,
        "forget": {**kinds, "subject": int(bool(forget.get("subject")))},
    }


def _nothing_known(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """Return the check of a request that had nothing to forget: the share of known questions."""
    known = verdict["known"]
    bound = Threshold(KNOWN, at_most=verdict["known_at_most"])
    names = ("value", "low", "high", "count", "note")
    own = {"figure": KNOWN, **asdict(bound), "start": known["value"]}
    return {**own, **{name: known[name] for name in names}, "outcome": "met"}


def _figures(record: EvaluationRecord) -> dict[str, Any]:
    suites = {name: suite.figures for name, suite in record.suites.items()}
    return {
        "fingerprint": record.fingerprint,
        "settings": dict(record.settings),
        "versions": dict(record.versions),
        "figures": [
            {"suite": suite, **asdict(figure)}
            for suite, own in {**suites, BALANCE: record.balance}.items()
            for figure in own
        ],
    }


def _seeds(config: Path) -> dict[str, Any]:
    """Return the seeds of a run."""
    values = yaml.safe_load(config.read_text("utf-8"))
    student = values["model"]["student"]
    return {
        "seed_everything": values["seed_everything"],
        # the command line takes it from the seed of the run, and does not write it down
        "data.seed": values["data"].get("seed", values["seed_everything"]),
        "model.student.seed": student["seed"] if isinstance(student, dict) else 0,
    }


def _code() -> dict[str, str]:
    root = Path(lit_unlearn.__file__).parent
    files = {f.relative_to(root).as_posix(): file_digest(f) for f in sorted(root.rglob("*.py"))}
    return {"lit_unlearn": lit_unlearn.__version__, "sha256": json_digest(files)}


def _environment() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _read_json(file: Path) -> Any:
    try:
        return json.loads(read_file(file))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"File {file} should be JSON that `erase` wrote. Found: {error}."
        ) from None
