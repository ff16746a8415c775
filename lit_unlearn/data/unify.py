"""Examples from raw rows: every domain in one representation, with unique and stable ids."""

from collections.abc import Callable, Sequence
from pathlib import Path

from lit_unlearn.data import conversations, converters
from lit_unlearn.data.benchmarks import find_benchmark, known_names
from lit_unlearn.data.raw_rows import BadRows, OnBadRow, RawRow, suggestion
from lit_unlearn.data.readers import file_type
from lit_unlearn.data.sources import Place, Source, resolve, rows_at
from lit_unlearn.errors import InputError
from lit_unlearn.types import Domain, Example, Representation

__all__ = ["domain_of", "load_examples", "short_names", "to_example"]

_CONVERTERS: dict[Domain, Callable[[RawRow, str, Representation], list[Example]]] = {
    "question_answer": converters.question_answer,
    "multiple_choice": converters.multiple_choice,
    "passage": converters.passage,
    "dialogue": conversations.dialogue,
    "instruction": converters.instruction,
    "preference": conversations.preference,
}


def to_example(
    row: RawRow, domain: Domain, representation: Representation, source_name: str
) -> list[Example]:
    """Return the examples of one raw row: one, or several for a passage in ``unified``.

    The domain selects the converter (see `converters`). ``unified`` gives chat questions and
    answers, ``raw`` plain text. ``source_name`` is the first part of the ids.

    Raises:
        InputError: A key is missing, a value has the wrong type, or a text is empty.
    """
    example_id = f"{source_name}/{row.row_id}"
    if conversations.has_exchange(row, domain):
        return conversations.preference(row, example_id, representation, domain)
    return _CONVERTERS[domain](row, example_id, representation)


def load_examples(
    sources: Sequence[Source],
    data_root: Path | None = None,
    representation: Representation = "unified",
    on_bad_row: OnBadRow = "error",
) -> list[Example]:
    """Return the examples of several sources, one source after the other.

    Args:
        sources: Sources of the rows.
        data_root: Folder that replaces the hub, see `sources.resolve`.
        representation: ``unified`` or ``raw``, see `to_example`.
        on_bad_row: ``error`` or ``skip``, see `sources.read_rows`.

    Raises:
        InputError: A source cannot be read, or has no domain or no usable row, or two sources
            give the same row.
    """
    examples: dict[str, Example] = {}
    for source, name in zip(sources, short_names(sources), strict=True):
        for example in _load(source, name, data_root, representation, on_bad_row):
            if example.example_id in examples:
                raise InputError(
                    f"Parameter `sources` should give each row once. Found row "
                    f"{example.example_id!r} twice, from {source.name!r}; change `offset`, "
                    "`limit` or `where` so that the sources do not overlap."
                )
            examples[example.example_id] = example
    return list(examples.values())


def _load(
    source: Source,
    name: str,
    data_root: Path | None,
    representation: Representation,
    on_bad_row: OnBadRow,
) -> list[Example]:
    place = resolve(source, data_root)
    domain = domain_of(source, place)
    bad = BadRows(on_bad_row, source.name)
    examples: list[Example] = []
    for row in rows_at(place, source, bad):
        try:
            examples += to_example(row, domain, representation, name)
        except InputError as error:
            bad.add(error)
    bad.report()
    if not examples:
        raise InputError(
            f"Source {source.name!r} should have usable rows. Found {bad.count} bad and no "
            f"usable rows; {bad.reasons[0]}"
        )
    return examples


def domain_of(source: Source, place: Place) -> Domain:
    """Return the domain of a source's rows."""
    if place.domain is None:
        known = known_names(source.path)
        if known and find_benchmark(source.path, source.config, source.split) is None:
            wanted = f"config={source.config} split={source.split}"
            raise InputError(
                f"Source {source.name!r} should be a known part of {source.path}, or have a "
                f"`domain`. Found {wanted}{suggestion(wanted, known)}; known: "
                f"{'; '.join(known)}."
            )
        raise InputError(
            f"Parameter `domain` of source {source.name!r} should be one of "
            f"{', '.join(_CONVERTERS)}. Found none, and the data set is not known by name; set it."
        )
    return place.domain


def short_names(sources: Sequence[Source]) -> list[str]:
    """Return first parts of ids, as ``TOFU/forget10``; other sources of that name get ``#2``, ...

    Sources that differ only in `limit`, `offset`, `every` and `where` share a name, so that a row
    that both contain is detected.
    """
    kinds: dict[str, list[object]] = {}
    names: list[str] = []
    for source in sources:
        kind = (source.path, source.config, source.split, source.domain, source.columns)
        same_name = kinds.setdefault(_short_name(source), [])
        if kind not in same_name:
            same_name.append(kind)
        number = same_name.index(kind) + 1
        names.append(_short_name(source) + (f"#{number}" if number > 1 else ""))
    return names


def _short_name(source: Source) -> str:
    last = source.path.removeprefix("builtin:").rstrip("/").rsplit("/", maxsplit=1)[-1]
    last = last.removesuffix(".gz").removesuffix(file_type(last) or "")
    parts = (last, source.config, "" if source.split == "train" else source.split)
    return "/".join(part for part in parts if part)
