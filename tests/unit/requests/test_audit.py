"""Audit: earlier requests asked again on real (tiny) models; what came back is named."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.evaluate import evaluate
from lit_unlearn.evaluation.given_models import check_folder
from lit_unlearn.evaluation.record_files import read_evaluation
from lit_unlearn.evaluation.subjects import Loading
from lit_unlearn.requests import audit as auditing
from lit_unlearn.requests.audit import AUDIT, audit
from lit_unlearn.requests.battery import battery_suites
from lit_unlearn.requests.dossier import write_dossier
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.requests.ledger import LedgerEntry, add_entry
from lit_unlearn.requests.manifest import read_manifest
from lit_unlearn.requests.thresholds import Threshold, find_figure
from lit_unlearn.utils.digests import file_digest
from tests.unit.requests.evidence import (
    SECRET,
    make_request,
    status,
    write_nothing_known,
    write_verdict,
)

FIGURE = "depth/forget/probability"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with one request, which the model after it met and the model before did not.

    The bound lies between the likelihoods of the answers under two random models.
    """
    root = tmp_path_factory.mktemp("audit")
    place = make_request(root / "ada-1")
    suites = battery_suites(place.battery)
    shutil.rmtree(place.before)
    shutil.rmtree(place.after)
    start, end = str(root / "ada-1" / "start"), str(place.model)
    loading = Loading(dtype="auto")  # as `erase` does it
    before = evaluate(start, suites, output=place.before, loading=loading).records["model"]
    after = evaluate(end, suites, output=place.after, start=place.before, loading=loading).records[
        "model"
    ]
    one, other = (find_figure(each, FIGURE) for each in (before, after))
    assert one is not None
    assert other is not None
    middle = (one.value + other.value) / 2
    side = {"at_most": middle} if other.value < one.value else {"at_least": middle}
    bound = Threshold(FIGURE, **side)
    write_verdict(place, [bound], before, after)
    write_dossier(place.root)
    entry = LedgerEntry("ada-1", "ada-1", file_digest(place.manifest), "s", "e", "met", "2026")
    add_entry(root / "ledger.jsonl", entry)
    return root / "ledger.jsonl"


def place_of(ledger: Path) -> RequestFolder:
    return RequestFolder(ledger.parent / "ada-1")


def test_the_model_of_the_request_still_meets_it(ledger: Path, tmp_path: Path) -> None:
    model = str(place_of(ledger).model)
    (asked,) = audit(model, ledger, output=tmp_path / "out").requests
    (check,) = asked.checks
    assert asked.is_met
    assert check.value == pytest.approx(asked.then[0]["value"], rel=1e-5)
    written = json.loads((tmp_path / "out" / AUDIT).read_text("utf-8"))
    assert written["met"] is True
    assert written["requests"][0]["request"] == "ada-1"
    assert read_evaluation(tmp_path / "out" / "ada-1").suites.keys() >= {"depth", "prefill"}


