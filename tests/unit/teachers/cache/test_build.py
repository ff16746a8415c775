"""The teacher cache: what is read back, what is read again, and what is refused."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_unlearn.data.collation import tokens
from lit_unlearn.errors import InputError
from lit_unlearn.models.forward import FrozenReader, StoredTrunk, evaluating
from lit_unlearn.models.tiny import tiny_model as make_tiny_model
from lit_unlearn.teachers.cache import build as build_module
from lit_unlearn.teachers.cache.build import fill
from lit_unlearn.teachers.cache.filling import cache_folder
from lit_unlearn.teachers.cache.head import CachedReader, head_inputs
from lit_unlearn.teachers.cache.rows import collect
from lit_unlearn.types import Tokens

QUIET = Console(quiet=True)
SHORT = tokens([[1, 5, 6, 7], [9, 8, 7]], [2, 2], [2, 1], pad_id=0)
LONG = tokens([[3] * 20 + [4, 5, 6]], [20], [3], pad_id=0)


class Speaker:
    """A teacher of the plainest kind."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.logits = FrozenReader(model).logits

    def model(self) -> nn.Module:
        return self._model

    def speaking(self) -> Any:
        return evaluating(self._model)


def build(model: nn.Module, folder: Path, *requests: Tokens) -> CachedReader:
    return fill(Speaker(model), requests, folder, QUIET)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every forward pass for the cache; the first checks that all agrees."""
    found = []

    def spy(teacher: Speaker, asked: Tokens, trunk: StoredTrunk | None = None) -> Tensor:
        found.append(len(asked.input_ids))
        return head_inputs(teacher, asked, trunk)

    monkeypatch.setattr(build_module, "head_inputs", spy)
    return found


# ------------------------------------------------------------------------------------- reading


def test_logits_as_of_the_model(tiny_model: PreTrainedModel, tmp_path: Path) -> None:
    reader = build(tiny_model, tmp_path, SHORT, LONG)
    for asked in (SHORT, LONG):
        found = reader.logits(asked)
        torch.testing.assert_close(found, FrozenReader(tiny_model).logits(asked))
        assert not found.requires_grad


def test_bfloat16_is_kept_as_it_is(tiny_model: PreTrainedModel, tmp_path: Path) -> None:
    """The first of two rows that share nothing: read alone, its logits come back bit by bit."""
    model = tiny_model.to(torch.bfloat16)
    asked = tokens([[1, 5, 6, 7]], [1], [1], pad_id=0)
    reader = build(model, tmp_path, asked)
    assert torch.equal(reader.logits(asked), FrozenReader(model).logits(asked))
    assert reader.shards.read(next(iter(collect([asked])))).dtype == torch.bfloat16


def test_common_beginnings_are_read_once(
    tiny_model: PreTrainedModel, tmp_path: Path, passes: list[int]
) -> None:
    """Three rows behind a context of 70 tokens, two of which share one more: 70 + 1 + 2 + 2."""
    context = [3 + i % 5 for i in range(70)]
    rows = [[*context, 9], [*context, 9, 10, 11], [*context, 8, 7]]
    asked = tokens(rows, [70, 71, 70], [1, 2, 2], pad_id=0)
    read: list[int] = []
    embedding = tiny_model.get_input_embeddings()
    embedding.register_forward_hook(lambda _, given, __: read.append(given[0].numel()))
    reader = build(tiny_model, tmp_path, asked)
    assert passes[1:] == [3]
    assert read[-1] <= 70 + 1 + 3 + 2  # one token is too few to be shared
    torch.testing.assert_close(reader.logits(asked), FrozenReader(tiny_model).logits(asked))


def test_order_padding_and_choice_of_positions_change_nothing(
    tiny_model: PreTrainedModel, tmp_path: Path
) -> None:
    """Rows 1 and 0, five more pad tokens, only the second position of row 0."""
    reader = build(tiny_model, tmp_path, SHORT)
    whole = reader.logits(SHORT)
    other = tokens([[9, 8, 7], [1, 5, 6, 7], [2] * 9], [2, 2, 2], [1, 2, 0], pad_id=77)
    torch.testing.assert_close(reader.logits(other), whole[[2, 0, 1]])
    chosen = other.select_predictions(torch.tensor([False, False, True]))
    torch.testing.assert_close(reader.logits(chosen), whole[[1]])


@pytest.mark.parametrize(
    "asked",
    [
        tokens([[1, 5, 6, 8]], [2], [1], pad_id=0),  # another last token
        tokens([[1, 5, 6, 7, 0]], [2], [1], pad_id=0),  # longer by a token that could be padding
        tokens([[1, 5, 6, 7]], [1], [1], pad_id=0),  # a position before the answer
        tokens([[1, 5, 6, 7]], [4], [1], pad_id=0),  # a position after it
    ],
    ids=["ids", "length", "before", "after"],
)
def test_a_miss_is_an_error(tiny_model: PreTrainedModel, tmp_path: Path, asked: Tokens) -> None:
    reader = build(tiny_model, tmp_path, SHORT)
    with pytest.raises(InputError, match=r"returned when training started.*is not stored. Set"):
        reader.logits(asked)


# ---------------------------------------------------------------------------------- the folder


def test_only_new_rows_are_read(
    tiny_model: PreTrainedModel, tmp_path: Path, passes: list[int]
) -> None:
    """Two rows, asked for twice; then these and one more."""
    build(tiny_model, tmp_path, SHORT, SHORT)
    assert sum(passes[1:]) == 2
    passes.clear()
    reader = build(tiny_model, tmp_path, SHORT, LONG)
    assert sum(passes[1:]) == 1
    torch.testing.assert_close(reader.logits(LONG), FrozenReader(tiny_model).logits(LONG))


def test_more_positions_of_a_known_row(tiny_model: PreTrainedModel, tmp_path: Path) -> None:
    early, late = (tokens([[1, 5, 6, 7]], [start], [1], pad_id=0) for start in (2, 3))
    build(tiny_model, tmp_path, early)
    build(tiny_model, tmp_path, late)
    reader = build(tiny_model, tmp_path, early)
    for asked in (early, late):
        torch.testing.assert_close(reader.logits(asked), FrozenReader(tiny_model).logits(asked))


def test_a_killed_build_goes_on_at_the_next_shard(
    tiny_model: PreTrainedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    passes: list[int],
) -> None:
    """Five rows, a shard each; killed at the third (one pass is a check): two are kept. What a
    killed process left half-written is neither read nor kept.
    """
    monkeypatch.setattr(build_module, "_BATCH_TOKENS", 1)
    monkeypatch.setattr(build_module, "_SHARD_TOKENS", 1)
    asked = tokens([[1, 5, 6, i] for i in range(5)], [2] * 5, [2] * 5, pad_id=0)
    spy = build_module.head_inputs

    def killed(*arguments: Any, **options: Any) -> Tensor:
        if len(passes) == 3:
            raise KeyboardInterrupt
        return spy(*arguments, **options)

    monkeypatch.setattr(build_module, "head_inputs", killed)
    with pytest.raises(KeyboardInterrupt):
        build(tiny_model, tmp_path, asked)
    (tmp_path / "00002.safetensors").write_bytes(b"half")
    (tmp_path / "00003.safetensors.part").write_bytes(b"half")
    monkeypatch.setattr(build_module, "head_inputs", spy)
    passes.clear()
    reader = build(tiny_model, tmp_path, asked)
    assert len(passes) == 1 + 3
    torch.testing.assert_close(reader.logits(asked), FrozenReader(tiny_model).logits(asked))
    assert not list(tmp_path.glob("*.part"))
    reader.shards.verify()


def test_a_damaged_shard_is_refused(tiny_model: PreTrainedModel, tmp_path: Path) -> None:
    reader = build(tiny_model, tmp_path, SHORT)
    shard = tmp_path / "00000.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    for look in (reader.shards.verify, lambda: build(tiny_model, tmp_path, SHORT)):
        with pytest.raises(InputError, match=r"00000.safetensors should match its check.*Delete"):
            look()


@pytest.mark.parametrize("text", ["{", "[]", '{"shards": {"00000.safetensors": "0"}}'])
def test_a_damaged_index_is_refused(tiny_model: PreTrainedModel, tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(InputError, match="damaged or missing"):
        build(tiny_model, tmp_path, SHORT)


def test_another_models_folder_is_refused(tiny_model: PreTrainedModel, tmp_path: Path) -> None:
    build(tiny_model, tmp_path, SHORT)
    with pytest.raises(InputError, match="hidden states of another model"):
        build(make_tiny_model(seed=1), tmp_path, SHORT)


def test_a_disk_that_is_too_small(
    tiny_model: PreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three answer tokens of 32 float32 each: 384 bytes, and 5 % for the rest."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=402))
    with pytest.raises(InputError, match=r"403 bytes free\. Found 402 bytes"):
        build(tiny_model, tmp_path, SHORT)
    assert not list(tmp_path.glob("*.safetensors*"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=403))
    build(tiny_model, tmp_path, SHORT)


def test_a_folder_that_cannot_be_made(tiny_model: PreTrainedModel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot create the folder .*LIT_UNLEARN_CACHE"):
        build(tiny_model, tmp_path / "file" / "cache", SHORT)


def test_only_one_process_writes(tiny_model: PreTrainedModel, tmp_path: Path) -> None:
    """While one is inside, another's attempt would block; afterwards it would not."""
    store = build(tiny_model, tmp_path, SHORT).shards
    with (tmp_path / ".lock").open("w") as other:
        with store.locked(), pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_another_process_added_is_taken_up(
    tiny_model: PreTrainedModel, tmp_path: Path
) -> None:
    mine = build(tiny_model, tmp_path, SHORT)
    build(tiny_model, tmp_path, LONG)
    mine.shards.refresh()
    torch.testing.assert_close(mine.logits(LONG), FrozenReader(tiny_model).logits(LONG))
    assert len(json.loads((tmp_path / "index.json").read_text())["shards"]) == 2


def test_folder_depends_on_all_that_matters(tmp_path: Path) -> None:
    plain = cache_folder(tmp_path, ("model", torch.float32))
    assert plain.parent == tmp_path
    assert cache_folder(tmp_path, ("model", torch.float32)) == plain
    others = [cache_folder(tmp_path, ("other", torch.float32))]
    others += [cache_folder(tmp_path, ("model", torch.bfloat16))]
    with torch.autocast("cpu", torch.bfloat16):
        others += [cache_folder(tmp_path, ("model", torch.float32))]
    assert len({plain, *others}) == 4
