"""Kills runs at random points, repeats their commands, and compares with runs that were left alone.

    OMP_NUM_THREADS=1 python benchmarks/kill_runs.py --kills 50 --seed 0

A run is a process that gets SIGKILL: half of the times when it has computed for a random time, half
of them a few milliseconds after a random one of its accesses to files. After each kill nothing on
the disk may be half and look whole; then the same command is given again. When a run has ended, its
weights, its curves and its tables must equal, bit by bit, those of the unbroken run. Four commands
are killed: a training with a teacher cache, checkpoints, evaluations in between and an export; an
evaluation; a rewriting; a task vector. The model is the random tiny one. It runs on Linux, without
a GPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes that are forked have one thread
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import yaml
from safetensors.torch import load_file

import lit_unlearn
from lit_unlearn import __main__
from lit_unlearn.callbacks.huggingface_export import save_folder
from lit_unlearn.callbacks.saved import UNFINISHED, read_saved
from lit_unlearn.models.loading import ModelSource, load_base, load_tokenizer
from lit_unlearn.utils.atomic import whole_folder

STEPS = 6
_BUFFER = 4096
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_EVENTS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}


@dataclass(frozen=True)
class Job:
    """A command, and what must come out of it."""

    name: str
    arguments: Callable[[Path], list[str]]
    """Made from the folder in which everything is written."""
    outcome: Callable[[Path], dict[str, Any]]
    """What must be the same, from that folder."""
    ended: str = "-"
    """What it says where it was killed after its result had taken its place."""


@dataclass(frozen=True)
class Unbroken:
    """A run that was left alone."""

    outcome: dict[str, Any]
    seconds: float
    """Of computing."""
    events: int
    """Accesses to files that write."""


# ---------------------------------------------------------------------------------------- processes


class Process:
    """A command in a forked process, which is in a group of its own.

    Args:
        arguments: Of `lit-unlearn`.
        folder: Everything is written there, the cache and the output as well.
        dies_at: At which access to files it kills itself; None for never.
        delay: Seconds between that access and the kill.
        cache: The user's cache; None takes one in the folder.
    """

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        dies_at: int | None = None,
        delay: float = 0.0,
        cache: Path | None = None,
    ) -> None:
        self.cache = cache or folder / "cache"
        self.shared = mmap.mmap(-1, _BUFFER)
        self.log = folder / "output.log"
        self.pid = os.fork()
        if self.pid == 0:
            self._run(arguments, dies_at, delay)

    def _run(self, arguments: list[str], dies_at: int | None, delay: float) -> None:
        status = 1
        try:
            os.setsid()
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout = sys.stderr = os.fdopen(output, "w", buffering=1)
            os.environ["LIT_UNLEARN_CACHE"] = str(self.cache)
            self._watch(dies_at, delay)
            status = __main__.main(arguments)
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)

    def _watch(self, dies_at: int | None, delay: float) -> None:
        """Count accesses to files, note the last one, and die at the one that was chosen."""
        count = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            writes = event == "open" and bool((arguments[2] or 0) & _WRITING)
            if not writes and event not in _EVENTS:
                return
            count += 1
            text = f"{count} {arguments[0]}".encode(errors="replace")[: _BUFFER - 1]
            self.shared[: len(text) + 1] = text + b"\0"
            if count == dies_at:
                threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

        sys.addaudithook(hook)

    def wait(self, seconds: float | None = None) -> int | None:
        """Its status, or None after ``seconds`` of computing; -9 where it was killed."""
        while seconds is None or self.computed() < seconds:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        return None

    def computed(self) -> float:
        """Seconds of computing so far; unlike time they do not depend on what else is running."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> int:
        """End it at once; its status, where it was quicker."""
        os.kill(self.pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    @property
    def last(self) -> tuple[int, str]:
        """Number and path of the last access to files."""
        text = self.shared[:].split(b"\0", 1)[0].decode(errors="replace")
        number, _, path = text.partition(" ")
        return int(number or 0), path

    def said(self) -> str:
        """The end of its output."""
        return "\n".join(self.log.read_text("utf-8", errors="replace").splitlines()[-30:])


def run_unbroken(job: Job, folder: Path) -> Unbroken:
    """Run a command to its end.

    Raises:
        RuntimeError: It fails.
    """
    folder.mkdir(parents=True)
    process = Process(job.arguments(folder), folder)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{job.name} ended with {status}:\n{process.said()}")
    seconds = used.ru_utime + used.ru_stime
    return Unbroken(job.outcome(folder), seconds, process.last[0])


def run_killed(
    job: Job, folder: Path, unbroken: Unbroken, kills: int, choose: random.Random
) -> list[str]:
    """Kill a command up to so many times, then let it end, and compare.

    Returns:
        Where it was killed: the kind of the file that was accessed last.

    Raises:
        RuntimeError: It fails, or leaves half a file, or another result than the unbroken run.
    """
    folder.mkdir(parents=True)
    places: list[str] = []
    while True:
        by_file = choose.random() < 0.5
        event, delay = choose.randrange(1, unbroken.events + 1), choose.uniform(0, 0.005)
        seconds = choose.uniform(0, unbroken.seconds)
        dying = len(places) < kills
        process = Process(
            job.arguments(folder), folder, event if dying and by_file else None, delay
        )
        status = process.wait(seconds if dying and not by_file else None)
        status = process.kill() if status is None else status
        if status == 2 and job.ended in process.said():
            status = 0
        if status not in (0, -9):
            raise RuntimeError(f"{job.name} ended with {status}:\n{process.said()}")
        check_whole(folder)
        if status == 0:
            break
        places.append(kind(process.last[1], folder))
    outcome = job.outcome(folder)
    for name, value in unbroken.outcome.items():
        if outcome.get(name) != value:
            raise RuntimeError(
                f"{job.name}, killed at {places}: {name} differs from the unbroken run in {folder}"
            )
    left = list(folder.rglob("*.part.*"))
    if left:
        raise RuntimeError(f"{job.name}: left behind {left}")
    return places


def kind(path: str, folder: Path) -> str:
    """Where a kill hit, in one word."""
    named = (
        (UNFINISHED, "checkpoint"), ("cache", "cache"), ("evaluation", "evaluation"),
        ("model", "export"), ("lightning_logs", "curves"), ("gradients.jsonl", "tables"),
    )  # fmt: skip
    inside = path.removeprefix(str(folder))
    return next((word for part, word in named if part in inside), "elsewhere")


# ------------------------------------------------------------------------------------ what is whole


def check_whole(folder: Path) -> None:
    """See that whatever has its final name was written to its end.

    Raises:
        RuntimeError: A file or folder is half.
    """
    for file in _final(folder):
        try:
            _READERS.get(file.suffix, Path.stat)(file)
        except Exception as error:
            raise RuntimeError(f"{file} is half: {error}") from error
    for saved in folder.rglob(f"{UNFINISHED}/step_*"):
        if read_saved(saved) is None:
            raise RuntimeError(f"{saved} is half")
    for model in (folder / "run" / "model", folder / "vector"):
        if model.exists() and not (model / "README.md").exists():
            raise RuntimeError(f"{model} is half")


def _read_lines(file: Path) -> None:
    if file.name not in ("outcomes.jsonl", "journal.jsonl"):  # half a last line does not count
        for line in filter(None, file.read_text("utf-8").split("\n")):
            json.loads(line)


_READERS: dict[str, Callable[[Path], object]] = {
    ".json": lambda file: json.loads(file.read_text("utf-8")),
    ".jsonl": _read_lines,
    ".yaml": lambda file: yaml.safe_load(file.read_text("utf-8")),
    ".safetensors": load_file,
}


def _final(folder: Path) -> Iterator[Path]:
    """The files under a name that is read."""
    for file in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.is_file() and not hidden:
            yield file


# ----------------------------------------------------------------------------------------- commands


def training(folder: Path) -> list[str]:
    """Two objectives with a cached teacher, diagnosed, evaluated, saved and exported."""

    def rows(name: str, expect: str) -> dict[str, Any]:
        source = {"path": f"builtin:{name}", "split": "train", "limit": 4}
        return {"sources": [source], "expect": expect, "rows": 2, "answer_tokens": 4}

    boundary = {"class_path": "Boundary", "init_args": {"general": [], "max_new_tokens": 1}}
    suites = {"suites": {"near": boundary}, "every_n_steps": 3, "subsample": 4}
    config = {
        "trainer": {
            "default_root_dir": str(folder / "run"),
            "max_steps": STEPS,
            "accelerator": "cpu",
            "devices": 1,
            "log_every_n_steps": 1,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [
                {"class_path": "Resumable", "init_args": {"every_n_steps": 2}},
                "GradientMonitor",
                {"class_path": "SuiteEvaluation", "init_args": suites},
                "HuggingFaceExport",
            ],
        },
        "model": {
            "student": {"path": "random-tiny", "lora": {"rank": 2, "dropout": 0.3}},
            "teacher": {"class_path": "FrozenTeacher", "init_args": {"cache": True}},
            "gate": {"action": "off"},
            "weighting": "PCGrad",
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
            "diagnostics_every": 2,
            "objectives": {"forget": "BidirectionalDistillation", "retain": "ForwardKL"},
        },
        "data": {
            "objectives": {
                "forget": {**rows("forget", "decline"), "answer": "refusal"},
                "retain": rows("general", "answer"),
            }
        },
    }
    return ["fit", "--config", str(_written(folder / "fit.yaml", config))]


def trained(folder: Path) -> dict[str, Any]:
    """Weights, curves and tables of a training."""
    run = folder / "run"
    evaluations = sorted((run / "evaluation").glob("*/rows.jsonl"))
    if (run / UNFINISHED).exists():
        raise RuntimeError(f"{run} has ended and has a checkpoint of an unfinished run")
    return {
        "weights": _digest(run / "model" / "model.safetensors"),
        "gradients": (run / "gradients.jsonl").read_text("utf-8"),
        "evaluations": {file.parent.name: _digest(file) for file in evaluations},
        "curves": curves(run / "lightning_logs"),
    }


def curves(logs: Path) -> dict[str, dict[int, str]]:
    """Tag -> step -> value in words, as TensorBoard shows them; times are left out."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # an attempt that was killed before its first checkpoint has curves of its own
    run = max(logs.iterdir(), key=lambda version: int(version.name.removeprefix("version_")))
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    tags = (tag for tag in events.Tags()["scalars"] if not tag.startswith(("time/", "memory/")))
    return {tag: {point.step: str(point.value) for point in events.Scalars(tag)} for tag in tags}


def evaluating(folder: Path) -> list[str]:
    """Two suites on the random model."""
    boundary = {"class_path": "Boundary", "init_args": {"max_new_tokens": 2}}
    prefill = {"class_path": "Prefill", "init_args": {"max_new_tokens": 2}}
    config = {"limit": 6, "batch_size": 4, "suites": {"near": boundary, "prefill": prefill}}
    file = _written(folder / "evaluate.yaml", config)
    return [
        "evaluate",
        "random-tiny",
        "--config",
        str(file),
        "--output",
        str(folder / "evaluation"),
    ]


def evaluated(folder: Path) -> dict[str, Any]:
    """Rows and figures of an evaluation."""
    metrics = json.loads((folder / "evaluation" / "metrics.json").read_text("utf-8"))
    figures = [suite["figures"] for suite in metrics["suites"]]
    return {"rows": _digest(folder / "evaluation" / "rows.jsonl"), "figures": figures}


def rewriting(folder: Path) -> list[str]:
    """Passages become questions, by a model whose replies are refused, and then by rule."""
    source = {"path": "builtin:passages", "domain": "passage", "limit": 3}
    config = {
        "forget": [source],
        "keep": [{**source, "offset": 3}],
        "backend": {
            "class_path": "LocalModel",
            "init_args": {"path": "random-tiny", "batch_size": 2},
        },
        "questions": 1,
        "anchors": 1,
        "attempts": 1,
        "lowest_rating": 1,
    }
    file = _written(folder / "rewrite.yaml", config)
    return ["rewrite", "--config", str(file), "--output", str(folder / "rewritten")]


def rewritten(folder: Path) -> dict[str, Any]:
    """The rows."""
    names = ("forget", "keep", "anchors", "rejected")
    return {name: _digest(folder / "rewritten" / f"{name}.jsonl") for name in names}


def subtracting(folder: Path) -> list[str]:
    """A task vector of two models in a folder beside."""
    models = [folder / "models" / str(seed) for seed in (0, 1)]
    for seed, model in enumerate(models):
        if not model.exists():
            source = ModelSource("random-tiny", seed=seed)
            with whole_folder(model) as part:
                save_folder(load_base(source), load_tokenizer(source), part)
    target, reinforced = map(str, models)
    return ["task-vector", target, "--reinforced", reinforced, "--output", str(folder / "vector")]


def subtracted(folder: Path) -> dict[str, Any]:
    """Its weights."""
    return {"weights": _digest(folder / "vector" / "model.safetensors")}


JOBS = {
    "training": Job("training", training, trained),
    "evaluation": Job("evaluation", evaluating, evaluated),
    "rewriting": Job("rewriting", rewriting, rewritten),
    "task vector": Job("task vector", subtracting, subtracted, "should be a new or empty folder"),
}
SHARES = {"training": 0.6, "evaluation": 0.16, "rewriting": 0.12, "task vector": 0.12}


def _written(file: Path, config: object) -> Path:
    file.write_text(yaml.safe_dump(config), "utf-8")
    return file


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# --------------------------------------------------------------------------------------------- main


def kill_job(
    job: Job,
    kills: int,
    seed: int,
    folder: Path,
    most: int = 4,
) -> Counter[str]:
    """Kill a command so many times, over as many runs as it takes.

    Args:
        job: The command.
        kills: How many kills.
        seed: Of the points at which it is killed.
        folder: Everything is written there.
        most: Kills of one run.

    Returns:
        How many kills hit where.
    """
    choose = random.Random(f"{job.name} {seed}")
    unbroken = run_unbroken(job, folder / "unbroken")
    places: Counter[str] = Counter()
    for number in range(10 * kills):
        if places.total() >= kills:
            break
        wanted = min(most, kills - places.total())
        run = folder / f"killed_{number}"
        hit = run_killed(job, run, unbroken, wanted, choose)
        places.update(hit)
        print(f"{job.name}: {places.total()} of {kills} kills, at {', '.join(hit)}", flush=True)
        shutil.rmtree(run)
    return places


def import_all() -> None:
    """Import everything that a command may need once, before anything is forked."""
    for module in walk_packages(lit_unlearn.__path__, "lit_unlearn."):
        if not module.name.endswith("__main__"):
            import_module(module.name)


def main() -> None:
    """Kill every command by its share, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--folder", type=Path, default=None, help="kept if given")
    given = parser.parse_args()
    import_all()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        root = given.folder or Path(scratch)
        counts = {
            name: kill_job(JOBS[name], round(SHARES[name] * given.kills), given.seed, root / name)
            for name in given.commands
        }
    for name, places in counts.items():
        print(f"{name}: {places.total()} kills;", dict(places.most_common()))
    print(f"all runs ended with the unbroken result; {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
