"""Verification: each file of the evidence is found changed, missing or added, and named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.requests.dossier import write_dossier
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.requests.manifest import manifest_text, read_manifest
from lit_unlearn.requests.salt import SALT
from lit_unlearn.requests.thresholds import Threshold
from lit_unlearn.requests.verify import verify
from lit_unlearn.utils.ownership import record
from tests.unit.requests.evidence import SECRET, make_request, status, write_verdict
from tests.unit.requests.test_signature import keys, needs_ssh

__all__ = ["keys"]  # a fixture


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a request with its evidence; tests copy it."""
    place = make_request(tmp_path_factory.mktemp("requests") / "ada-1")
    write_dossier(place.root)
    return place.root


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> RequestFolder:
    shutil.copytree(finished, tmp_path / "ada-1")
    return RequestFolder(tmp_path / "ada-1")


def found(folder: Path, **options: object) -> dict[str, str]:
    """The parts that are not as they were written, with their states."""
    return {
        each.part.partition(" (")[0]: f"{each.state} {each.note}".strip()
        for each in verify(folder, **options)  # type: ignore[arg-type]
        if each.state != "as written"
    }


UNSIGNED = {"signature": "not checked the manifest is not signed"}


def append(file: Path, text: str = " ") -> None:
    file.write_text(file.read_text("utf-8") + text, "utf-8")


def test_untouched_evidence_is_as_it_was_written(place: RequestFolder) -> None:
    assert found(place.root) == UNSIGNED


@pytest.mark.parametrize(
    "name",
    [
        "dossier.html",
        "request.yaml",
        "verdict.json",
        "battery/prefills.txt",
        "rows/forget.jsonl",
        "before/metrics.json",
        "after/rows.jsonl",
        "run/config.yaml",
        SALT,
    ],
)
def test_a_changed_or_missing_file_is_named(place: RequestFolder, name: str) -> None:
    append(place.root / name)
    assert found(place.root).get(name, "").startswith("changed")
    (place.root / name).unlink()
    assert found(place.root)[name].startswith("not checked" if name == SALT else "missing")


def test_a_changed_question_is_named_by_its_row(place: RequestFolder) -> None:
    file = place.battery / "forget.jsonl"
    text = file.read_text("utf-8")
    file.write_text(text.replace("otter", "ferret"), "utf-8")
    assert found(place.root)["battery/forget.jsonl"] == "changed row 1"
    file.write_text(text.splitlines()[0] + "\n", "utf-8")
    assert found(place.root)["battery/forget.jsonl"] == "changed 1 rows instead of 2"
    file.write_text(text, "utf-8")
    (place.battery / "more.jsonl").write_text("{}", "utf-8")
    assert found(place.root) == {"battery/more.jsonl": "added", **UNSIGNED}


def test_changed_weights_are_found(place: RequestFolder, tmp_path: Path) -> None:
    copied = tmp_path / "elsewhere"
    shutil.copytree(place.model, copied)
    assert found(place.root, model=str(copied)) == UNSIGNED
    append(copied / "config.json")
    assert found(place.root, model=str(copied)) == {"weights, after": "changed", **UNSIGNED}
    assert status("audit", str(copied), f"--verify={place.root}") == 3
    shutil.rmtree(place.model)
    assert found(place.root)["weights, after"].startswith("not checked")


def test_manifest_and_dossier_alone_can_be_checked(place: RequestFolder, tmp_path: Path) -> None:
    """As they are handed over, without anything that the owner keeps."""
    given = tmp_path / "given"
    given.mkdir()
    for file in (place.manifest, place.dossier):
        shutil.copy(file, given)
    states = found(given)
    assert states[SALT].startswith("not checked there is no salt.txt, which stays with the owner")
    assert status("audit", f"--verify={given}") == 0
    append(given / "dossier.html")
    assert status("audit", f"--verify={given}") == 3


