"""HuggingFaceExport: the trained model as a folder that `from_pretrained` loads."""

import copy
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import nn

from lit_unlearn import __version__
from lit_unlearn.callbacks.answer_evaluation import AnswerEvaluation
from lit_unlearn.distributed.ranks import base_model, is_sharded, rank
from lit_unlearn.distributed.sharding import whole_state
from lit_unlearn.models.loading import ModelSource, empty_student
from lit_unlearn.report.run_summary import COLUMNS, Change, cell, changes
from lit_unlearn.utils.atomic import whole_folder

__all__ = ["EXPORT_FOLDER", "HuggingFaceExport", "model_card", "save_folder", "whole_student"]

EXPORT_FOLDER = "model"


class HuggingFaceExport(Callback):
    """Export of weights (safetensors), tokenizer and model card at the end of training.

    The folder is `model` in the run's folder. Adapters are merged into the model, so that it loads
    without peft. A sharded model is gathered in the first process's memory. An earlier export is
    replaced completely or not at all.

    Args:
        dtype: dtype of the written weights; null for the student's.
    """

    def __init__(self, dtype: str | None = None) -> None:
        self.dtype = dtype

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the folder."""
        student = whole_student(pl_module.student, pl_module.source)
        if not trainer.is_global_zero:
            return
        target = Path(trainer.default_root_dir) / EXPORT_FOLDER
        with whole_folder(target) as folder:
            save_folder(student, pl_module.tokenizer, folder, self.dtype)
            folder.joinpath("README.md").write_text(model_card(trainer, pl_module), "utf-8")


def whole_student(student: nn.Module, source: ModelSource) -> nn.Module | None:
    """Return a student as it is; if it is sharded, gather it in the first process's memory.

    All processes must call this. For a sharded student, the others get None.
    """
    if not is_sharded(student):
        return student
    state = whole_state(student)
    if rank() > 0:
        return None
    base: Any = base_model(student)
    made = empty_student(base.config, source)
    made.load_state_dict(state, assign=True)
    whole: Any = base_model(made)
    whole.tie_weights()
    whole.generation_config = base.generation_config
    return made


def save_folder(model: Any, tokenizer: Any, folder: Path, dtype: str | None = None) -> None:
    """Save weights, config and tokenizer; adapters are merged into a copy of the model."""
    if hasattr(model, "merge_and_unload"):
        model = copy.deepcopy(model).merge_and_unload()
    if dtype is not None:
        model = copy.deepcopy(model).to(getattr(torch, dtype))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def model_card(trainer: Trainer, module: Any) -> str:
    """Return the model card: the start model, the data of the objectives, and the figures."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    lines = [
        "---",
        f"base_model: {module.source.path}",
        "library_name: transformers",
        "tags: [unlearning]",
        "---",
        "",
        f"# {module.source.path}, unlearned",
        "",
        f"Made with lit_unlearn {__version__} in {trainer.global_step} optimizer steps.",
        "",
        f"Prompts: {data.template}.",
        "",
        "## Data",
        "",
        "| objective | sources | rows | expected | loss |",
        "| --- | --- | ---: | --- | --- |",
    ]
    for name, spec in data.objectives.items():
        sources = ", ".join(
            " ".join(filter(None, (s.path, s.config, s.split))) for s in spec.sources
        )
        lines.append(
            f"| {name} | {sources} | {len(data.examples[name])} | {spec.expect} | "
            f"{type(module.objectives[name]).__name__} |"
        )
    return "\n".join([*lines, "", *_figures(trainer), "", *_config(trainer)])


def _figures(trainer: Trainer) -> list[str]:
    """Return the before/after table in Markdown, if an evaluation callback measured it."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, AnswerEvaluation) and callback.before and callback.after:
            both = changes(callback.before, callback.after)
            if both:
                return ["## Figures (before → after)", "", *_markdown(both)]
    return ["No figures were measured in this run."]


def _config(trainer: Trainer) -> list[str]:
    """Return the config of a run from the command line; nothing for a run from Python."""
    file = Path(trainer.default_root_dir) / "config.yaml"
    if not file.exists():
        return []
    return ["## Config", "", "```yaml", file.read_text("utf-8").rstrip(), "```", ""]


def _markdown(both: list[Change]) -> list[str]:
    headings = [heading for *_, heading in COLUMNS.values()]
    lines = [
        "| objective | rows | " + " | ".join(headings) + " |",
        "| --- | ---: |" + " ---: |" * len(headings),
    ]
    for change in both:
        cells = " | ".join(cell(change, score) for score in COLUMNS)
        lines.append(f"| {change.label} | {change.rows} | {cells} |")
    return lines
