"""Questions of `lit-unlearn predict`: the rows of objectives, or those of a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_unlearn.data.fields import EXPECTED_KEYS
from lit_unlearn.data.readers import file_type
from lit_unlearn.data.sources import OnBadRow, Source, read_rows
from lit_unlearn.data.unify import load_examples
from lit_unlearn.errors import InputError, check_number, did_you_mean
from lit_unlearn.types import Example, Representation
from lit_unlearn.utils.paths import local_path

__all__ = ["Asked", "Batches", "Questions"]

Asked = tuple[str | None, Example]
"""Objective, None for a question of a file, and row."""


class Batches(list[list[int]]):
    """Batches of a loader; Lightning takes a plain list for one of several loaders."""


@dataclass(frozen=True)
class Questions:
    """Questions to a model, and the settings of its replies.

    Args:
        source: Objective whose rows are asked, or a file of questions; null takes the rows of all
            objectives.
        max_new_tokens: Largest number of tokens of a reply.
        batch_size: Replies of one process in a batch.
    """

    source: str | None = None
    max_new_tokens: int = 128
    batch_size: int = 16

    def __post_init__(self) -> None:
        check_number("max_new_tokens", self.max_new_tokens, 1)
        check_number("batch_size", self.batch_size, 1)

    def file(self, objectives: Mapping[str, object]) -> Path | None:
        """Return the file of the questions; None if they are rows of objectives.

        Raises:
            InputError: There is neither an objective nor a file of that name.
        """
        if self.source is None or self.source in objectives:
            return None
        path = local_path(self.source)
        if not path.is_file():
            hint = did_you_mean(self.source, objectives)
            raise InputError(
                "Parameter `questions` should be a file, or one of the objectives "
                f"{', '.join(objectives)}. Found {self.source!r}{'; ' * bool(hint)}{hint or '.'}"
            )
        return path

    def read(
        self,
        rows: Mapping[str, Sequence[Example]],
        representation: Representation = "unified",
        on_bad_row: OnBadRow = "error",
    ) -> list[Asked]:
        """Return the questions.

        Args:
            rows: Rows of each objective.
            representation: Form of the questions of a file, as in the data module.
            on_bad_row: Treatment of rows of a file that cannot be read, as in the data module.

        Raises:
            InputError: The file cannot be read, or has no questions.
        """
        path = self.file(rows)
        if path is None:
            names = rows if self.source is None else [self.source]
            return [(name, row) for name in names for row in rows[name]]
        asked = load_examples([_source(str(path), on_bad_row)], None, representation, on_bad_row)
        return [(None, row) for row in asked]


def _source(path: str, on_bad_row: OnBadRow) -> Source:
    """Return the source of a file of questions, with answers if its first row has one."""
    columns = {"question": "text"} if file_type(path) == ".txt" else {}
    first = read_rows(Source(path), on_bad_row=on_bad_row)[0].values
    if not any(key in first for key in EXPECTED_KEYS["question_answer"][-1]):
        columns["answer"] = ""
    return Source(path, domain="question_answer", columns=columns)
