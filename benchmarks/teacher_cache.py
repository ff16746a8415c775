"""Measure the savings and the costs of a teacher cache.

    python benchmarks/teacher_cache.py [--steps 6] [--rounds 3] [--folder runs/teacher_cache]
        [CONFIG ... [--KEY=VALUE ...]]

The configs (default: configs/quickstart.yaml) are trained for a few steps in separate processes,
alternately without and with `model.teacher.init_args.cache`. Evaluation and export are left out.
Printed are CPU seconds of a step (median without the first; all threads), their ratio, the
process's peak memory in the training steps, the CPU seconds of building the cache, its size on
disk, and the largest difference of losses.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from script import run_script

OFF, ON = "without cache", "with cache"
CALLBACK = "teacher_cache.StepClock"


class StepClock(Callback):
    """Callback that writes ``clock.json``: CPU seconds, peak GiB, losses."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.losses: list[dict[str, float]] = []
        self.preparation = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of gate, encoding and cache."""
        self.start = time.process_time()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock, and reset the peak of memory if the system supports it."""
        self.preparation = time.process_time() - self.start
        reset = Path("/proc/self/clear_refs")
        if reset.exists():
            reset.write_text("5")

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.start = time.process_time()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps.append(time.process_time() - self.start)
        self.losses.append(outputs["losses"])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        found = {
            "preparation": self.preparation,
            "steps": self.steps,
            "peak": peak_gib(),
            "losses": self.losses,
        }
        Path(trainer.default_root_dir, "clock.json").write_text(json.dumps(found))


def peak_gib() -> float:
    """Return this process's peak memory in GiB: of the GPU if there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def train(folder: Path, given: list[str], cache: bool, steps: int) -> dict[str, Any]:
    """Train in a separate process, and return the figures of `StepClock`."""
    configs = [part for x in given if not x.startswith("--") for part in ("--config", x)]
    setting = str(folder / "cache") if cache else "false"
    options = [
        *(x for x in given if x.startswith("--")),
        f"--trainer.default_root_dir={folder / 'run'}",
        f"--trainer.max_steps={steps}",
        f'--trainer.callbacks=[{{"class_path": "{CALLBACK}"}}]',
        "--trainer.logger=false",
        "--trainer.enable_checkpointing=false",
        "--trainer.enable_progress_bar=false",
        f"--model.teacher.init_args.cache={setting}",
    ]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "lit_unlearn", "fit", *configs, *options]
    log = folder / "log.txt"
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        code = subprocess.call(
            command, stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": path}
        )
    if code:
        sys.exit(f"{' '.join(command)}: status {code}; see {log}\n{log.read_text()[-2000:]}")
    found: dict[str, Any] = json.loads((folder / "run" / "clock.json").read_text())
    return found


def largest_difference(one: list[dict[str, float]], other: list[dict[str, float]]) -> float:
    """Return the largest difference of a loss in any step, relative to it or at least to 0.01."""
    return max(
        abs(a[name] - b[name]) / max(abs(a[name]), 0.01)
        for a, b in zip(one, other, strict=True)
        for name in a
    )


def main() -> None:
    """Run all trainings and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/teacher_cache"))
    options, given = parser.parse_known_args()
    given = given or ["configs/quickstart.yaml"]
    folder = options.folder.resolve()
    if folder.exists():
        parser.error(f"--folder {folder} should not exist yet")
    train(folder, given, cache=False, steps=1)  # choose contexts and answers for all other runs
    build = train(folder, given, cache=True, steps=options.steps)
    runs: dict[str, list[dict[str, Any]]] = {OFF: [], ON: []}
    for _ in range(options.rounds):
        for name, found in runs.items():
            found.append(train(folder, given, name == ON, options.steps))
    seconds = {n: [s for run in found for s in run["steps"][1:]] for n, found in runs.items()}
    for name, found in runs.items():
        peak = max(run["peak"] for run in found)
        print(f"{name:14} {median(seconds[name]):8.2f} CPU s a step, peak {peak:.2f} GiB")
    print(f"ratio          {median(seconds[ON]) / median(seconds[OFF]):8.3f}")
    idle = median(run["preparation"] for run in runs[OFF])
    print(f"build          {build['preparation'] - idle:8.2f} CPU s, for {options.steps} steps")
    size = sum(file.stat().st_size for file in folder.glob("cache/*/*"))
    print(f"on disk        {size / 1e6:8.3f} MB")
    first, last = (
        largest_difference(runs[OFF][0]["losses"][:n], runs[ON][0]["losses"][:n])
        for n in (1, options.steps)
    )
    print(f"losses differ by at most {first:.1e} in the first step, {last:.1e} in all steps")


if __name__ == "__main__":
    run_script(main)
