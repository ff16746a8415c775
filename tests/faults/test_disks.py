"""Disks that are full, folders that may not be written to, files that are damaged."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_unlearn.__main__ import main
from lit_unlearn.callbacks.huggingface_export import save_folder
from lit_unlearn.callbacks.saved import (
    UNFINISHED,
    check_checkpoint,
    find_saved,
    read_saved,
    remove,
    seal,
)
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.outcome_store import FILE_NAME
from lit_unlearn.models.loading import ModelSource, load_base
from lit_unlearn.models.tiny import tiny_model, tiny_tokenizer
from lit_unlearn.utils.atomic import whole_folder, write_text
from tests.faults.owned_runs import SimulatedKill
from tests.faults.runs import jobs, kick, small, without_override
from tests.processes import forked

OFTEN = {"class_path": "Resumable", "init_args": {"every_n_steps": 2}}


def limited(size: int, work: Callable[[], int]) -> int:
    """In a process whose files may have so many bytes: what a full disk is like."""

    def run() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        logging.getLogger("lit_unlearn").addHandler(logging.StreamHandler(sys.stderr))
        return work()

    return forked(run)


def test_a_full_disk(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Training goes on without checkpoints; the export says what is wrong; then all is well.

    Checkpoints of the tiny model have 360 kB, the model 120 kB.
    """
    arguments = [*small(tmp_path, OFTEN), "--model.student.lora=null"]
    assert limited(100_000, lambda: main(arguments)) == 2
    said = capfd.readouterr().err
    assert "no checkpoint after step 2: File too large; make room" in said
    assert f"{tmp_path / 'run' / 'model'}: cannot be written: File too large" in said
    assert not (tmp_path / "run" / "model").exists()
    assert not list((tmp_path / "run").glob(".model*"))
    assert find_saved(tmp_path / "run") is None
    assert limited(250_000, lambda: main(arguments)) == 0


