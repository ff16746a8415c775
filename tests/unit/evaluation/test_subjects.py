"""Loading a subject: what it can hold, its identity, and clear errors."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.subjects import (
    Loading,
    load_subject,
    subject_of,
    weights_fingerprint,
)
from lit_unlearn.models.finding import find_model


@pytest.fixture
def folder(
    tmp_path: Path, tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> Path:
    find_model.cache_clear()
    tiny_model.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder(folder: Path) -> None:
    subject = load_subject(str(folder), Loading(dtype="bfloat16", device="cpu"))
    assert subject.name == str(folder)
    assert next(subject.model.parameters()).dtype == torch.bfloat16
    assert not subject.model.training
    assert subject.encoder.max_length == 8192  # what the model was made for
    assert load_subject(str(folder), Loading(max_length=7)).encoder.max_length == 7


def test_the_fingerprint_is_that_of_the_content(folder: Path) -> None:
    """A copy has the same, at another time and beside other files; another number format does not.

    One changed byte of the weights, with size and time of change kept, is seen in another place.
    """
    first = load_subject(str(folder)).fingerprint
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    (copy / "README.md").write_text("notes")
    (copy / "summary.json").write_text("{}")
    assert load_subject(str(copy)).fingerprint == first
    assert load_subject(str(folder), Loading(dtype="bfloat16")).fingerprint != first
    weights = copy / "model.safetensors"
    time = weights.stat().st_mtime_ns
    content = bytearray(weights.read_bytes())
    content[-2] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(time + 1, time + 1))
    assert load_subject(str(copy)).fingerprint != first


def test_the_hidden_token_is_the_pad_token_or_the_end_of_text(folder: Path) -> None:
    """And what was stored without it is not used with it."""
    usual, hidden = load_subject(str(folder)), load_subject(str(folder), Loading(hide_pad=True))
    assert (usual.hidden_id, hidden.hidden_id) == (None, hidden.tokenizer.eos_token_id)
    assert usual.fingerprint != hidden.fingerprint
    hidden.tokenizer.pad_token = "<|endoftext|>"
    hidden.tokenizer.save_pretrained(folder)
    again = load_subject(str(folder), Loading(hide_pad=True))
    assert again.hidden_id == again.tokenizer.pad_token_id != again.tokenizer.eos_token_id


def test_the_random_model() -> None:
    assert load_subject("random-tiny").fingerprint == load_subject("random-tiny").fingerprint


def test_a_loaded_model_is_known_by_its_weights(
    tiny_model: PreTrainedModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    subject = subject_of(tiny_model, tiny_tokenizer, "mine", Loading(max_length=9))
    assert (subject.name, subject.encoder.max_length) == ("mine", 9)
    first = weights_fingerprint(tiny_model)
    assert subject.fingerprint == first
    with torch.no_grad():
        tiny_model.model.norm.weight[3] += 1e-6
    assert weights_fingerprint(tiny_model) != first
    assert weights_fingerprint(tiny_model.bfloat16()) != first


@pytest.mark.parametrize(
    ("path", "loading", "message"),
    [
        ("no/such/folder", {}, r"Parameter `model` = 'no/such/folder' should be a folder"),
        ("random-tiny", {"device": "cuda:99"}, "`device` should be a device of this machine"),
        ("random-tiny", {"device": "abacus"}, "`device` .* Found 'abacus'"),
        ("random-tiny", {"max_length": 0}, "`max_length` should be at least 1. Found 0"),
    ],
)
def test_errors(path: str, loading: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_subject(path, Loading(**loading))  # type: ignore[arg-type]
