"""Verbatim memorisation (MUSE): a model continues passages from their beginning."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from lit_unlearn.data.raw_rows import RawRow, bad_row
from lit_unlearn.data.sources import Source, read_rows
from lit_unlearn.evaluation.probes import Generation, Probe
from lit_unlearn.models.loading import ModelSource, load_tokenizer
from lit_unlearn.types import Example, Turn

__all__ = ["GROUP", "first_tokens", "probes"]

GROUP = "verbatim"


def probes(
    source: Source, data_root: Path | None, max_new_tokens: int, tokenizer: str | None
) -> list[Probe]:
    """Return one probe per passage: ``prompt`` is plain text to continue, ``gt`` the gold answer.

    `tokenizer` is the hub id or folder of the tokenizer that truncates ``gt`` to `max_new_tokens`;
    None keeps all of it.
    """
    cutter = None if tokenizer is None else load_tokenizer(ModelSource(tokenizer))
    found = []
    for row in read_rows(source, data_root):
        probe_id, gold = f"{GROUP}/{row.row_id}", _text(row, "gt")
        turns = (Turn("user", _text(row, "prompt")),)
        gold = gold if cutter is None else first_tokens(gold, cutter, max_new_tokens)
        example = Example(probe_id, turns, gold, "passage", plain=True)
        reply = Generation(max_new_tokens)
        found.append(Probe(probe_id, GROUP, example, turns, True, generation=reply))
    return found


def first_tokens(text: str, tokenizer: PreTrainedTokenizerBase, count: int) -> str:
    """Return the first `count` tokens of a text, decoded."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return str(tokenizer.decode(ids[:count], skip_special_tokens=True))


def _text(row: RawRow, column: str) -> str:
    """Return the text of a column with its white space, which matters in a text to continue."""
    value = row.values.get(column)
    if not isinstance(value, str) or not value.strip():
        reason = (
            "a passage should have the texts `prompt` and `gt` (its continuation). Found "
            f"{value!r:.60} as {column!r}; rename the column, or set "
            f"`columns: {{{column}: <its name here>}}`."
        )
        raise bad_row(row.location, reason)
    return value
