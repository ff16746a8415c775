"""Small commands that write every kind of file of the package.

`kill_runs.py` kills them, `full_disks.py` fills their disk. Each command works in one folder, which
also holds files of the user: start model, rows, configs, notes, and files beside and in the folders
of results.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from fault_checks import digest

from lit_unlearn.callbacks.huggingface_export import save_folder
from lit_unlearn.callbacks.saved import UNFINISHED
from lit_unlearn.models.loading import ModelSource, load_base, load_tokenizer
from lit_unlearn.requests import erase
from lit_unlearn.requests.ledger import read_ledger
from lit_unlearn.requests.manifest import read_manifest
from lit_unlearn.requests.verify import verify
from lit_unlearn.utils.atomic import whole_folder
from lit_unlearn.utils.digests import file_digest

STEPS = 6
_PHASES = (
    ("/cache/teacher/", "teacher cache"),
    ("/cache/trunk/", "trunk cache"),
    ("/cache/", "kept replies"),
    (f"/run/{UNFINISHED}", "checkpoint"),
    ("/run/model", "export"),
    ("/run/.model", "export"),
    ("/run/lightning_logs", "curves"),
    ("/run/evaluation", "evaluation"),
    ("/run", "reports"),
    ("/evaluation", "evaluation"),
    ("/rewritten", "rewriting"),
    ("/vector", "task vector"),
    ("/request/before", "request: evaluations"),
    ("/request/after", "request: evaluations"),
    ("/request/run/", "request: training"),
    ("/request/r", "request: rows"),
    ("/request/battery", "request: rows"),
    ("/request/.rows", "request: rows"),
    ("/request/.battery", "request: rows"),
    ("/request/", "request: evidence"),
    ("/ledger", "request: evidence"),
    ("/.ledger", "request: evidence"),
    ("/.vector", "task vector"),
)
"""Beginning of a path in a command's folder -> phase that writes there."""


@dataclass(frozen=True)
class Job:
    """A command and its expected outcome."""

    name: str
    arguments: Callable[[Path], list[str]]
    """Function that returns the arguments for the folder in which everything is written."""
    outcome: Callable[[Path], dict[str, Any]]
    """Function that reads from that folder what must be equal in every run."""
    ended: str | None = None
    """Error of a repeated command whose result is complete, if it then refuses to run."""

    def succeeded(self, status: int, said: str) -> bool:
        """Return whether the result is complete."""
        return status == 0 or (status == 2 and self.ended is not None and self.ended in said)


def phase_of(path: str, folder: Path) -> str:
    """Return the phase that writes to a path."""
    inside = path.removeprefix(str(folder)) if path.startswith(str(folder)) else ""
    return next((name for part, name in _PHASES if inside.startswith(part)), "other")


# ----------------------------------------------------------------------------------------- commands


def training(folder: Path, *callbacks: Any) -> list[str]:
    """Train two objectives with both caches; diagnose, evaluate, save and export."""

    def rows(name: str, expect: str) -> dict[str, Any]:
        file = str(_rows(folder, name))
        source = {"path": file, "domain": "question_answer"}
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
            "callbacks": [
                {"class_path": "Resumable", "init_args": {"every_n_steps": 2}},
                "GradientMonitor",
                *callbacks,
                {"class_path": "SuiteEvaluation", "init_args": suites},
                "HuggingFaceExport",
            ],
        },
        "model": {
            "student": {
                "path": str(_model(folder, 0)),
                # only the upper block, so that there is a trunk to cache
                "lora": {"rank": 2, "dropout": 0.3, "target_modules": r".*layers[.]1[.].*_proj"},
            },
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
                "retain": rows("retain", "answer"),
            }
        },
    }
    return ["fit", "--config", str(_config(folder / "fit.yaml", config))]


def reporting(folder: Path) -> list[str]:
    """Train as `training` does, with a table and a page of the answers before and after."""
    return training(folder, {"class_path": "AnswerEvaluation", "init_args": {"max_new_tokens": 1}})


def trained(folder: Path) -> dict[str, Any]:
    """Return the weights, curves and tables of a training run."""
    run = folder / "run"
    evaluations = sorted((run / "evaluation").glob("*/rows.jsonl"))
    if (run / UNFINISHED).exists():
        raise RuntimeError(f"{run} has ended and has a checkpoint of an unfinished run")
    summary = run / "summary.json"
    return {
        "weights": digest(run / "model" / "model.safetensors"),
        "gradients": (run / "gradients.jsonl").read_text("utf-8"),
        "evaluations": {file.parent.name: digest(file) for file in evaluations},
        "curves": curves(run / "lightning_logs"),
        "figures": summary.exists() and json.loads(summary.read_text("utf-8"))["objectives"],
    }


