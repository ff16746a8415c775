"""Compare the predictions of `lit-unlearn plan` with measured memory and CPU time.

    python benchmarks/plan_validation.py [--folder runs/plan_validation] [--model FOLDER]
        [--sizes 10M,60M,135M] [--setups "plain;exact"] [--steps 4]

Random Llamas of 10 and 60 million parameters, and SmolLM2-135M-Instruct (`lit-unlearn fetch`; all
use its tokenizer), are trained for a few steps on built-in rows, each case in a separate process.
Memory is the highest resident set after the first step, minus the resident set before the model was
loaded; glibc is set to return freed blocks at once, so that this is the memory of tensors. Time is
the process's CPU time of these steps, on one thread. Predicted seconds are FLOPs divided by the
rate of a large matrix product. Writes results.json, which keeps earlier cases, and prints the table
of docs/planning.md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from meter import FILE
from random_models import random_model
from script import run_script
from transformers import LlamaConfig

from lit_unlearn.cli.checking import CheckedRun, checked
from lit_unlearn.models.dtypes import measured_rate, precision_for
from lit_unlearn.models.finding import find_model
from lit_unlearn.planning.flops import step_flops
from lit_unlearn.planning.memory import peak
from lit_unlearn.planning.planned_rows import rows_of
from lit_unlearn.planning.scenario import scenario_of

CALLBACK = "meter.Meter"
SIZES = {"10M": (160, 6, 480, 5), "60M": (512, 12, 1365, 8), "135M": None}
"""Width, blocks, width of the MLP and heads of the random models."""

_DISTIL = {"class_path": "BidirectionalDistillation"}
_PLAIN = {"class_path": "CrossEntropy"}
_FOUR = ("forget", "adversarial", "neighbor", "retain")
_FROZEN = {"class_path": "FrozenTeacher"}
_CACHED = {"class_path": "FrozenTeacher", "init_args": {"dtype": "bfloat16"}}

SETUPS: dict[str, dict[str, Any]] = {
    "plain": {"objectives": dict.fromkeys(_FOUR, _PLAIN), "diagnostics_every": 0},
    "exact": {
        "objectives": dict.fromkeys(_FOUR, _DISTIL),
        "teacher": _FROZEN,
        "diagnostics_every": 1,
    },
    "sketch, cached teacher, bf16-mixed": {
        "objectives": dict.fromkeys(_FOUR, _DISTIL),
        "teacher": _CACHED,
        "diagnostics_every": 1,
        "diagnostics": "sketch",
    },
    "exact, activation checkpointing": {
        "objectives": dict.fromkeys(_FOUR, _DISTIL),
        "teacher": _FROZEN,
        "diagnostics_every": 1,
        "student": {"activation_checkpointing": True},
    },
    "LoRA, adapter-off teacher": {
        "objectives": dict.fromkeys(_FOUR, _DISTIL),
        "teacher": {"class_path": "AdapterOffTeacher"},
        "diagnostics_every": 1,
        "student": {"lora": {"rank": 16}},
    },
}
"""Settings of `model` in each case, besides the student's path."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(2**20)}
"""Variables of a measured process: one thread, and freed blocks return to the system."""
ONCE = {"exact, activation checkpointing": "60M", "LoRA, adapter-off teacher": "60M"}
"""Set-ups that are measured at one size only."""


def shape(size: tuple[int, int, int, int], vocabulary: int) -> LlamaConfig:
    """Return the config of a random Llama."""
    width, blocks, inner, heads = size
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        tie_word_embeddings=True,
    )


def config_of(model: Path, setup: str, folder: Path, steps: int) -> dict[str, Any]:
    """Return the config of a case, for `fit`."""
    own = SETUPS[setup]
    context = {"class_path": "Demonstrations", "init_args": {"declined": 3}}
    data = {
        name: {
            "sources": [{"path": source, "split": "train", "limit": 16}],
            "expect": expect,
            "answer": "refusal" if expect == "decline" else "gold",
            "context": context if expect == "decline" else None,
            "rows": 4,
        }
        for name, source, expect in (
            ("forget", "builtin:forget", "decline"),
            ("adversarial", "builtin:forget", "decline"),
            ("neighbor", "builtin:neighbor", "answer"),
            ("retain", "builtin:general", "answer"),
        )
    }
    return {
        "seed_everything": 0,
        "trainer": {
            "default_root_dir": str(folder / "run"),
            "max_steps": steps,
            "accelerator": "cpu",
            "devices": 1,
            "precision": "bf16-mixed" if "bf16" in setup else "32-true",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "callbacks": [{"class_path": CALLBACK}],
        },
        "model": {
            **own,
            "student": {"path": str(model), **own.get("student", {})},
            "gate": {"action": "off"},
        },
        "data": {"objectives": data},
    }


