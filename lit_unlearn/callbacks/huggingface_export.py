"""HuggingFaceExport: the trained model as a folder that `from_pretrained` loads."""

from collections.abc import Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from lit_unlearn import __version__
from lit_unlearn.callbacks.answer_evaluation import AnswerEvaluation
from lit_unlearn.callbacks.end_order import EXPORT, order_end
from lit_unlearn.distributed.ranks import on_first, rank
from lit_unlearn.errors import ResultError
from lit_unlearn.models.dtypes import SavedDType
from lit_unlearn.models.export import save_folder, whole_student
from lit_unlearn.models.reading_back import Comparison, compare_folder, reference_logits
from lit_unlearn.report.run_summary import COLUMNS, Change, cell, changes, note_export
from lit_unlearn.utils.ownership import check_targets, own_folder
from lit_unlearn.utils.progress import Stage, shown
from lit_unlearn.utils.tables import print_paths, terminal

__all__ = ["EXPORT_FOLDER", "HuggingFaceExport", "compared_rows", "model_card"]

EXPORT_FOLDER = "model"
UNVERIFIED = "model-unverified"
"""Folder of an export that is not the trained model."""
_ROWS = 4
"""Number of rows of the run on which the export is compared."""


class HuggingFaceExport(Callback):
    """Export of weights (safetensors), tokenizer and model card at the end of training.

    The folder is `model` in the run's folder. It is written after all other callbacks, whatever
    their order, so that averaged weights are exported. Adapters are merged into the model, so that
    it loads without peft; adapters on a tied embedding or head untie the two. A sharded model is
    gathered in the first process's memory. An earlier export is replaced completely or not at all.

    The folder is then read back, and its logits are compared with those of the trained model on
    rows of the run. The largest difference is written into `summary.json` and the model card. An
    export that differs is kept as `model-unverified`, and the run ends with an error.

    Args:
        dtype: dtype of the written weights; null for the student's.
    """

    end_order = EXPORT

    def __init__(self, dtype: SavedDType | None = None) -> None:
        self.dtype = dtype
        self.comparison: Comparison | None = None
        """Comparison of the written folder with the trained model, once it is written."""

    def writes(self, root: Path, steps: int | None) -> list[Path]:
        """Return the folders of exports; see `check_run_folder`."""
        return [] if steps is None else [root / EXPORT_FOLDER, root / UNVERIFIED]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check before training that the export replaces nothing of the user's."""
        order_end(trainer)
        root = Path(trainer.default_root_dir)
        if stage == "fit" and trainer.is_global_zero:
            check_targets(root, self.writes(root, trainer.max_steps), [], "default_root_dir")

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the folder, and compare it with the trained model.

        Raises:
            ResultError: The folder holds another model.
        """
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        rows = compared_rows(data.encoded)
        expected = reference_logits(pl_module.student, rows)
        student = [whole_student(pl_module.student, pl_module.source, self.dtype)]
        console = terminal(stderr=True, quiet=rank() > 0)
        with shown(Stage("export", None), console):
            on_first(lambda: self._write(trainer, pl_module, student, rows, expected))
        print_paths(console, {"model": Path(trainer.default_root_dir) / EXPORT_FOLDER})

    def _write(
        self,
        trainer: Trainer,
        module: Any,
        student: list[Any],
        rows: Sequence[Sequence[int]],
        expected: Sequence[Tensor],
    ) -> None:
        """Write the folder; the student leaves its list, and with it memory, when it is written."""
        root = Path(trainer.default_root_dir)
        with own_folder(root / EXPORT_FOLDER) as folder:
            save_folder(student.pop(), module.tokenizer, folder)
            try:
                written = None if self.dtype is None else getattr(torch, self.dtype)
                gathered = getattr(module.sharding, "gather_dtype", None)
                dtypes = [dtype for dtype in (written, gathered) if dtype is not None]
                trained, attention = module.student, module.source.attention
                found = compare_folder(folder, rows, expected, trained, attention, *dtypes)
                problem = "" if found.same else f"its logits differ: {found}"
            except Exception as error:  # reading fails with errors of every kind; the weights stay
                problem = f"it cannot be read: {str(error).strip() or type(error).__name__}"
            if problem:
                _keep_unverified(folder, root / UNVERIFIED, problem)
            folder.joinpath("README.md").write_text(model_card(trainer, module, found), "utf-8")
        self.comparison = found
        note_export(root / "summary.json", found)


def _keep_unverified(folder: Path, target: Path, problem: str) -> None:
    """Move the files of an export that is not the trained model, and raise the error."""
    with own_folder(target) as kept:
        for file in folder.iterdir():
            file.replace(kept / file.name)
    raise ResultError(
        f"The export should be the trained model, but {problem}. Its files are kept in {target}, "
        "an unfinished checkpoint stays, and an earlier export is unchanged."
    )


def compared_rows(encoded: Any) -> list[tuple[int, ...]]:
    """Return the student's token ids of a few rows, taken from each objective in turn."""
    rows = ((c[0].student_ids for c in candidates) for candidates in encoded.values())
    turns = zip_longest(*rows)
    return list(islice((ids for turn in turns for ids in turn if ids), _ROWS))


def model_card(trainer: Trainer, module: Any, comparison: Comparison) -> str:
    """Return the model card: start model, data of the objectives, comparison, and the figures."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    head = f"""---
base_model: {module.source.path}
library_name: transformers
tags: [unlearning]
---

# {module.source.path}, unlearned

Made with lit_unlearn {__version__} in {trainer.global_step} optimizer steps.
Read back and compared with the trained model: {comparison}.

Prompts: {data.template}.

## Data

| objective | sources | rows | expected | loss |
| --- | --- | ---: | --- | --- |"""
    lines = []
    for name, spec in data.objectives.items():
        sources = (" ".join(filter(None, (s.path, s.config, s.split))) for s in spec.sources)
        lines.append(
            f"| {name} | {', '.join(sources)} | {len(data.examples[name])} | {spec.expect} | "
            f"{type(module.objectives[name]).__name__} |"
        )
    file = Path(trainer.default_root_dir) / "config.yaml"  # a run from Python has none
    config = file.read_text("utf-8").rstrip() if file.exists() else ""
    ending = ["## Config", "", "```yaml", config, "```", ""] if config else []
    return "\n".join([head, *lines, "", *_figures(trainer), "", *ending])


def _figures(trainer: Trainer) -> list[str]:
    """Return the before/after table in Markdown, if an evaluation callback measured it."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, AnswerEvaluation) and callback.before and callback.after:
            both = changes(callback.before, callback.after)
            if both:
                return ["## Figures (before → after)", "", *_markdown(both)]
    return ["No figures were measured in this run."]


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
