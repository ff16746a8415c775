"""Processes of a test: forked, so that nothing is imported again."""

from __future__ import annotations

import faulthandler
import os
import pickle
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lit_unlearn.__main__ import main

FORKED = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
_RUN = subprocess.run
PATIENCE = 240.0
"""Seconds after which processes that wait for each other are ended, with their tracebacks."""


def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _work(
    rank: int, world: int, port: int, work: Callable[[], Any], folder: Path, start: bool
) -> None:
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    torch.set_num_threads(1)
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    # those of torchrun, by which Lightning sees that the processes are there already
    variables |= {"GROUP_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in variables.items()})
    os.environ["TORCHELASTIC_RUN_ID"] = "test"
    if start:
        dist.init_process_group("gloo")
    try:
        (folder / f"{rank}.pickle").write_bytes(pickle.dumps(work()))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def in_processes(
    world: int, work: Callable[[], Any], folder: Path, *, start: bool = True
) -> list[Any]:
    """What a function returns in each of several processes, by rank.

    Args:
        world: How many.
        work: Called in each.
        folder: For what it returns.
        start: Start the process group; a trainer does so by itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arguments = (world, free_port(), work, folder, start)
    mp.start_processes(_work, args=arguments, nprocs=world, start_method="fork")
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(world)]


def forked(work: Callable[[], int]) -> int:
    """Do it in a process of its own, whose limits and user it may change; its status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = work()
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def command(words: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run `python -m lit_unlearn ...` in a fork; stands in for `subprocess.run`."""
    if list(words[1:3]) != ["-m", "lit_unlearn"]:
        return _RUN(words, **options)  # as `platform` asks for the processor
    with TemporaryFile("w+") as output, TemporaryFile("w+") as errors:

        def work() -> int:
            sys.stdout, sys.stderr, sys.path = output, errors, ["", *sys.path]
            try:
                return main(list(words[3:]))
            finally:
                output.flush()
                errors.flush()

        status = forked(work)
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(words, status, output.read(), errors.read())
