"""Manifest: what it says, what it keeps back, and that any change of a byte is found."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.record_files import write_evaluation
from lit_unlearn.models.finding import fingerprint
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.requests.manifest import (
    KNOWN,
    ChangedError,
    build_manifest,
    manifest_text,
    read_manifest,
)
from lit_unlearn.requests.salt import SALT
from tests.unit.requests.evidence import (
    NEAR,
    SECOND,
    SECRET,
    make_request,
    record,
    write_nothing_known,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> RequestFolder:
    return make_request(tmp_path_factory.mktemp("requests") / "ada-1")


def test_it_holds_every_figure_and_no_content(place: RequestFolder) -> None:
    made = build_manifest(place.root)
    text = manifest_text(made)
    for row in (SECRET, SECOND, NEAR):
        assert not any(part in text for part in row.texts)
    assert "Ada Quist" not in text
    assert made["request"]["forget"] == {"texts": 0, "questions": 1, "rows": 0, "subject": 1}
    assert made["verdict"] == "met"
    assert [check["outcome"] for check in made["checks"]] == ["met", "met"]
    (first, _) = made["figures"]["before"]["figures"]
    assert (first["suite"], first["name"], first["value"]) == ("prefill", "unattacked/recall", 0.8)
    assert made["weights"]["end"] == {
        "model": "run/model",
        "fingerprint": fingerprint(str(place.model)),
    }
    assert made["seeds"] == {"seed_everything": 3, "data.seed": 3, "model.student.seed": 0}
    assert {"lit_unlearn", "sha256"} <= made["code"].keys()
    assert {"python", "torch", "transformers"} <= made["environment"].keys()


def test_digests_are_those_of_the_salt_and_the_content(place: RequestFolder) -> None:
    """As the commands on the page compute them; without the salt a guess cannot be confirmed."""
    made, salt = build_manifest(place.root), (place.root / SALT).read_bytes()
    file = place.battery / "forget.jsonl"
    assert (
        made["files"]["battery/forget.jsonl"]
        == hashlib.sha256(salt + file.read_bytes()).hexdigest()
    )
    lines = file.read_bytes().splitlines()
    digests = [hashlib.sha256(salt + line).hexdigest() for line in lines]
    assert made["rows"]["battery/forget.jsonl"] == digests
    assert hashlib.sha256(lines[0]).hexdigest() not in manifest_text(made)
    assert {"request.yaml", "verdict.json", "run/config.yaml", "after/metrics.json"} <= {
        *made["files"]
    }
    assert build_manifest(place.root) == made  # the salt stays
    assert (place.root / SALT).stat().st_mode & 0o077 == 0


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 10**6), byte=st.integers(1, 255))
def test_any_changed_byte_is_found(
    written: bytes, tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    content = bytearray(written)
    content[place % len(content)] ^= byte
    file = tmp_path_factory.getbasetemp() / "manifest.json"
    file.write_bytes(content)
    with pytest.raises(InputError):
        read_manifest(file)


@pytest.fixture(scope="module")
def written(place: RequestFolder) -> bytes:
    return manifest_text({**build_manifest(place.root), "dossier": {"sha256": "0"}}).encode()


def test_what_is_read_is_what_was_written(written: bytes, tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_bytes(written)
    assert read_manifest(file)["dossier"] == {"sha256": "0"}
    # the content and its digest, in another layout, and with a second key of the same name
    content = json.loads(written)
    for text in (json.dumps(content), written.decode().replace('"notes"', '"verdict": 1, "notes"')):
        file.write_text(text, "utf-8")
        with pytest.raises(ChangedError, match=r"manifest\.json should be as it was written"):
            read_manifest(file)
    file.write_text(manifest_text({**content["content"], "schema_version": 2}), "utf-8")
    with pytest.raises(InputError, match=r"schema_version 1\. Found 2"):
        read_manifest(file)
    with pytest.raises(InputError, match=r"Found no readable manifest\.json"):
        read_manifest(tmp_path / "none" / "manifest.json")


def test_an_evaluation_of_another_model_is_refused(tmp_path: Path) -> None:
    place = make_request(tmp_path / "ada-2")
    write_evaluation(place.after, record(tmp_path / "ada-2" / "start", 0.1))
    with pytest.raises(InputError, match=r"should be one of .*model as it is now"):
        build_manifest(place.root)


def test_nothing_to_forget(tmp_path: Path) -> None:
    """No model was trained: the share of known questions takes the place of the thresholds."""
    place = make_request(tmp_path / "ada-3")
    for file in (*place.after.glob("*"), place.run / "config.yaml"):
        file.unlink()
    write_nothing_known(place)
    made = build_manifest(place.root)
    (check,) = made["checks"]
    assert (check["figure"], check["at_most"], check["value"]) == (KNOWN, 0.05, 0.0)
    assert made["weights"].keys() == {"start"}
    assert made["figures"].keys() == {"before"}
    assert made["seeds"] == {}
