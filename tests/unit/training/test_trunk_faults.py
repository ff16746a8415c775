"""The trunk cache as files: killed builds, full disks, other processes; and what else reads it."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.testing import assert_close

from lit_unlearn.data.collation import tokens
from lit_unlearn.errors import InputError
from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.dtypes import DType
from lit_unlearn.models.forward import answer_logits
from lit_unlearn.models.loading import LoRA, ModelSource, load_student
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.teachers import AdapterOffTeacher, FrozenTeacher, Teacher
from lit_unlearn.training import trunk_cache as trunk_module
from lit_unlearn.training.trunk_cache import TrunkCache, trunk_cache
from tests.processes import FORKED, in_processes
from tests.unit.models.test_packing import FAMILIES, made

pytestmark = pytest.mark.usefixtures("own_cache")

SOURCE = ModelSource(TINY_NAME, trainable=["layers[.]1[.]", "model[.]norm"])
ROWS = tokens([[1, 5, 6, i, 7] for i in range(5)], [3] * 5, [2] * 5, pad_id=0)
"""Five rows of which four tokens are read."""
OTHER = tokens([[9, 8, 7]], [2], [1], pad_id=0)
QUIET = Console(quiet=True)


def build(student: nn.Module | None = None, source: ModelSource = SOURCE) -> TrunkCache:
    found = trunk_cache(student or load_student(source), source, True, [ROWS], QUIET)
    assert found is not None
    return found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each pass of the trunk; every row is a pass and a shard."""
    monkeypatch.setattr(trunk_module, "_BATCH_TOKENS", 1)
    monkeypatch.setattr(trunk_module, "_SHARD_TOKENS", 1)
    found: list[int] = []
    outputs = trunk_module.trunk_outputs

    def spy(model: nn.Module, height: int, batch: Any) -> list[Tensor]:
        found.append(int(batch.attention_mask.sum()))
        if len(found) == 3:
            raise KeyboardInterrupt
        return outputs(model, height, batch)

    monkeypatch.setattr(trunk_module, "trunk_outputs", spy)
    return found


def test_a_killed_build_goes_on_at_the_next_shard(small: list[int]) -> None:
    """Five rows, a shard each; killed at the third. What is half-written is removed."""
    with pytest.raises(KeyboardInterrupt):
        build()
    (folder,) = (path.parent for path in _root().rglob("index.json"))
    (folder / "00002.safetensors").write_bytes(b"half")
    (folder / "00003.safetensors.part").write_bytes(b"half")
    cache = build()
    assert len(small) == 3 + 3
    assert not list(folder.glob("*.part"))
    cache.shards.verify()
    student = load_student(SOURCE)
    assert_close(answer_logits(student, ROWS, trunk=cache), answer_logits(student, ROWS))


def _root() -> Path:
    return trunk_module.user_cache() / "trunk"


def test_a_disk_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 tokens of 32 float32 each: 2560 bytes, and 5 % for the rest."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2687))
    with pytest.raises(InputError, match=r"2\.7 kB free\. Found 2\.7 kB.*LIT_UNLEARN_CACHE"):
        build()
    assert not list(_root().rglob("*.safetensors*"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2688))
    build()


def test_only_one_process_writes() -> None:
    """While one is inside, another's attempt would block; afterwards it would not."""
    shards = build().shards
    with (shards.folder / ".lock").open("w") as other:
        with shards.locked(), pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@FORKED
def test_processes_share_the_reading(tmp_path: Path, small: list[int]) -> None:
    """Each of two runs the trunk for less than all rows; both get the states of one process."""

    def found() -> tuple[int, list[Tensor]]:
        torch.set_num_threads(1)
        small[:] = [0] * 5  # none is killed here
        states = build().states([[1, 5, 6, i] for i in range(5)])
        return len(small) - 5, states or []

    (one, ours), (other, theirs) = in_processes(2, found, tmp_path / "out")
    assert one + other == 5
    assert min(one, other) >= 2
    alone = trunk_module.trunk_outputs(load_student(SOURCE), 1, ROWS)
    for states in (ours, theirs):
        for mine, wanted in zip(states, alone, strict=True):
            assert_close(mine, wanted)


# ------------------------------------------------------------------------ architectures, adapters


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_on_every_architecture(family: str) -> None:
    student = made(family).train()
    for parameter in student.parameters():
        parameter.requires_grad_(False)
    upper = [*decoder_blocks(student)[1].parameters()]
    for parameter in upper:
        parameter.requires_grad_(True)
    cache = build(student)
    found = []
    for trunk in (None, cache):
        loss = answer_logits(student, ROWS, trunk=trunk).log_softmax(-1)[:, 3].mean()
        gradients = torch.autograd.grad(loss, upper, allow_unused=True)
        found.append((loss, torch.cat([g.flatten() for g in gradients if g is not None])))
    assert_close(found[1][0], found[0][0], rtol=1e-5, atol=1e-6)
    assert (found[1][1] - found[0][1]).norm() <= 1e-5 * found[0][1].norm()


# ------------------------------------------------------------------------------ the teacher's rows


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
@pytest.mark.parametrize(
    ("teacher", "dtype", "whole"),
    [
        (FrozenTeacher(cache=True), "float32", 2),
        (FrozenTeacher(cache=True), "bfloat16", 5 * 4 + 2),
        (AdapterOffTeacher(cache=True), "float32", 2),
    ],
    ids=["frozen", "other dtype", "adapter off"],
)
def test_a_teacher_with_this_trunk_starts_above_it(
    teacher: Teacher, dtype: DType, whole: int
) -> None:
    """The first block runs for the two tokens of the row that is not stored alone."""
    adapters = isinstance(teacher, AdapterOffTeacher)
    lora = LoRA(rank=2, target_modules=r".*layers\.1\..*(q|v)_proj") if adapters else None
    source = ModelSource(TINY_NAME, lora=lora) if adapters else SOURCE
    student = load_student(source)
    cache = build(student, source)
    if dtype == "bfloat16":
        teacher = FrozenTeacher(dtype, cache=True)
    teacher.attach(student, source)
    wanted = teacher.logits(ROWS), teacher.logits(OTHER)
    rows: list[int] = []
    first: Any = decoder_blocks(teacher.model())[0].get_submodule("mlp")
    first.register_forward_hook(lambda _, given, __: rows.append(given[0].shape[1]))
    teacher.foresee([ROWS, OTHER], cache)
    assert rows[2:] == [whole]  # the first two check the model itself, and its head's input
    limit = 1e-5 if dtype == "float32" else 0.1
    for asked, logits in zip((ROWS, OTHER), wanted, strict=True):
        assert_close(teacher.logits(asked), logits, rtol=limit, atol=limit)
