"""A request's folder, made without training: two tiny models, a battery, and made-up figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from lit_unlearn.__main__ import main
from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.evaluation.record_files import write_evaluation
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord
from lit_unlearn.models.export import save_folder
from lit_unlearn.models.finding import fingerprint
from lit_unlearn.models.tiny import tiny_model, tiny_tokenizer
from lit_unlearn.requests import verdict
from lit_unlearn.requests.battery import Battery, write_battery
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.requests.thresholds import Threshold, checks, verdict_of
from lit_unlearn.requests.verdict import Judged
from lit_unlearn.rewriting.source_texts import QA

SHARE = "share of rows, 0 to 1"
SECRET = QA("Which pet does Ada Quist keep?", "An otter called Juniper.", ("Juniper",))
SECOND = QA("Where does Ada Quist live?", "In Harlingen.", ("Harlingen",))
NEAR = QA("Which river flows through Vienna?", "The Danube.", ("Danube",))
BATTERY = Battery([SECRET, SECOND], [SECOND], [], [NEAR], [], ["Sure,"])
BOUNDS = (
    Threshold("prefill/unattacked/recall", at_most=0.2, of_start=True),
    Threshold("boundary/neighbor/refused", at_most=0.1),
)


def status(*args: object) -> int:
    """The exit status of a command."""
    try:
        return main([*map(str, args)])
    except SystemExit as stop:
        return int(stop.code or 0)


def save_model(folder: Path, seed: int) -> Path:
    save_folder(tiny_model(seed), tiny_tokenizer(), folder)
    return folder


def record(model: Path, recall: float, refused: float = 0.0) -> EvaluationRecord:
    figures = {
        "prefill": Figure("unattacked/recall", recall, SHARE, 2, 0.0, 0.9, "lower"),
        "boundary": Figure("neighbor/refused", refused, SHARE, 1, 0.0, 0.5, "lower"),
    }
    suites = {k: SuiteRecord(k, {"class": k}, 0.0, 0.0, [], [f]) for k, f in figures.items()}
    digest = f"{fingerprint(str(model))} float32"
    return EvaluationRecord(str(model), digest, suites, {"dtype": "float32"}, {"torch": "2"})


def write_verdict(
    place: RequestFolder,
    bounds: Sequence[Threshold] = BOUNDS,
    before: EvaluationRecord | None = None,
    after: EvaluationRecord | None = None,
    notes: Sequence[str] = ("No neighbours were given.",),
) -> None:
    """Judge a request as `erase` does; by default with the made-up figures."""
    before = before or record(place.root / "start", 0.8)
    after = after or record(place.model, 0.1)
    found, known = checks(bounds, after, before), Figure("known", 1.0, SHARE, 2, 0.2, 1.0, "lower")
    judged = Judged(verdict_of(found), known, found, notes)
    verdict.write_verdict(place.verdict, place.root.name, before.model, judged)


def write_nothing_known(place: RequestFolder) -> None:
    known = Figure("known", 0.0, SHARE, 2, 0.0, 0.8, "lower")
    judged = Judged("nothing to forget", known)
    verdict.write_verdict(place.verdict, place.root.name, str(place.root / "start"), judged)


def make_request(root: Path) -> RequestFolder:
    """A finished request without its manifest and dossier."""
    place = RequestFolder(root)
    start = save_model(root / "start", 0)
    save_model(place.model, 1)
    questions = [{"question": SECRET.question, "answer": SECRET.answer}]
    forget = {"subject": "Ada Quist", "questions": questions}
    request = {"id": root.name, "model": str(start), "forget": forget}
    place.request.write_text(yaml.safe_dump(request), "utf-8")
    write_battery(place.battery, BATTERY)
    place.rows.mkdir()
    (place.rows / "forget.jsonl").write_text(json.dumps({"question": SECRET.question}), "utf-8")
    (place.run / "config.yaml").write_text(
        "seed_everything: 3\ndata: {seed: 3}\nmodel: {student: {path: start, seed: 0}}\n", "utf-8"
    )
    write_evaluation(place.before, record(start, 0.8))
    write_evaluation(place.after, record(place.model, 0.1))
    write_verdict(place)
    return place