@pytest.mark.slow
def test_a_full_disk_while_the_cache_is_built(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIT_UNLEARN_CACHE", str(tmp_path / "cache"))
    arguments = small(tmp_path, logger=False)
    assert limited(20_000, lambda: main(arguments)) == 2
    assert "00000.safetensors: cannot be written: File" in capfd.readouterr().err
    assert main(arguments) == 0


def test_a_full_disk_while_outcomes_are_stored(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What was stored before is whole, and is not asked again."""
    arguments = jobs.evaluating(tmp_path)
    assert limited(2_000, lambda: main(arguments)) == 2
    assert f"{FILE_NAME}: cannot be written: File too large" in capfd.readouterr().err
    assert main(arguments) == 0


@pytest.mark.parametrize("kind", ["f32", "q4_0"])
def test_a_full_disk_while_a_gguf_file_is_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    """numpy's `tofile` names no cause, and says nothing at all of its last bytes."""
    file = tmp_path / "tiny.gguf"
    arguments = ["export", "random-tiny", str(file), f"--kind={kind}"]
    assert limited(20_000, lambda: main(arguments)) == 2
    assert f"{file}: cannot be written: File too large; make room" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_a_folder_that_may_not_be_written_to(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    arguments = small(tmp_path) if command == "fit" else jobs.evaluating(tmp_path)
    tmp_path.chmod(0o555)

    def run() -> int:
        without_override()
        return main(arguments)

    assert forked(run) == 2
    said = capfd.readouterr().err
    assert "cannot be written: Permission denied; take a folder that can be" in said


def test_temporary_files_of_the_dead_are_removed(tmp_path: Path) -> None:
    """Those of a process that lives are not: it has them locked."""
    target = tmp_path / "model"

    def die() -> int:
        with whole_folder(target) as folder:
            folder.joinpath("half").write_text("1", "utf-8")
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert forked(die) == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    with whole_folder(target) as living:
        assert not left.exists()
        with whole_folder(target) as other:
            other.joinpath("whole").write_text("2", "utf-8")
        assert living.exists()
        assert (target / "whole").exists()
    tmp_path.joinpath(".model.mine").write_text("not ours", "utf-8")
    write_text(target / "new", "3")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".model.mine", "model"]


# ------------------------------------------------------------------------------------------ damage


def test_flipped_bits_of_a_checkpoint_are_found(tmp_path: Path) -> None:
    part = tmp_path / UNFINISHED / ".part"
    part.mkdir(parents=True)
    part.joinpath("state.ckpt").write_bytes(b"weights")
    saved = seal(part, 3, "settings", 0)
    assert find_saved(tmp_path, "settings") == saved
    for file in saved.folder.iterdir():
        whole = file.read_bytes()
        for bit in range(0, 8 * len(whole), 7):  # every bit of a byte, over the bytes
            changed = bytearray(whole)
            changed[bit // 8] ^= 1 << bit % 8
            file.write_bytes(changed)
            assert read_saved(saved.folder) is None, (file, bit)
        for length in range(0, len(whole), 5):
            file.write_bytes(whole[:length])
            assert read_saved(saved.folder) is None
        file.write_bytes(whole)
    saved.state.write_bytes(b"Weights")
    with pytest.raises(InputError, match="Found it damaged; delete the folder"):
        find_saved(tmp_path, "settings")


def test_a_kill_while_a_checkpoint_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of it is no damaged checkpoint, which would stop the command."""
    for step in (3, 4):
        part = tmp_path / UNFINISHED / f".part_{step}"
        part.mkdir(parents=True)
        part.joinpath("state.ckpt").write_bytes(b"weights")
        seal(part, step, "settings", 0)
    for step, newest in ((3, 4), (4, None)):
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", _killed)
            with pytest.raises(SimulatedKill):
                remove(tmp_path / UNFINISHED / f"step_{step}")
        found = find_saved(tmp_path, "settings")
        assert (found and found.step) == newest


def _killed(*_: object, **options: object) -> None:
    raise SimulatedKill


def test_a_damaged_checkpoint_stops_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(small(tmp_path, kick(2)))
    state = tmp_path / "run" / UNFINISHED / "step_2" / "state.ckpt"
    whole = state.read_bytes()
    state.write_bytes(whole[:5000] + bytes([whole[5000] ^ 4]) + whole[5001:])
    assert main(small(tmp_path)) == 2
    assert "Found it damaged; delete the folder" in capsys.readouterr().err
    state.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="Found a damaged file"):
        check_checkpoint(state)
    state.write_bytes(whole)
    check_checkpoint(state)
    shutil.rmtree(tmp_path / "run" / UNFINISHED)
    assert main(small(tmp_path)) == 0


@pytest.mark.parametrize("harm", ["cut off", "a weight left out", "gone"])
def test_damaged_models(tmp_path: Path, harm: str) -> None:
    from safetensors.torch import load_file, save_file

    save_folder(tiny_model(), tiny_tokenizer(), tmp_path)
    weights = tmp_path / "model.safetensors"
    if harm == "cut off":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif harm == "gone":
        weights.unlink()
    else:
        kept = load_file(weights)
        kept.pop("model.layers.1.mlp.up_proj.weight")
        save_file(kept, weights, {"format": "pt"})
    with pytest.raises(InputError, match=r"`model\.student\.path`"):
        load_base(ModelSource(str(tmp_path)))


@pytest.mark.slow
def test_a_flipped_bit_in_stored_outcomes_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = jobs.evaluating(tmp_path)
    assert main(arguments) == 0
    (store,) = tmp_path.rglob(FILE_NAME)
    lines = store.read_bytes().split(b"\n")
    place = lines[0].index(b'"replies": ["') + 13
    lines[0] = lines[0][:place] + b"#" + lines[0][place + 1 :]
    store.write_bytes(b"\n".join(lines))
    capsys.readouterr()
    assert main(arguments) == 2
    assert "Found a damaged line that begins" in capsys.readouterr().err