def measured(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train a config in a separate process, and return the figures of `Meter`."""
    folder.mkdir(parents=True, exist_ok=True)
    file, log = folder / "config.json", folder / "log.txt"
    if "cached" in folder.name:
        config["model"]["teacher"]["init_args"]["cache"] = str(folder / "cache")
    file.write_text(json.dumps(config))
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with log.open("w") as output:
        code = subprocess.call(
            [sys.executable, "-m", "lit_unlearn", "fit", "--config", str(file)],
            stdout=output,
            stderr=output,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": path},
        )
    if code:
        sys.exit(f"{folder.name}: status {code}; see {log}\n{log.read_text()[-2000:]}")
    found: dict[str, Any] = json.loads((folder / "run" / FILE).read_text())
    return found


def predicted(run: CheckedRun, device: torch.device) -> dict[str, Any]:
    """Return the plan's bytes and FLOPs of the steps of a run after the first one."""
    module, data, precision = run.model, run.datamodule, str(run.settings.precision)
    if precision == "auto":
        precision = precision_for(device)
    accelerator: Any = "cpu" if device.type == "cpu" else "gpu"
    scenario = replace(scenario_of(module, data, precision=precision), accelerator=accelerator)
    rows, _ = rows_of(module, data, "read")
    steps = rows.steps(module.objectives, None, 1)[1:]
    moment = peak(scenario, steps)
    return {
        "bytes": moment.total,
        "moment": moment.what,
        "parts": moment.parts,
        "flops": sum(sum(own.values()) for own in step_flops(scenario, steps).values()),
        "precision": precision,
        "dtype": torch.bfloat16 if scenario.compute_bytes == 2 else torch.float32,
        "parameters": scenario.student.parameters,
        "trained": scenario.student.trained,
    }


def planned(file: Path) -> dict[str, Any]:
    """Return the plan of a config; seconds are FLOPs divided by this machine's rate."""
    told = predicted(checked([f"--config={file}"]), torch.device("cpu"))
    rate = measured_rate(told.pop("dtype"), "cpu")
    return {**told, "seconds": told["flops"] / 1e12 / rate}


def table(cases: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| model | set-up | MB predicted | measured | error | s predicted | measured | error |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case in cases:
        told, found = case["predicted"], case["measured"]
        memory = (told["bytes"] / 1e6, found["bytes"] / 1e6)
        times = (told["seconds"], found["seconds"])
        lines.append(
            f"| {case['model']} | {case['setup']} | {memory[0]:.0f} | {memory[1]:.0f} | "
            f"{memory[0] / memory[1] - 1:+.0%} | {times[0]:.2f} | {times[1]:.2f} | "
            f"{times[0] / times[1] - 1:+.0%} |"
        )
    return "\n".join(lines)


def merged(earlier: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge new cases into earlier ones, replacing the same cases; order by size and set-up."""
    found = {(case["model"], case["setup"]): case for case in [*earlier, *new]}
    order = {size: number for number, size in enumerate(SIZES)}
    return sorted(found.values(), key=lambda c: (order[c["model"]], [*SETUPS].index(c["setup"])))


def main() -> None:
    """Measure all cases, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/plan_validation"))
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--setups", default=";".join(SETUPS), help="names, separated by semicolons")
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    real = Path(find_model(options.model).name)
    torch.set_num_threads(1)
    cases = []
    for size in options.sizes.split(","):
        own, folder, model = SIZES[size], options.folder.resolve(), real
        if own is not None:
            vocabulary = json.loads((real / "config.json").read_text())["vocab_size"]
            model = random_model(folder / size, shape(own, vocabulary), real)
        for setup in options.setups.split(";"):
            if ONCE.get(setup, size) != size:
                continue
            place = folder / f"{size} {setup}".replace(",", "").replace(" ", "_")
            found = measured(config_of(model, setup, place, options.steps), place)
            cases.append(
                {
                    "model": size,
                    "setup": setup,
                    "predicted": planned(place / "config.json"),
                    "measured": {
                        "bytes": found["peak"] - found["before"],
                        "seconds": mean(step["cpu"] for step in found["steps"][1:]),
                    },
                }
            )
            print(table(cases[-1:]).splitlines()[-1], flush=True)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "tflops": {
            "bf16": measured_rate(torch.bfloat16, "cpu"),
            "fp32": measured_rate(torch.float32, "cpu"),
        },
    }
    results = options.folder / "results.json"
    cases = merged(json.loads(results.read_text())["cases"] if results.exists() else [], cases)
    results.write_text(json.dumps({"machine": machine, "cases": cases}, indent=1))
    print(f"\n{table(cases)}\n\n{machine}\nwritten: {results}")


if __name__ == "__main__":
    run_script(main)
