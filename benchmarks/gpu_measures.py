"""Measures of gpu_check.py: functions from a part and the settings to figures."""

import json
import os
import shutil
import statistics
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from gpu_card import card, machine, peak_rate
from gpu_models import model_of
from gpu_parts import Part, Settings
from meter import FILE, WEIGHTS, Meter
from plan_validation import predicted
from torch import Tensor

from lit_unlearn.cli.checking import CheckedRun, checked
from lit_unlearn.cli.config import read_config
from lit_unlearn.models.loading import ModelSource, load_base
from lit_unlearn.training.trainer import UnlearnTrainer

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ROWS, FEW = 200, 12
"""Maximum rows of each source, for real and for tiny models; more would be encoded in vain."""
EVERY = 4
"""Interval of diagnosed steps."""
EQUAL = {"losses": 1e-4, "weights": 1e-3}
"""Maximum differences of fsdp2: relative for losses, as a share of the change for weights."""


def measure(part: Part, settings: Settings) -> dict[str, Any]:
    """Return the figures of a part, and the machine's data."""
    kinds = {"card": card, "fit": fit_part, "fsdp2": one_device}
    return {"machine": machine(settings), **kinds[part.kind](part, settings)}


# ---------------------------------------------------------------------------------------- a run


def overlay(part: Part, settings: Settings, model: str) -> dict[str, Any]:
    """Return changes of a config: model and steps, without gate, evaluation and export."""
    config = read_config(CONFIGS / f"{part.config}.yaml").values
    most = FEW if settings.tiny else ROWS
    objectives = {
        name: {
            "evaluation": [],
            "sources": [{**source, "limit": most, "offset": 0} for source in own["sources"]],
        }
        for name, own in config["data"]["objectives"].items()
    }
    gate = {"action": "off"}
    return {
        "trainer": {"max_steps": settings.steps, "devices": 1, "precision": "auto"},
        "model": {"student": {"path": model}, "gate": gate, "diagnostics_every": EVERY},
        "data": {"data_root": str(settings.data), "objectives": objectives},
    }


def run_of(part: Part, folder: Path, *laid_over: dict[str, Any]) -> CheckedRun:
    """Return the run of the part's config with changes laid over it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = [CONFIGS / f"{part.config}.yaml"]
    for number, values in enumerate(laid_over):
        files.append(folder / f"over{number}.json")
        files[-1].write_text(json.dumps(values), "utf-8")
    return checked([f"--config={file}" for file in files])


def trained(
    run: CheckedRun, folder: Path, settings: Settings, meter: Meter, **options: Any
) -> dict[str, Any]:
    """Train, and return the figures of the meter."""
    before = os.environ.get("LIT_UNLEARN_CACHE")
    os.environ["LIT_UNLEARN_CACHE"] = str(folder / "cache")  # empty, and not the user's
    trainer = UnlearnTrainer(
        accelerator="gpu" if settings.device == "cuda" else "cpu",
        devices=1,
        use_distributed_sampler=False,
        logger=False,
        callbacks=[meter],
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    try:
        trainer.fit(run.model, run.datamodule)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        if before is None:
            del os.environ["LIT_UNLEARN_CACHE"]
        else:
            os.environ["LIT_UNLEARN_CACHE"] = before
    found: dict[str, Any] = json.loads((folder / FILE).read_text())
    return found


def fit_part(part: Part, settings: Settings) -> dict[str, Any]:
    """Plan and train a config; return the figures of both."""
    model, weights = model_of(part.shape, settings)
    folder, device = settings.folder / part.name, torch.device(settings.device)
    run = run_of(part, folder, overlay(part, settings, model), {"model": part.model})
    told = predicted(run, device)
    rate, source = peak_rate(settings, told["dtype"])
    if settings.device == "cuda":
        torch.cuda.empty_cache()  # memory of random models and of measured rates
    precision = told["precision"]
    found = trained(run, folder, settings, Meter(), max_steps=settings.steps, precision=precision)
    counted = found["steps"][1:]
    step = middle(counted, diagnosed=False)
    operations = statistics.mean(one["operations"] for one in counted)
    return {
        "model": f"{part.shape}, {weights}",
        "precision": precision,
        "parameters": told["parameters"],
        "trained": told["trained"],
        "tokens": statistics.mean(one["tokens"] for one in counted),
        "step_s": step,
        "diagnosed_step_s": middle(counted, diagnosed=True),
        "first_step_s": found["steps"][0]["wall"],
        "ready_s": found["ready"],
        "planned_GB": told["bytes"] / 1e9,
        "planned_parts": told["parts"],
        "measured_GB": (found["peak"] - found["before"]) / 1e9,
        "reserved_GB": found["reserved"] / 1e9,
        "planned_TFLOP": told["flops"] / 1e12,
        "mfu": operations / step / 1e12 / rate,
        "of_planned_flops": told["flops"] / step / 1e12 / rate,
        "peak_TFLOPS": rate,
        "peak_source": source,
        "losses": found["steps"][-1]["losses"],
    }


def middle(steps: list[dict[str, Any]], *, diagnosed: bool) -> float:
    """Return the median wall seconds of the steps with or without diagnostics."""
    return statistics.median(one["wall"] for one in steps if one["diagnosed"] is diagnosed)


# ---------------------------------------------------------------------------------------- fsdp2


def one_device(part: Part, settings: Settings) -> dict[str, Any]:
    """Train with and without fsdp2, in float32 by gradient descent; compare losses and weights."""
    model, weights = model_of(part.shape, settings)
    own = {
        "student": {"trainable": None},
        "teacher": {"init_args": {"cache": False, "dtype": "float32"}},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}},
    }
    losses, ends = [], []
    for strategy in ("auto", "fsdp2"):
        folder = settings.folder / f"{part.name}_{strategy}"
        run = run_of(part, folder, overlay(part, settings, model), {"model": own})
        options = {"strategy": strategy, "precision": "32-true", "max_steps": EVERY}
        found = trained(run, folder, settings, Meter(weights=True), **options)
        losses.append([loss for step in found["steps"] for loss in step["losses"].values()])
        ends.append(torch.load(folder / WEIGHTS, weights_only=True))
    start = load_base(ModelSource(model)).state_dict()
    return {"model": f"{part.shape}, {weights}"} | compared(losses, ends, start)


def compared(
    losses: list[list[float]], ends: list[dict[str, Tensor]], start: dict[str, Tensor]
) -> dict[str, Any]:
    """Return the largest differences between two runs, and whether they count as equal."""
    pairs = zip(*losses, strict=True)
    loss = max(abs(one - two) / max(abs(one), 1e-6) for one, two in pairs)
    apart = sum(float((ends[0][n].cpu() - ends[1][n].cpu()).square().sum()) for n in start)
    moved = sum(float((ends[0][n].cpu() - start[n]).square().sum()) for n in start)
    found = {"losses": loss, "weights": (apart / moved) ** 0.5}
    return {**found, "equal": all(found[name] <= most for name, most in EQUAL.items())}
