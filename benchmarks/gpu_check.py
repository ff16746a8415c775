"""Check a GPU: does everything run there, how fast, and in how much memory?

    python benchmarks/gpu_check.py [--minutes 8] [--parts card,tofu,lora] [--folder runs/gpu_check]
    python benchmarks/gpu_check.py --device cpu --tiny      # a small version for a CPU, as a test

No network is needed. Each part is a separate process, so that a part that fails or runs out of
memory does not stop the others: rates and attention kernels of the card; steps of
configs/quickstart.yaml on SmolLM2 (random weights if it is not on this machine), of
configs/tofu.yaml on a random Llama-3.2-1B, and with LoRA on a random Llama-3.1-8B (16 GB of disk
while it runs); fsdp2 on one device against no sharding; compiled blocks, eager attention and
flash_attention_2. For each run: seconds of a step, memory as `lit-unlearn plan` predicts it and as
measured, and the share of the data sheet's FLOP/s that is used. A part that no longer fits
--minutes is left out, and the table says so. results.jsonl and table.md (for the docs) are written
after each part.

It has not been run on a GPU yet.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from gpu_parts import PARTS, Part, Settings, missing, wheels
from gpu_table import table
from script import run_script

PROJECT = Path(__file__).resolve().parents[1]
FEWEST = 6
"""Minimum number of steps, with which at least one diagnosed step counts."""
RESULT = "result.json"
BEGAN = time.monotonic()

Record = dict[str, Any]


def main() -> None:
    """Run all parts that fit the time budget."""
    options = parsed()
    if options.wheels:
        print("\n".join(wheels()))
        return
    absent = missing(["torch", *wheels()])
    if absent:
        refuse(f"missing packages: {', '.join(absent)}; bring their wheels (--wheels)")
    settings = Settings(
        options.device, options.tiny, options.folder.resolve(), options.data, options.steps
    )
    if options.part:
        child(next(part for part in PARTS if part.name == options.part), settings)
        return
    if options.device == "cuda":
        check_card()
    parts = [part for part in PARTS if part.name in options.parts]
    run_all(parts, settings, BEGAN + 60 * options.minutes, partial(in_child, settings))
    if not options.keep:
        shutil.rmtree(settings.folder / "models", ignore_errors=True)


def parsed() -> argparse.Namespace:
    """Return the options."""
    needed = f"Packages besides torch: {', '.join(wheels())} and their dependencies (--wheels)."
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=needed, formatter_class=argparse.RawTextHelpFormatter
    )
    names = [part.name for part in PARTS]
    full = PROJECT.parent / "shared" / "data"
    data = full if full.is_dir() else PROJECT / "tests" / "data" / "benchmarks"
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="models of a few thousand parameters")
    parser.add_argument("--minutes", type=float, default=8.0, help="time budget")
    parser.add_argument("--parts", default=",".join(names), help="names, separated by commas")
    parser.add_argument("--steps", type=int, default=12, help="steps of each run")
    parser.add_argument("--folder", type=Path, default=Path("runs/gpu_check"))
    parser.add_argument("--data", type=Path, default=data, help="folder with TOFU")
    parser.add_argument("--keep", action="store_true", help="keep the random models")
    parser.add_argument("--wheels", action="store_true", help="list the packages that it needs")
    parser.add_argument("--part", choices=names, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.parts = options.parts.split(",")
    unknown = ", ".join(set(options.parts) - set(names))
    if unknown:
        parser.error(f"--parts: expected some of {', '.join(names)}; found {unknown}")
    if options.steps < FEWEST:
        parser.error(f"--steps: expected at least {FEWEST}, found {options.steps}")
    return options


def check_card() -> None:
    """End with one line if torch finds no card."""
    import torch  # help, and the check for missing packages, work without torch

    if not torch.cuda.is_available():
        refuse(f"torch {torch.__version__} finds no CUDA device (--device cpu --tiny is the test)")


def refuse(text: str) -> NoReturn:
    """End with one line and status 2."""
    print(f"gpu_check: {text}", file=sys.stderr)
    sys.exit(2)


# ------------------------------------------------------------------------------------- the parts


def run_all(
    parts: Sequence[Part],
    settings: Settings,
    deadline: float,
    run: Callable[[Part, float], Record],
) -> list[Record]:
    """Run parts one after another; write all records after each.

    Args:
        parts: The parts.
        settings: Settings of the check.
        deadline: Time of `time.monotonic` at which all parts should have ended.
        run: Function that runs a part in at most a number of seconds.
    """
    settings.folder.mkdir(parents=True, exist_ok=True)
    records: list[Record] = []
    for part in parts:
        left = deadline - time.monotonic()
        print(f"{part.name}: {part.title} ({max(left, 0):.0f} s left)", flush=True)
        if part.needs and find_spec(part.needs) is None:
            found: Record = {"problem": f"left out: the package {part.needs} is not installed"}
        elif left < (0 if settings.tiny else part.seconds):
            found = {
                "problem": f"left out: needs about {part.seconds} s, {max(left, 0):.0f} s left"
            }
        else:
            found = run(part, left)
        records.append({"part": part.name, "title": part.title, **found})
        write(records, settings.folder)
    print(table(records))
    return records


def in_child(settings: Settings, part: Part, left: float) -> Record:
    """Run a part in a separate process, which may die."""
    result, log = (settings.folder / f"{part.name}_{name}" for name in (RESULT, "log.txt"))
    result.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:], "--part", part.name]
    path = os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])  # if not installed
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            status = process.wait(max(left, 1))
        except subprocess.TimeoutExpired:
            return {"problem": f"stopped: not done after the {left:.0f} s that were left"}
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if result.exists():
        found: Record = json.loads(result.read_text("utf-8"))
        return found
    lines = log.read_text("utf-8", errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    return {"problem": f"ended with status {status}: {last.strip()}"}


def child(part: Part, settings: Settings) -> None:
    """Measure a part in this process; write its result, or its error in one line."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from gpu_measures import measure  # torch and all the rest

    try:
        found = measure(part, settings)
    except Exception as error:
        traceback.print_exc()  # into the log
        first = (str(error).strip().splitlines() or [""])[0]
        found = {"problem": f"{type(error).__name__}: {first}"}
    (settings.folder / f"{part.name}_{RESULT}").write_text(json.dumps(found), "utf-8")


def write(records: Sequence[Record], folder: Path) -> None:
    """Write all records, and the table."""
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "results.jsonl").write_text(lines, "utf-8")
    (folder / "table.md").write_text(table(records), "utf-8")


if __name__ == "__main__":
    run_script(main)