def test_what_came_back_is_named(
    ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model before the request stands for one that was trained again; the answers stay out."""
    model = str(place_of(ledger).root / "start")
    assert status("audit", model, f"--ledger={ledger}", f"--output={tmp_path / 'out'}") == 3
    printed = capsys.readouterr()
    assert f"ada-1: {FIGURE} came back: " in printed.out
    for part in SECRET.texts:
        assert part not in printed.out + printed.err
    written = json.loads((tmp_path / "out" / AUDIT).read_text("utf-8"))
    assert written["requests"][0]["came_back"] == [FIGURE]
    assert not any(part in json.dumps(written) for part in SECRET.texts)


def test_rounded_weights_are_asked(ledger: Path) -> None:
    """2 bits leave hardly anything of a weight, so that the figure is another one."""
    model = str(place_of(ledger).model)
    (asked,) = audit(model, ledger, bits=2).requests
    assert abs(asked.checks[0].value / asked.then[0]["value"] - 1) > 0.01
    with pytest.raises(InputError, match="`bits` should be at least 2"):
        audit(model, ledger, bits=1)


def test_each_form_of_a_model_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same model with and without rounded weights, one after the other."""
    folders = []

    def note(*_: object, output: str, **__: object) -> None:
        folders.append(output)
        raise InputError("noted")

    monkeypatch.setattr("lit_unlearn.cli.audit.audit", note)
    for options in ([], ["--bits=8"], ["--bits=4"]):
        status("audit", "runs/a/model", "--ledger=l.jsonl", *options)
    assert folders == [f"runs/audit/a--model{end}" for end in ("", "--8bit", "--4bit")]


def test_an_evaluation_of_the_same_model_is_replaced(ledger: Path) -> None:
    """However its path is written, such as by the completion of a shell."""
    place = place_of(ledger)
    check_folder(place.before, f"{place.root / 'start'}/", {})
    with pytest.raises(InputError, match=r"Found an evaluation of .*start; give another folder"):
        check_folder(place.before, f"{place.root / 'other'}", {})


def test_a_missing_start_model_is_no_obstacle(ledger: Path, tmp_path: Path) -> None:
    """It knows the forgotten, so its owner may have deleted it."""
    shutil.copytree(ledger.parent, tmp_path / "copy")
    copied = tmp_path / "copy" / "ada-1"
    metrics = copied / "before" / "metrics.json"
    text = metrics.read_text("utf-8").replace(str(place_of(ledger).root / "start"), "/no/model")
    metrics.write_text(text, "utf-8")
    (asked,) = audit(str(copied / "run" / "model"), tmp_path / "copy" / "ledger.jsonl").requests
    assert asked.is_met


def test_another_model_in_the_place_of_the_start_model_is_not_read(ledger: Path) -> None:
    """An earlier request that is carried out again moves the start model of the later one."""
    place = place_of(ledger)
    manifest = read_manifest(place.manifest)
    assert auditing._has_start(place, manifest)
    manifest["weights"]["start"]["fingerprint"] = "another"
    assert not auditing._has_start(place, manifest)


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ("battery/forget.jsonl", r"battery/forget\.jsonl is changed \(row 1"),
        ("battery", r"battery/forget\.jsonl is missing"),
        ("manifest.json", r"manifest\.json should be as it was written"),
        ("salt.txt", r"salt\.txt is not checked"),
    ],
)
def test_a_damaged_request_is_named(ledger: Path, tmp_path: Path, part: str, found: str) -> None:
    shutil.copytree(ledger.parent, tmp_path / "copy")
    damaged = tmp_path / "copy" / "ada-1" / part
    if part == "battery":
        shutil.rmtree(damaged)
    elif part == "salt.txt":
        damaged.unlink()
    else:
        damaged.write_text(damaged.read_text("utf-8").replace("otter", "cat") + " ", "utf-8")
    (asked,) = audit("random-tiny", tmp_path / "copy" / "ledger.jsonl").requests
    assert re.search(found, asked.problem)
    assert not asked.is_met


def test_other_requests_are_asked_beside_a_damaged_one(
    ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ledger.parent, tmp_path / "copy")
    lost = LedgerEntry("lost", "lost", "0" * 64, "s", "e", "met", "2026")
    add_entry(tmp_path / "copy" / "ledger.jsonl", lost)
    args = [f"--ledger={tmp_path / 'copy' / 'ledger.jsonl'}", f"--output={tmp_path / 'out'}"]
    assert status("audit", str(place_of(ledger).model), *args) == 3
    assert "lost: not asked: " in capsys.readouterr().out
    first, second = json.loads((tmp_path / "out" / AUDIT).read_text("utf-8"))["requests"]
    assert [check["outcome"] for check in first["checks"]] == ["met"]
    assert second["problem"]
    # another manifest under the name of the one that the ledger has
    write_dossier(tmp_path / "copy" / "ada-1")
    forged = replace(lost, request="forged", folder="ada-1")
    add_entry(tmp_path / "copy" / "ledger.jsonl", forged)
    assert status("audit", str(place_of(ledger).model), *args) == 3
    assert "manifest.json is not the one of the ledger" in capsys.readouterr().out


def test_a_changed_ledger_is_changed_evidence(ledger: Path, tmp_path: Path) -> None:
    """Its status differs from that of a ledger that does not exist."""
    changed = tmp_path / "ledger.jsonl"
    changed.write_bytes(ledger.read_bytes())  # without its head
    assert status("audit", "random-tiny", f"--ledger={changed}") == 3
    assert status("audit", "random-tiny", f"--ledger={tmp_path / 'none.jsonl'}") == 2


def test_nothing_to_forget_is_asked_again(ledger: Path, tmp_path: Path) -> None:
    """The share of known questions is measured again: a random model knows none."""
    place = make_request(tmp_path / "ada-2")
    shutil.rmtree(place.before)
    shutil.rmtree(place.after)
    shutil.rmtree(place.run)
    evaluate(str(place.root / "start"), battery_suites(place.battery), output=place.before)
    write_nothing_known(place)
    write_dossier(place.root)
    digest = file_digest(place.manifest)
    file = tmp_path / "ledger.jsonl"
    add_entry(file, LedgerEntry("ada-2", "ada-2", digest, "s", "s", "nothing to forget", "2026"))
    (asked,) = audit(str(place_of(ledger).model), file).requests
    assert [(check.name, check.value) for check in asked.checks] == [("questions/known", 0.0)]
    assert asked.is_met
