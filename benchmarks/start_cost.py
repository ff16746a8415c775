"""Measure the time of `--help`, and of a cached run from imports to its first step.

    python benchmarks/start_cost.py [--repeats 5] [--out FILE.json] [CONFIG ... [--KEY=VALUE ...]]

The time of `--help` is the minimum wall time of several processes. If configs are given,
`lit-unlearn fit` is run twice on them in this process, in a new folder, up to the beginning of the
first training step. The first run chooses contexts and answers and fills the teacher's cache; the
second run finds them. CPU seconds without imports: reading the config and the rows, loading the
models, encoding, opening the cache.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

HELP = [sys.executable, "-m", "lit_unlearn", "--help"]
STOPPED: list[float] = []


class FirstStep(Callback):
    """Callback that notes the beginning of a step and ends the run after the first step."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time; the first step is still run, as Lightning stops only between steps."""
        import_module("start_cost").STOPPED.append(time.process_time())
        trainer.should_stop = True


def seconds_of_help(repeats: int) -> list[float]:
    """Return the wall seconds of ``lit-unlearn --help``, each in a new process."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(HELP, check=True, stdout=subprocess.DEVNULL)
        found.append(time.perf_counter() - start)
    return found


def seconds_to_first_step(given: list[str]) -> list[float]:
    """Return the CPU seconds of a first and a second run, without imports."""
    from lit_unlearn.__main__ import main as command

    for name in ("cli.fit", "training.module", "data.datamodule", "callbacks", "objectives"):
        import_module(f"lit_unlearn.{name}")
    stopped: list[float] = import_module("start_cost").STOPPED
    found = []
    with tempfile.TemporaryDirectory() as folder:
        options = [
            *(part for x in given if not x.startswith("--") for part in ("--config", x)),
            *(x for x in given if x.startswith("--")),
            f"--trainer.default_root_dir={folder}",
            '--trainer.callbacks=[{"class_path": "start_cost.FirstStep"}]',
            "--trainer.logger=false",
            "--trainer.enable_checkpointing=false",
            "--trainer.enable_progress_bar=false",
            f"--model.teacher.init_args.cache={folder}/cache",
        ]
        for _ in range(2):
            start, noted = time.process_time(), len(stopped)
            if command(["fit", *options]):
                sys.exit("lit-unlearn fit failed")
            found.append(stopped[noted] - start)
    return found


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/start_cost/result.json"))
    args, given = parser.parse_known_args()
    found = {"help, least wall s": min(seconds_of_help(args.repeats))}
    if given:
        first, second = seconds_to_first_step(given)
        found |= {"first run, CPU s": first, "cached run, CPU s": second}
    from cost import report

    report("Start", [found], found, args.out)


if __name__ == "__main__":
    main()
