"""PredictionFile: questions of `lit-unlearn predict`, and the file of the replies."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from lit_unlearn.data.questions import Questions
from lit_unlearn.utils.ownership import check_targets, write_text
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.plain_json import json_text
from lit_unlearn.utils.progress import Stage, shown
from lit_unlearn.utils.tables import terminal

__all__ = ["PredictionFile"]


class PredictionFile(Callback):
    """Asks questions in `lit-unlearn predict`, and writes the replies to a file.

    The file has one JSON object per line, with the keys `objective` (null for a question of a
    file), `example_id`, `question`, `gold` (empty for none) and `generated`. It is written when all
    questions are answered.

    Args:
        questions: Questions: the name of an objective for its rows, or a file (.jsonl, .json, .csv,
            .tsv or .parquet with a column `question`, .txt with a question per line). Null takes
            the rows of all objectives.
        output: File of the replies; null takes predictions.jsonl in the run's folder.
        max_new_tokens: Largest number of tokens of a reply.
        batch_size: Replies of one process in a batch.
    """

    def __init__(
        self,
        questions: str | None = None,
        output: str | None = None,
        max_new_tokens: int = 128,
        batch_size: int = 16,
    ) -> None:
        self.questions = Questions(questions, max_new_tokens, batch_size)
        self.output = output
        self._rows: list[dict[str, Any]] = []
        self._open = ExitStack()
        self._stage = Stage("predict", None)

    def file(self, root: Path) -> Path:
        """Return the file of the replies of a run in a folder."""
        return local_path(self.output) if self.output else root / "predictions.jsonl"

    def check(self, trainer: Trainer, data: Any) -> None:
        """Check the questions and the file before anything is loaded."""
        asked = self.questions.file(data.objectives)
        file = self.file(Path(trainer.default_root_dir))
        if trainer.is_global_zero:
            read = [] if asked is None else [asked]
            check_targets(file.parent, [file], read, "--replies.output")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the questions to the data module."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if stage == "predict":
            self.check(trainer, data)
            data.questions = self.questions

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._rows, self._stage = [], Stage("predict", len(data.asked), "questions")
        self._open.enter_context(shown(self._stage))

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        self._rows += outputs
        self._stage.add(len(outputs))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file."""
        self._open.close()
        if trainer.is_global_zero:
            file = self.file(Path(trainer.default_root_dir))
            write_text(file, "".join(json_text(row) + "\n" for row in self._rows))
            terminal().print(f"Replies: {file}", soft_wrap=True)

    def on_exception(self, *_: Any) -> None:
        self._open.close()
