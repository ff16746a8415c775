"""Ctrl-C and SIGTERM: a checkpoint, a sensible status, and the same command goes on."""

from __future__ import annotations

import fcntl
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from lightning.pytorch.utilities import rank_zero_only

from lit_unlearn.__main__ import main
from lit_unlearn.callbacks.saved import UNFINISHED, find_saved, read_saved
from tests.benchmark_scripts import benchmark
from tests.faults.runs import jobs, kick, small
from tests.processes import FORKED, forked, in_processes

run_process = benchmark("fault_process").Process
KEYS = ("weights", "gradients", "curves")


@pytest.fixture(autouse=True)
def _interrupts() -> Iterator[None]:
    """Ctrl-C raises, also where a shell started the tests in the background and had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("unbroken")
    assert main(small(folder)) == 0
    return dict(jobs.trained(folder))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on(
    tmp_path: Path,
    unbroken: dict[str, object],
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(small(tmp_path, kick(3, number)))
    assert stop.value.code == 128 + number
    assert "will save and stop after this step" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    (saved,) = (tmp_path / "run" / UNFINISHED).glob("step_*")
    assert saved.name == "step_3"
    assert main(small(tmp_path)) == 0
    assert "Resuming after step 3 of 6" in capfd.readouterr().err
    found = jobs.trained(tmp_path)
    assert [found[key] for key in KEYS] == [unbroken[key] for key in KEYS]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_at_once(tmp_path: Path, number: signal.Signals, status: int) -> None:
    assert forked(lambda: main(small(tmp_path, kick(2, number, times=2)))) == status
    assert find_saved(tmp_path / "run") is None


@FORKED
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
@pytest.mark.slow
def test_two_processes_go_on_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them gets the signal; both draw the dropout masks that they would have drawn."""

    def run(name: str, *callbacks: object) -> list[int]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        monkeypatch.setenv("LIT_UNLEARN_CACHE", str(folder / "cache"))
        arguments = small(folder, *callbacks, devices=2, strategy="fsdp2")

        def one_of_two() -> int:
            rank_zero_only.rank = int(os.environ["RANK"])  # as it is set when Lightning is imported
            try:
                return main(arguments)
            except SystemExit as stop:
                return int(stop.code or 0)

        found: list[int] = in_processes(2, one_of_two, folder / "status", start=False)
        return found

    assert run("unbroken") == [0, 0]
    assert run("stopped", kick(3)) == [143, 143]
    assert run("stopped") == [0, 0]
    unbroken, stopped = (jobs.trained(tmp_path / name) for name in ("unbroken", "stopped"))
    assert [stopped[key] for key in KEYS] == [unbroken[key] for key in KEYS]


@pytest.mark.slow
def test_other_settings_begin_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(small(tmp_path, kick(2)))
    assert main([*small(tmp_path), "--seed_everything=1"]) == 0
    assert "of a run with other settings, which this one replaces" in caplog.text


def test_one_run_at_a_time_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The other run is a process that holds the lock; the lock of a dead one holds nobody up."""
    root = tmp_path / "run"
    root.mkdir()
    ready, told = os.pipe()
    other = os.fork()
    if other == 0:
        file = (root / ".lock").open("w")
        fcntl.flock(file, fcntl.LOCK_EX)
        os.write(told, b".")
        signal.pause()
    os.read(ready, 1)
    assert main(small(tmp_path)) == 2
    assert "should be used by one run at a time. Found another process" in capsys.readouterr().err
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    assert main(small(tmp_path, max_steps=1)) == 0


@pytest.mark.slow
def test_two_runs_share_a_cache(tmp_path: Path, unbroken: dict[str, object]) -> None:
    """One waits for the other, and finds its rows."""
    folders = [tmp_path / "a", tmp_path / "b"]
    processes = []
    for folder in folders:
        folder.mkdir()
        process = run_process(small(folder), folder, cache=tmp_path / "cache")
        processes.append(process)
    assert [process.wait() for process in processes] == [0, 0]
    said = " ".join((folder / "output.log").read_text("utf-8") for folder in folders)
    assert sorted(re.findall(r"8 rows, of which (\d) new", said)) == ["0", "8"]
    for folder in folders:
        assert jobs.trained(folder)["weights"] == unbroken["weights"]


def test_checkpoints_at_the_times_asked_for(tmp_path: Path) -> None:
    """Every second step, and before the last one; two are kept. A stopped clock changes nothing."""
    often = {"class_path": "Resumable", "init_args": {"every_n_steps": 2, "keep": 2}}
    arguments = small(tmp_path, often, kick(5, signal.SIGKILL))
    assert forked(lambda: main(arguments)) == -signal.SIGKILL
    folder = tmp_path / "run" / UNFINISHED
    assert sorted(step.name for step in folder.iterdir()) == ["step_2", "step_4"]
    newest = read_saved(folder / "step_4")
    assert newest is not None
    state = newest.state.read_bytes()
    newest.state.write_bytes(state[:-1] + bytes([state[-1] ^ 1]))
    assert read_saved(folder / "step_4") is None
    older = find_saved(tmp_path / "run", newest.settings)
    assert older is not None
    assert older.step == 2