def curves(logs: Path) -> dict[str, dict[int, str]]:
    """Return TensorBoard's curves as tag -> step -> value, except times and memory."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # a run that was killed before its first checkpoint has a separate version
    runs = logs.glob("version_*")
    run = max(runs, key=lambda version: int(version.name.removeprefix("version_")))
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    tags = (tag for tag in events.Tags()["scalars"] if not tag.startswith(("time/", "memory/")))
    return {tag: {point.step: str(point.value) for point in events.Scalars(tag)} for tag in tags}


def evaluating(folder: Path) -> list[str]:
    """Run two suites on the start model."""
    boundary = {"class_path": "Boundary", "init_args": {"max_new_tokens": 2}}
    prefill = {"class_path": "Prefill", "init_args": {"max_new_tokens": 2}}
    config = {"limit": 6, "batch_size": 4, "suites": {"near": boundary, "prefill": prefill}}
    file = _config(folder / "evaluate.yaml", config)
    output = str(folder / "evaluation")
    return ["evaluate", str(_model(folder, 0)), "--config", str(file), "--output", output]


def evaluated(folder: Path) -> dict[str, Any]:
    """Return the rows and figures of an evaluation."""
    metrics = json.loads((folder / "evaluation" / "metrics.json").read_text("utf-8"))
    figures = [suite["figures"] for suite in metrics["suites"]]
    return {"rows": digest(folder / "evaluation" / "rows.jsonl"), "figures": figures}


def rewriting(folder: Path) -> list[str]:
    """Turn passages into questions by a model whose replies are refused, and then by rule."""
    source = {"path": "builtin:passages", "domain": "passage", "limit": 3}
    backend = {"path": str(_model(folder, 0)), "batch_size": 2}
    config = {
        "forget": [source],
        "keep": [{**source, "offset": 3}],
        "backend": {"class_path": "LocalModel", "init_args": backend},
        "questions": 1,
        "anchors": 1,
        "attempts": 1,
        "lowest_rating": 1,
    }
    file = _config(folder / "rewrite.yaml", config)
    return ["rewrite", "--config", str(file), "--output", str(folder / "rewritten")]


def rewritten(folder: Path) -> dict[str, Any]:
    """Return the digests of the rows."""
    names = ("forget", "keep", "anchors", "rejected")
    return {name: digest(folder / "rewritten" / f"{name}.jsonl") for name in names}


def subtracting(folder: Path) -> list[str]:
    """Subtract a task vector of two models."""
    target, reinforced = (str(_model(folder, seed)) for seed in (0, 1))
    return ["task-vector", target, "--reinforced", reinforced, "--output", str(folder / "vector")]


def subtracted(folder: Path) -> dict[str, Any]:
    """Return the digest of the weights."""
    return {"weights": digest(folder / "vector" / "model.safetensors")}


def requesting(folder: Path) -> list[str]:
    """Carry out a request to forget, with a ledger, as if the model knew the answers."""
    training(folder)  # its config is the recipe
    erase.KNOWN_AT_MOST = -1.0
    files = {name: str(_rows(folder, name)) for name in ("forget", "near", "other")}
    rows = {name: [{"path": file, "domain": "question_answer"}] for name, file in files.items()}
    request = {
        "id": "request",
        "model": str(_model(folder, 0)),
        "recipe": str(folder / "fit.yaml"),
        "ledger": str(folder / "ledger.jsonl"),
        "forget": {"rows": rows["forget"]},
        "keep": {"neighbors": rows["near"], "general": rows["other"]},
        "thresholds": [{"figure": "prefill/unattacked/recall", "at_most": 1}],
    }
    file = _config(folder / "request.yaml", request)
    return ["erase", str(file), "--output", str(folder / "request")]


def requested(folder: Path) -> dict[str, Any]:
    """Return the verdict, figures and weights of a request; refuse evidence that is not sound."""
    root = folder / "request"
    content = read_manifest(root / "manifest.json")
    (entry,) = read_ledger(folder / "ledger.jsonl")
    unsound = [each.part for each in verify(root) if not each.is_sound]
    if unsound or file_digest(root / "manifest.json") != entry.manifest:
        raise RuntimeError(f"the evidence is not sound: {unsound}")
    aside = [path.name for path in root.glob("*.[0-9]")]
    figures = {name: found["figures"] for name, found in content["figures"].items()}
    weights = {name: found["fingerprint"] for name, found in content["weights"].items()}
    names = (name for name in content["files"] if name.startswith(("rows/", "battery/")))
    rows = {name: digest(root / name) for name in names}
    known = {name: content[name] for name in ("verdict", "checks", "notes")}
    return {**known, "figures": figures, "weights": weights, "rows": rows, "moved": aside}


JOBS = {
    "training": Job("training", training, trained),
    "training with a report": Job("training with a report", reporting, trained),
    "evaluation": Job("evaluation", evaluating, evaluated),
    "rewriting": Job("rewriting", rewriting, rewritten),
    "request": Job("request", requesting, requested),
    "task vector": Job("task vector", subtracting, subtracted, "should be a new or empty folder"),
}


def _model(folder: Path, seed: int) -> Path:
    """Return the folder of a start model, which belongs to the user."""
    model = folder / "models" / str(seed)
    if not model.exists():
        source = ModelSource("random-tiny", seed=seed)
        with whole_folder(model) as part:
            save_folder(load_base(source), load_tokenizer(source), part)
    return model


def _rows(folder: Path, name: str) -> Path:
    file = folder / "rows" / f"{name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = ({"question": f"Who is {name} {n}?", "answer": f"A name, {n}."} for n in range(4))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def _config(file: Path, config: object) -> Path:
    file.write_text(yaml.safe_dump(config), "utf-8")
    return file
