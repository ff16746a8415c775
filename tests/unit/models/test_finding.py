"""Finding a model: local, hub, fetched copy, and one clear error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.models import finding
from lit_unlearn.models.finding import Found, find_model, fingerprint, place_of
from lit_unlearn.models.loading import ModelSource, load_base, load_tokenizer
from lit_unlearn.models.tiny import TINY_NAME

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture(autouse=True)
def _forget_answers() -> Iterator[None]:
    find_model.cache_clear()
    yield
    find_model.cache_clear()


def test_local_folder_and_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"GGUF files; give the file itself, .*m\.gguf"):
        find_model(str(tmp_path))
    assert find_model(str(tmp_path / "m.gguf")) == Found(str(tmp_path), {"gguf_file": "m.gguf"})
    assert place_of(str(tmp_path / "m.gguf")) == tmp_path / "m.gguf"  # others may lie beside it
    assert find_model(TINY_NAME) == Found(TINY_NAME)


def test_hub_when_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "hub_answers", lambda: True)
    assert find_model(HUB_ID, "main") == Found(HUB_ID, {"revision": "main"})


def test_fetched_copy_when_the_hub_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is used, and one line says so, however often the model is asked for."""
    monkeypatch.setattr(finding, "hub_answers", lambda: False)
    monkeypatch.setattr(finding, "fetched_copy", lambda hub_id: tmp_path)
    with caplog.at_level(logging.WARNING):
        assert find_model(HUB_ID) == Found(str(tmp_path))
        find_model(HUB_ID)
    assert [r.message for r in caplog.records] == [
        f"The hub cannot be reached; using the fetched copy of {HUB_ID} in {tmp_path}."
    ]


def test_a_file_of_a_model_is_not_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    with pytest.raises(InputError, match="Found another file; give the folder"):
        find_model(str(file))


def test_errors_name_the_repair(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(finding, "hub_answers", lambda: False)
    monkeypatch.setattr(finding, "fetched_copy", lambda hub_id: None)
    with pytest.raises(InputError, match="lit-unlearn fetch smollm2-135m-instruct"):
        find_model(HUB_ID)
    with pytest.raises(InputError, match=r"--model.student.path FOLDER"):
        find_model("owner/other")
    with pytest.raises(InputError, match="do that run first"):
        find_model("runs/target/model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="should name a folder with a causal language model"):
        load_base(ModelSource(str(tmp_path / "empty")))
    with pytest.raises(InputError, match="should name a folder"):
        load_tokenizer(ModelSource(str(tmp_path / "empty")))


def test_fingerprint_of_a_gguf_file_is_that_file(tmp_path: Path) -> None:
    """Another file beside it does not count, its own content does, wherever it lies."""
    (tmp_path / "a").mkdir()
    for path, content in (("m[1].gguf", b"GGUF"), ("a/m[1].gguf", b"GGUF"), ("n.gguf", b"GGUG")):
        (tmp_path / path).write_bytes(content)
    (tmp_path / "config.json").write_text("{}")
    first = fingerprint(str(tmp_path / "m[1].gguf"))
    assert fingerprint(str(tmp_path / "a" / "m[1].gguf")) == first
    (tmp_path / "m[1].gguf").write_bytes(b"GGUF2")
    assert fingerprint(str(tmp_path / "m[1].gguf")) != first


def test_fingerprint_of_a_hub_id_is_the_commit_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A branch that has moved on gives another fingerprint once the new commit is there."""
    monkeypatch.setattr(finding, "hub_answers", lambda: True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cache = tmp_path / "models--owner--other"
    before = fingerprint("owner/other")
    found = []
    for commit in ("a" * 40, "b" * 40):
        (cache / "snapshots" / commit).mkdir(parents=True)
        (cache / "snapshots" / commit / "config.json").write_text("{}")
        (cache / "refs").mkdir(exist_ok=True)
        (cache / "refs" / "main").write_text(commit)
        found.append(fingerprint("owner/other"))
    assert len({before, *found}) == 3