@pytest.mark.parametrize(
    "change", [lambda text: text + " ", lambda text: text.replace("met", "not")]
)
def test_a_changed_manifest_is_one_line(
    place: RequestFolder, change: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    place.manifest.write_text(change(place.manifest.read_text("utf-8")), "utf-8")
    assert status("audit", f"--verify={place.root}") == 3
    error = capsys.readouterr().err
    assert error.startswith(
        f"lit-unlearn: error: File {place.manifest} should be as it was written"
    )
    assert error.count("\n") == 1


@needs_ssh
def test_signed_evidence(
    place: RequestFolder, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verifying = ["audit", f"--verify={place.root}"]
    assert status("audit", f"--sign={place.root}", f"--key={keys / 'anna'}") == 0
    assert status(*verifying) == 2
    assert "`allowed_signers` should be a file" in capsys.readouterr().err
    signers = f"--allowed_signers={keys / 'signers'}"
    assert status(*verifying, signers) == 0
    assert "signed by anna@example.org" in capsys.readouterr().out
    assert status("audit", f"--sign={place.root}", f"--key={keys / 'other'}") == 0
    assert status(*verifying, signers) == 3
    assert "Found another key" in capsys.readouterr().err
    append(place.dossier)
    assert status("audit", f"--sign={place.root}", f"--key={keys / 'anna'}") == 3
    assert "dossier.html changed; restore it" in capsys.readouterr().err


@needs_ssh
def test_every_signature_counts(place: RequestFolder, keys: Path) -> None:
    """Where signers of SSH are given, one by any key that gpg knows is not enough."""
    signers = keys / "signers"
    place.manifest.with_name("manifest.json.asc").mkdir()
    unsound = {"manifest.json.asc": "changed it is not a signature of this manifest"}
    lacking = {"signature": "missing the manifest has no signature by SSH"}
    assert found(place.root, allowed_signers=signers) == {**lacking, **unsound}
    assert status("audit", f"--sign={place.root}", f"--key={keys / 'anna'}") == 0
    assert found(place.root, allowed_signers=signers) == unsound


@pytest.mark.parametrize("option", ["--signer=anna@example.org", "--allowed_signers=signers"])
def test_a_missing_signature_fails_where_one_is_asked_for(
    place: RequestFolder, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever writes another manifest can also remove the signature."""
    assert status("audit", f"--verify={place.root}", option) == 3
    assert "signature: missing" in capsys.readouterr().out


def test_a_manifest_with_other_keys_and_its_own_digest_is_one_line(
    place: RequestFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    content = read_manifest(place.manifest)
    no_bound = {**content["checks"][0], "at_most": "much"}
    for change in (
        {"weights": {}},
        {"weights": {"start": {"model": 5, "fingerprint": "a"}}},
        {"files": ["a"]},
        {"rows": {"a": 1}},
        {"salt": None},
        {"dossier": {}},
        {"checks": [no_bound]},
        {"figures": {"before": {"figures": [{}]}}},
        {"request": "a"},
    ):
        place.manifest.write_text(manifest_text({**content, **change}), "utf-8")
        assert status("audit", f"--verify={place.root}") == 3
        error = capsys.readouterr().err
        assert "should have the keys and values" in error
        assert error.count("\n") == 1


def test_a_changed_salt_never_hides_less(place: RequestFolder) -> None:
    """With an empty salt, digests of short answers could be guessed."""
    (place.root / SALT).write_text("", "utf-8")
    with pytest.raises(InputError, match=r"salt\.txt should have 64 hexadecimal digits"):
        write_dossier(place.root)
    (place.root / SALT).unlink()
    (place.root / SALT).mkdir()
    assert found(place.root)[SALT].startswith("changed")
    with pytest.raises(InputError, match=r"salt\.txt should have 64 hexadecimal digits"):
        write_dossier(place.root)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "expected one of --ledger, --verify and --sign, found none"),
        (["--verify=a", "--sign=b"], "found --verify and --sign"),
        (["--ledger=a"], "model: expected a model for --ledger"),
        (["--sign=a"], "--key: expected an SSH key's file"),
        (["--verify=none"], "Found no readable manifest.json"),
        (["--verfy=a"], "verify"),
    ],
)
def test_a_mistake_is_one_line(
    options: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("audit", *options) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_evidence_of_the_same_results_stays(place: RequestFolder) -> None:
    """A later version of the package does not take the place of the one that made the results."""
    manifest = read_manifest(place.manifest)
    older = manifest_text({**manifest, "code": {"lit_unlearn": "0.0", "sha256": "0"}})
    place.manifest.write_text(older, "utf-8")
    record(place.manifest)
    write_dossier(place.root)
    assert place.manifest.read_text("utf-8") == older
    write_verdict(place, notes=["Another note."])
    write_dossier(place.root)
    assert read_manifest(place.manifest)["notes"] == ["Another note."]
    assert found(place.root) == UNSIGNED


def test_the_page_names_what_failed(place: RequestFolder) -> None:
    """A bound of nothing is missed by 10 per cent."""
    write_verdict(place, [Threshold("prefill/unattacked/recall", at_most=0.0)])
    write_dossier(place.root)
    text = place.dossier.read_text("utf-8")
    assert "1 of 1 requirements failed (asked plainly: the reply contains the content" in text
    assert read_manifest(place.manifest)["verdict"] == "not met"


def test_the_page_says_what_the_manifest_says(place: RequestFolder) -> None:
    text = place.dossier.read_text("utf-8")
    assert "Evidence of request ada-1" in text
    assert "10\u00a0%\n(0 to 90\u00a0%)" in text
    assert "at most 16\u00a0%\n(20 % of before)" in text
    assert not any(part in text for part in SECRET.texts)
    assert "Ada Quist" not in text
